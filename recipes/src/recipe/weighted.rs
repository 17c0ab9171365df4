//! A reward's own settings, and how it takes part in the sum, in one table.
//!
//! Before and after: see [`super`]. serde can flatten one struct into another, but then neither refuses unknown keys; here the
//! keys of the sum are taken out as they come by, and all others go to the reward's own struct, which is strict.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use rewards::{OnNone, PartSettings};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::StringDeserializer;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// `[rewards.NAME]`: settings and part in the sum.
#[derive(Debug, Clone, PartialEq)]
pub struct Weighted<T> {
    /// Factor in the sum; 0 only shows it, a negative one makes it a penalty. By default 1.
    pub weight: f32,
    /// What it means that the function has nothing to say: `drop` leaves the rollout out, `skip` sums the others, `zero`
    /// counts it as 0. By default what suits the function.
    pub none: Option<OnNone>,
    /// If the function says less than this, the whole reward is `gated` of `[rewards]`.
    pub gate: Option<f32>,
    /// The reward's own settings.
    pub reward: T,
}

impl<T> Weighted<T> {
    /// A reward with a weight, and nothing else said.
    pub(crate) fn of(reward: T, weight: f32) -> Self {
        Self { weight, none: None, gate: None, reward }
    }

    /// Its part in the sum, where `usual` is what its silence means by default.
    pub(crate) fn part(&self, usual: OnNone) -> PartSettings {
        PartSettings { weight: self.weight, none: self.none.unwrap_or(usual), gate: self.gate }
    }
}

/// The keys of the sum.
const COMMON: [&str; 3] = ["weight", "none", "gate"];

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Weighted<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Table<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Table<T> {
            type Value = Weighted<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of settings; rewards that may be several have a name, as in [rewards.python.NAME]")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Weighted<T>, A::Error> {
                let mut rest = Rest { map, weight: 1.0, none: None, gate: None };
                let own = serde::de::value::MapAccessDeserializer::new(&mut rest);
                let reward = T::deserialize(own)?;
                Ok(Weighted { weight: rest.weight, none: rest.none, gate: rest.gate, reward })
            }
        }
        deserializer.deserialize_map(Table(PhantomData))
    }
}

/// How a reward takes part in the sum.
#[derive(serde::Serialize, JsonSchema)]
struct Common {
    /// Factor in the sum; 0 only shows it, a negative one makes it a penalty.
    #[serde(default = "one")]
    weight: f32,
    /// What it means that the function has nothing to say: `drop` leaves the rollout out, `skip` sums the others, `zero`
    /// counts it as 0. By default what suits the function.
    #[serde(default)]
    none: Option<OnNone>,
    /// If the function says less than this, the whole reward is `gated` of `[rewards]`.
    #[serde(default)]
    gate: Option<f32>,
}

fn one() -> f32 {
    1.0
}

impl<T: JsonSchema> JsonSchema for Weighted<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("Weighted{}", T::schema_name()).into()
    }

    fn schema_id() -> Cow<'static, str> {
        format!("Weighted<{}>", T::schema_id()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let common = Common::json_schema(generator);
        let mut all = T::json_schema(generator);
        if let Some(common) = common.get("properties").and_then(|keys| keys.as_object()) {
            let own = all.ensure_object().entry("properties").or_insert_with(|| serde_json::json!({}));
            if let Some(own) = own.as_object_mut() {
                own.extend(common.clone());
            }
        }
        all
    }
}

/// The keys that are not the sum's; those are kept as they come by.
struct Rest<A> {
    map: A,
    weight: f32,
    none: Option<OnNone>,
    gate: Option<f32>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for &mut Rest<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.map.next_key::<String>()? {
            match key.as_str() {
                "weight" => self.weight = self.map.next_value()?,
                "none" => self.none = Some(self.map.next_value()?),
                "gate" => self.gate = Some(self.map.next_value()?),
                _ => {
                    let known: StringDeserializer<A::Error> = key.clone().into_deserializer();
                    return seed.deserialize(known).map(Some).map_err(|error| also(&error.to_string()));
                }
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// An unknown key might have been one of the sum's.
fn also<E: Error>(message: &str) -> E {
    let message = message.trim_end();
    let common = COMMON.map(|key| format!("`{key}`")).join(", ");
    let message = match message.split_once(", expected one of ") {
        Some((what, keys)) => format!("{what}, expected one of {keys}, {common}"),
        None => match message.split_once(", expected ") {
            Some((what, keys)) => format!("{what}, expected one of {}, {common}", keys.replace(" or ", ", ")),
            None => message.replace(", there are no fields", &format!(", expected one of {common}")),
        },
    };
    E::custom(message)
}

impl<T: Serialize> Serialize for Weighted<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let own = serde_json::to_value(&self.reward).map_err(serde::ser::Error::custom)?;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("weight", &self.weight)?;
        if let Some(none) = self.none {
            map.serialize_entry("none", &none)?;
        }
        if let Some(gate) = self.gate {
            map.serialize_entry("gate", &gate)?;
        }
        // plain values first, as TOML wants them; and TOML has no null
        let own = own.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        let (plain, tables): (Vec<_>, Vec<_>) = own.partition(|(_, value)| !value.is_object());
        for (key, value) in plain.into_iter().chain(tables) {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}
