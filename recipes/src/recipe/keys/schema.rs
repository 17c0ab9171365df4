//! The JSON Schema of a recipe, and what a node of it says.

use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use crate::recipe::root::Recipe;

/// The JSON Schema (draft 2020-12) of a recipe.
pub(crate) fn schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let mut schema = schemars::schema_for!(Recipe).to_value();
        tidy(&mut schema);
        schema["title"] = json!("Evenkeel recipe");
        schema
    })
}

/// TOML has no null, and the default of an f32 is meant as it is written and not with the digits of an f64.
pub(super) fn tidy(value: &mut Value) {
    if let Value::Number(number) = value
        && number.is_f64()
        && let Some(wide) = number.as_f64()
        && f64::from(wide as f32) == wide
        && let Ok(short) = (wide as f32).to_string().parse::<f64>()
    {
        *value = json!(short);
    }
    if let Value::Array(all) = value {
        all.iter_mut().for_each(tidy);
    }
    let Value::Object(map) = value else { return };
    map.values_mut().for_each(tidy);
    if map.get("default") == Some(&Value::Null) {
        map.remove("default");
    }
    if let Some(Value::Array(types)) = map.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [one] = types.as_slice() {
            map["type"] = one.clone();
        }
    }
    if let Some(Value::Array(any)) = map.get_mut("anyOf") {
        any.retain(|choice| choice["type"] != "null");
        if let [Value::Object(one)] = any.as_slice() {
            let one = one.clone();
            map.remove("anyOf");
            for (key, value) in one {
                map.entry(key).or_insert(value);
            }
        }
    }
}

/// The entries of an object; none of anything else.
pub(super) fn map(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// The texts of an array; none of anything else.
pub(super) fn list(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
}

/// A schema with its reference followed; what stands beside the reference wins, but for the description.
pub(super) fn resolve(node: &Value) -> Value {
    let Some(name) = node["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/")) else {
        return node.clone();
    };
    let mut target = resolve(&schema_defs()[name]);
    if let (Some(target), Some(own)) = (target.as_object_mut(), node.as_object()) {
        let beside =
            own.iter().filter(|(key, _)| !["$ref", "description", "default"].contains(&key.as_str()));
        target.extend(beside.map(|(key, value)| (key.clone(), value.clone())).collect::<Map<_, _>>());
    }
    target
}

fn schema_defs() -> &'static Value {
    &schema()["$defs"]
}

/// The type in words: "a whole number of at least 1".
pub(super) fn kind_of(node: &Value) -> String {
    let node = resolve(node);
    if node["oneOf"].is_array() || node["enum"].is_array() {
        return "one of the choices".into();
    }
    if let Some(any) = node["anyOf"].as_array() {
        return any.iter().map(kind_of).collect::<Vec<_>>().join(" or ");
    }
    let number = |word: &str| {
        let bound = |key: &str| node[key].as_f64();
        match (bound("minimum"), bound("maximum")) {
            (Some(low), Some(high)) if high < 1e15 => format!("{word} from {low} to {high}"),
            (Some(low), _) => format!("{word} of at least {low}"),
            (None, Some(high)) => format!("{word} of at most {high}"),
            (None, None) => word.to_owned(),
        }
    };
    match node["type"].as_str() {
        Some("integer") => number("a whole number"),
        Some("number") => number("a number"),
        Some("boolean") => "true or false".into(),
        Some("string") => "a text in quotes".into(),
        Some("array") => {
            let items: Vec<String> =
                node["prefixItems"].as_array().into_iter().flatten().map(kind_of).collect();
            match (node["minItems"].as_u64(), node["maxItems"].as_u64()) {
                _ if !items.is_empty() => format!("a list of {}", items.join(" and ")),
                (Some(low), Some(high)) if low == high => {
                    format!("a list of {low}, each {}", kind_of(&node["items"]))
                }
                _ => format!("a list, each {}", kind_of(&node["items"])),
            }
        }
        Some("object") if node["additionalProperties"].is_object() => "tables with names of your own".into(),
        Some("object") => "a table".into(),
        _ => "any value".into(),
    }
}
