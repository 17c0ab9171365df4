//! The fields of a `config.json`, one by one: typed, named when they are missing or wrong, and refused where ignoring
//! them would make another model of the same weights.
//!
//! Before: JSON as other programs wrote it. After: [`ModelConfig`](super::ModelConfig) holds the values.

use super::{Family, ModelError, Result, invalid};
use crate::model::foreign;
use serde_json::{Map, Value};

pub(super) fn parse(file: &str, text: &str) -> Result<Map<String, Value>> {
    foreign::json(file, text.as_bytes())
}

pub(super) fn family(json: &Map<String, Value>) -> Result<Family> {
    let family = match json.get("model_type") {
        Some(Value::String(name)) if name == "qwen2" => Family::Qwen2,
        Some(Value::String(name)) if name == "qwen3" => Family::Qwen3,
        Some(found) => {
            return Err(ModelError::UnsupportedModel { field: "model_type", found: found.to_string() });
        }
        None => {
            return Err(ModelError::MissingField { field: "model_type", family: "Hugging Face".to_string() });
        }
    };
    match json.get("architectures") {
        None | Some(Value::Null) => Ok(family),
        Some(Value::Array(names)) if names.len() == 1 && names[0] == family.architecture() => Ok(family),
        Some(found) => Err(ModelError::UnsupportedModel {
            field: "architectures",
            found: format!("{found} with model_type {:?}", family.model_type()),
        }),
    }
}

/// Refuses what would make another model of the same weights, if it were ignored.
pub(super) fn refuse_unsupported(json: &Map<String, Value>) -> Result<()> {
    let unsupported = |field: &str, value: &Value, reason: &str| {
        Err(ModelError::UnsupportedField {
            field: field.to_string(),
            value: value.to_string(),
            reason: reason.to_string(),
        })
    };
    let window =
        "attention beyond the window would differ from the model's own; only full attention is there";
    if let Some((field, value)) = sliding(json) {
        return unsupported(field, &value, window);
    }
    match json.get("hidden_act") {
        None | Some(Value::Null) => {}
        Some(value) if value == "silu" => {}
        Some(value) => return unsupported("hidden_act", value, "only silu is there"),
    }
    if let Some(value) = json.get("quantization_config").filter(|value| !value.is_null()) {
        return unsupported("quantization_config", value, "only weights in bf16, f16 or f32 can be trained");
    }
    let scaled = "positions would be rotated differently; only unscaled RoPE (`default`) is there";
    for place in ["rope_scaling", "rope_parameters"] {
        let rope = match json.get(place) {
            None | Some(Value::Null) => continue,
            Some(Value::Object(rope)) => rope,
            Some(value) => return unsupported(place, value, scaled),
        };
        for key in ["rope_type", "type"] {
            match rope.get(key) {
                None | Some(Value::Null) => {}
                Some(value) if value == "default" => {}
                Some(value) => return unsupported(&format!("{place}.{key}"), value, scaled),
            }
        }
        if let Some(value) = rope.get("factor").filter(|factor| factor.as_f64() != Some(1.0)) {
            return unsupported(&format!("{place}.factor"), value, scaled);
        }
    }
    let partial = [
        json.get("partial_rotary_factor"),
        json.get("rope_parameters").and_then(|r| r.get("partial_rotary_factor")),
    ];
    for value in partial.into_iter().flatten().filter(|value| !value.is_null()) {
        if value.as_f64() != Some(1.0) {
            return unsupported("partial_rotary_factor", value, "only whole heads are rotated here");
        }
    }
    Ok(())
}

/// The field that makes a layer attend to a window only, if one does within the model's context.
///
/// As in transformers: `layer_types` decides where it is there; else the layers from `max_window_layers` on slide if
/// `use_sliding_window` is true and `sliding_window` is not null, with 28 and 4096 where these are left out.
fn sliding(json: &Map<String, Value>) -> Option<(&'static str, Value)> {
    if let Some(Value::Array(layers)) = json.get("layer_types") {
        let other = layers.iter().find(|kind| *kind != "full_attention");
        return other.map(|kind| ("layer_types", kind.clone()));
    }
    let used = match json.get("use_sliding_window") {
        None | Some(Value::Null | Value::Bool(false)) => return None,
        Some(value) => value,
    };
    let number = |field: &str, absent: f64| match json.get(field) {
        None => absent,
        Some(Value::Null) => f64::INFINITY,
        Some(value) => value.as_f64().unwrap_or(0.0),
    };
    let first = number("max_window_layers", 28.0);
    let window = number("sliding_window", 4096.0);
    let layers = number("num_hidden_layers", f64::INFINITY);
    // a window as wide as the context hides nothing
    let slides = first < layers && window < number("max_position_embeddings", DEFAULT_POSITIONS as f64);
    (*used != Value::Bool(true) || slides).then(|| ("use_sliding_window", used.clone()))
}

/// The number of positions that transformers takes where a config.json names none.
pub(super) const DEFAULT_POSITIONS: usize = 32768;
/// The base of the rotary frequencies likewise.
const DEFAULT_THETA: f64 = 10000.0;
/// The width of a head of Qwen3 likewise.
pub(super) const DEFAULT_HEAD: usize = 128;

/// Reads typed fields of a config.json and names the one that is missing or wrong.
pub(super) struct Fields<'a> {
    pub(super) json: &'a Map<String, Value>,
    pub(super) family: Family,
}

impl Fields<'_> {
    fn get(&self, field: &'static str) -> Result<&Value> {
        match self.json.get(field) {
            None | Some(Value::Null) => {
                Err(ModelError::MissingField { field, family: self.family.model_type().to_string() })
            }
            Some(value) => Ok(value),
        }
    }

    /// A count from 1 to `most`; some programs write it with a decimal point.
    pub(super) fn size(&self, field: &'static str, most: usize) -> Result<usize> {
        let value = self.get(field)?;
        whole(value)
            .and_then(|size| usize::try_from(size).ok())
            .filter(|size| (1..=most).contains(size))
            .ok_or_else(|| invalid(field, value, format!("it must be a whole number from 1 to {most}")))
    }

    /// The same, with what transformers takes where the field is left out.
    pub(super) fn size_or(&self, field: &'static str, most: usize, absent: usize) -> Result<usize> {
        match self.json.get(field) {
            None => Ok(absent),
            Some(_) => self.size(field, most),
        }
    }

    pub(super) fn number(&self, field: &'static str) -> Result<f64> {
        let value = self.get(field)?;
        value.as_f64().ok_or_else(|| invalid(field, value, "it must be a number"))
    }

    pub(super) fn flag(&self, field: &'static str) -> Result<bool> {
        match self.json.get(field) {
            None | Some(Value::Null) => Ok(false),
            Some(value) => value.as_bool().ok_or_else(|| invalid(field, value, "it must be true or false")),
        }
    }

    /// `rope_theta` at the top or inside `rope_parameters`; where both are there, they must agree, and where neither is,
    /// it is what transformers takes.
    pub(super) fn rope_theta(&self) -> Result<f64> {
        let inner = self.json.get("rope_parameters").and_then(|rope| rope.get("rope_theta"));
        let Some(inner) = inner.filter(|value| !value.is_null()) else {
            return match self.json.get("rope_theta") {
                None | Some(Value::Null) => Ok(DEFAULT_THETA),
                Some(_) => self.number("rope_theta"),
            };
        };
        let theta = inner
            .as_f64()
            .ok_or_else(|| invalid("rope_parameters.rope_theta", inner, "it must be a number"))?;
        match self.json.get("rope_theta").filter(|value| !value.is_null()) {
            Some(outer) if outer.as_f64() != Some(theta) => {
                Err(invalid("rope_theta", outer, format!("`rope_parameters.rope_theta` says {theta}")))
            }
            _ => Ok(theta),
        }
    }
}

/// A number without a fraction.
fn whole(value: &Value) -> Option<u64> {
    let exact = |number: &f64| number.fract() == 0.0 && (0.0..9e15).contains(number);
    value.as_u64().or_else(|| value.as_f64().filter(exact).map(|number| number as u64))
}

/// Token ids under `field`: none, one or a list. Some programs write -1 for none.
pub(super) fn token_ids(file: &str, json: &Map<String, Value>, field: &str) -> Result<Vec<u32>> {
    let found = json.get(field).unwrap_or(&Value::Null);
    let all = match found {
        Value::Null => &[][..],
        Value::Array(list) => list.as_slice(),
        value => std::slice::from_ref(value),
    };
    let named = all.iter().filter(|value| value.as_f64() != Some(-1.0));
    let ids: Option<Vec<u32>> = named.map(|value| u32::try_from(whole(value)?).ok()).collect();
    ids.ok_or_else(|| {
        invalid(&format!("{field} of {file}"), found, "it must be a token id or a list of them")
    })
}
