//! The keys of a recipe: what each is, its type, default, choices and source.
//!
//! Before: the types that read a recipe, which derive a JSON Schema from their fields, doc comments and serde attributes. After:
//! `evenkeel explain` and `evenkeel schema` print it, and what is wrong in a recipe is said in its terms. Nothing of it is
//! written down twice, so nothing of it can grow stale.

use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use crate::recipe::Recipe;

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
fn tidy(value: &mut Value) {
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

/// One key of a recipe, or the recipe itself.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    /// Names from the root on.
    pub(crate) path: Vec<String>,
    /// What it is.
    pub(crate) about: String,
    /// What its type is, if that has docs of its own.
    type_about: String,
    /// Its value where it is left out, if that is one.
    pub(crate) default: Option<Value>,
    /// Whether it has to be given where its table is.
    pub(crate) required: bool,
    /// Its schema, references followed.
    node: Value,
}

/// Why there is no such key.
#[derive(Debug)]
pub(crate) struct NoKey {
    /// The key up to where it went wrong.
    pub(crate) table: Key,
    /// What is not there.
    pub(crate) name: String,
}

impl Key {
    /// The recipe itself.
    pub(crate) fn root() -> Self {
        Self::of(Vec::new(), schema(), true)
    }

    /// The key of this name, such as `rl.baseline.optimal.weights`.
    pub(crate) fn find<'a>(path: impl IntoIterator<Item = &'a str>) -> Result<Self, Box<NoKey>> {
        path.into_iter().try_fold(Self::root(), |table, name| {
            table.child(name).ok_or_else(|| Box::new(NoKey { table, name: name.to_owned() }))
        })
    }

    fn of(path: Vec<String>, node: &Value, required: bool) -> Self {
        let text = |node: &Value| node["description"].as_str().unwrap_or_default().to_owned();
        let (own, resolved) = (text(node), resolve(node));
        let type_about = resolved.get("description").map(|_| text(&resolved)).unwrap_or_default();
        let type_about = if node.get("$ref").is_some() { type_about } else { String::new() };
        let default = node.get("default").or_else(|| resolved.get("default")).cloned();
        let about = if own.is_empty() { type_about.clone() } else { own };
        Self { path, about, type_about, default, required, node: resolved }
    }

    /// Its full name.
    pub(crate) fn name(&self) -> String {
        self.path.join(".")
    }

    /// Keys within it: those of a table, and choices that are tables or take a value.
    pub(crate) fn children(&self) -> Vec<Self> {
        let mut all = Vec::new();
        for table in self.tables() {
            let required = |name: &str| {
                !self.is_choice() && list(&table["required"]).iter().any(|required| required == name)
            };
            for (name, node) in map(&table["properties"]) {
                let path = [self.path.as_slice(), std::slice::from_ref(name)].concat();
                let mut key = Self::of(path, node, required(name));
                if let (true, Some(about)) = (self.is_choice(), table["description"].as_str()) {
                    key.about = about.to_owned();
                }
                all.push(key);
            }
        }
        all
    }

    fn child(&self, name: &str) -> Option<Self> {
        self.children().into_iter().find(|key| key.path.last().is_some_and(|last| last == name)).or_else(
            || {
                let free = self.free()?;
                let path = [self.path.as_slice(), &[name.to_owned()]].concat();
                Some(Self::of(path, free, false))
            },
        )
    }

    /// What each of its keys holds, if they have names of the user's own, as in `[rewards.python.NAME]`.
    pub(crate) fn free(&self) -> Option<&Value> {
        Some(&self.node["additionalProperties"]).filter(|free| free.is_object())
    }

    /// The tables that it may be: itself, or one for each choice.
    fn tables(&self) -> Vec<&Value> {
        match self.alternatives() {
            Some(all) => all.iter().collect(),
            None => vec![&self.node],
        }
    }

    fn alternatives(&self) -> Option<&Vec<Value>> {
        self.node["oneOf"].as_array().or_else(|| self.node["anyOf"].as_array())
    }

    /// Whether it is one of several things that have names.
    pub(crate) fn is_choice(&self) -> bool {
        self.node["oneOf"].is_array() || self.node["enum"].is_array()
    }

    /// Whether it is a table with keys.
    pub(crate) fn is_table(&self) -> bool {
        self.node["type"] == "object"
    }

    /// What may be written for it, and what that means, if it is a choice.
    pub(crate) fn choices(&self) -> Vec<Choice> {
        let plain = |node: &Value| {
            let mut names: Vec<String> = list(&node["enum"]);
            names.extend(node["const"].as_str().map(str::to_owned));
            names
        };
        let about = |node: &Value| first_sentences(node["description"].as_str().unwrap_or_default());
        let mut all: Vec<Choice> = Vec::new();
        let named =
            |name: String, node: &Value| Choice { written: format!("{name:?}"), about: about(node), name };
        all.extend(plain(&self.node).into_iter().map(|name| named(name, &Value::Null)));
        for node in self.node["oneOf"].as_array().into_iter().flatten() {
            all.extend(plain(node).into_iter().map(|name| named(name, node)));
            for (name, value) in map(&node["properties"]) {
                let key = Self::of([self.path.as_slice(), std::slice::from_ref(name)].concat(), value, true);
                let about = match about(node) {
                    about if about.is_empty() => first_sentences(&key.about),
                    about => about,
                };
                let written = format!("{{ {name} = {} }}", key.example());
                all.push(Choice { name: name.clone(), written, about });
            }
        }
        all
    }

    /// What it might be set to, in TOML.
    fn example(&self) -> String {
        if self.is_table() {
            let required: Vec<String> = self
                .children()
                .iter()
                .filter(|key| key.required)
                .map(|key| format!("{} = {}", key.path.last().map_or("", |name| name), key.example()))
                .collect();
            let more = !self.children().is_empty();
            return match (required.is_empty(), more) {
                (true, true) => "{ … }".into(),
                (true, false) => "{}".into(),
                (false, _) => format!("{{ {} }}", required.join(", ")),
            };
        }
        match (self.node["type"].as_str(), self.choices().first()) {
            (_, Some(choice)) => choice.written.clone(),
            (Some("string"), _) => "\"…\"".into(),
            (Some("boolean"), _) => "true".into(),
            (Some("array"), _) => "[…]".into(),
            _ => "NUMBER".into(),
        }
    }

    /// Its schema, with its own description and default; what it refers to is among the `$defs` of [`schema`].
    pub(crate) fn schema(&self) -> Value {
        let mut node = self.node.clone();
        if let Some(node) = node.as_object_mut() {
            node.insert("description".into(), json!(self.about));
            node.extend(self.default.clone().map(|default| ("default".to_owned(), default)));
        }
        node
    }

    /// Its type in words: "a whole number of at least 1".
    pub(crate) fn kind(&self) -> String {
        kind_of(&self.node)
    }

    /// What may be written for it: its choices, or its type in words.
    pub(crate) fn wanted(&self) -> String {
        wanted(self)
    }

    /// The same where a reader wanted `words`: a list may be right and what is in it wrong.
    pub(crate) fn wanted_in_place_of(&self, words: &str) -> String {
        if self.node["type"] == "array" && words != "a list" {
            return match words {
                "a list of another length" => self.kind(),
                _ => format!("{words} in the list"),
            };
        }
        match self.node["type"].as_str() {
            None if self.alternatives().is_none() && !self.is_choice() => words.to_owned(),
            _ => self.wanted(),
        }
    }

    /// The paper or page that it comes from, if it says so.
    pub(crate) fn source(&self) -> Option<String> {
        [&self.about, &self.type_about].into_iter().find_map(|text| section(text, "Source"))
    }

    /// What it is, without the sections of its docs; then what its type is, if that says more.
    pub(crate) fn text(&self) -> String {
        let (own, of_type) = (body(&self.about), body(&self.type_about));
        let more = !of_type.is_empty() && of_type != own && (self.is_table() || self.is_choice());
        if more && !own.is_empty() { format!("{own}\n\n{of_type}") } else { own }
    }

    /// The first sentence of it.
    pub(crate) fn short(&self) -> String {
        first_sentences(&self.about)
    }
}

/// One of the things that a key may be.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    pub(crate) name: String,
    /// As it is written in TOML.
    pub(crate) written: String,
    /// What it means, in short.
    pub(crate) about: String,
}

fn wanted(key: &Key) -> String {
    let either = |all: Vec<String>| match all.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => all.concat(),
    };
    let choices: Vec<String> = key.choices().into_iter().map(|choice| choice.written).collect();
    if !choices.is_empty() {
        return either(choices);
    }
    match key.node["anyOf"].as_array() {
        Some(any) => {
            let all = any.iter().map(|node| match &resolve(node) {
                node if node["type"] == "array" && any.len() > 1 => "a list of them".into(),
                node => wanted(&Key::of(key.path.clone(), node, false)),
            });
            either(all.collect())
        }
        None => key.kind(),
    }
}

fn map(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn list(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
}

/// A schema with its reference followed; what stands beside the reference wins, but for the description.
fn resolve(node: &Value) -> Value {
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

fn kind_of(node: &Value) -> String {
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

/// Docs before their first section.
fn body(text: &str) -> String {
    let end = text.find("\n# ").unwrap_or(text.len());
    flowing(text[..end].trim())
}

/// A section of docs by its heading.
fn section(text: &str, heading: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("# {heading}\n"))?;
    let end = rest.find("\n# ").unwrap_or(rest.len());
    Some(flowing(rest[..end].trim()))
}

/// Lines of a paragraph in one, links by their words alone.
fn flowing(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    paragraphs.collect::<Vec<_>>().join("\n\n").replace("[`", "`").replace("`]", "`")
}

/// The first sentence, or the first two if the first says next to nothing.
fn first_sentences(text: &str) -> String {
    let text = body(text).replace("\n\n", " ");
    let ends = text.match_indices(". ").map(|(at, _)| at).filter(|at| {
        // not behind an abbreviation or within code
        text[..*at].matches('`').count().is_multiple_of(2) && !text[..*at].ends_with("e.g")
    });
    match ends.clone().find(|at| *at > 12) {
        Some(end) => text[..end].to_owned(),
        None => text.trim_end_matches('.').to_owned(),
    }
}

/// A value as TOML writes it on one line.
pub(crate) fn written(value: &Value) -> String {
    match value {
        Value::Object(map) if map.is_empty() => "{}".into(),
        Value::Object(map) => {
            let all: Vec<String> = map
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| format!("{key} = {}", written(value)))
                .collect();
            format!("{{ {} }}", all.join(", "))
        }
        Value::Array(all) => format!("[{}]", all.iter().map(written).collect::<Vec<_>>().join(", ")),
        // a basic string of TOML has JSON's escapes
        Value::String(_) => value.to_string(),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(x) if x != 0.0 && (x.abs() < 1e-3 || x.abs() >= 1e7) => format!("{x:e}"),
            Some(x) => format!("{x:?}"),
            None => number.to_string(),
        },
        other => other.to_string(),
    }
}

/// Every key that a recipe may have, one below another; tables with free names by the name `NAME`.
#[cfg(test)]
pub(crate) fn all() -> Vec<Key> {
    fn walk(key: &Key, all: &mut Vec<Key>) {
        let mut children = key.children();
        if let Some(free) = key.free() {
            let path = [key.path.as_slice(), &["NAME".to_owned()]].concat();
            children.push(Key::of(path, free, false));
        }
        for child in children {
            walk(&child, all);
            all.push(child);
        }
    }
    let mut keys = Vec::new();
    walk(&Key::root(), &mut keys);
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Why a value does not fit a schema, if it does not: what of JSON Schema the types make use of.
    fn misfit(node: &Value, value: &Value) -> Option<String> {
        let node = &resolve(node);
        let of = |list: &Value| list.as_array().cloned().unwrap_or_default();
        if node["oneOf"].is_array() {
            let fitting = of(&node["oneOf"]).iter().filter(|node| misfit(node, value).is_none()).count();
            return (fitting != 1).then(|| format!("{value} fits {fitting} of {}", node["oneOf"]));
        }
        if node["anyOf"].is_array() {
            let fits = of(&node["anyOf"]).iter().any(|node| misfit(node, value).is_none());
            return (!fits).then(|| format!("{value} fits none of {}", node["anyOf"]));
        }
        let listed = of(&node["enum"]).contains(value) || node["const"] == *value;
        if (node["enum"].is_array() || node.get("const").is_some()) && !listed {
            return Some(format!("{value} is not in {node}"));
        }
        let right = match node["type"].as_str() {
            Some("integer") => value.is_i64() || value.is_u64(),
            Some("number") => value.is_number(),
            Some("boolean") => value.is_boolean(),
            Some("string") => value.is_string(),
            Some("array") => value.is_array(),
            Some("object") => value.is_object(),
            _ => true,
        };
        let low = node["minimum"].as_f64().zip(value.as_f64()).is_some_and(|(low, x)| x < low);
        if !right || low {
            return Some(format!("{value} is not {node}"));
        }
        if let Some(all) = value.as_array()
            && node["items"].is_object()
        {
            return all.iter().find_map(|one| misfit(&node["items"], one));
        }
        let map = value.as_object()?;
        for name in list(&node["required"]) {
            if !map.contains_key(&name) {
                return Some(format!("{name} is missing in {value}"));
            }
        }
        map.iter().find_map(|(name, value)| {
            let inner = match (&node["properties"][name], &node["additionalProperties"]) {
                (known, _) if known.is_object() => misfit(known, value),
                (_, free) if free.is_object() => misfit(free, value),
                (_, Value::Bool(false)) => Some("it is not known".into()),
                _ => None,
            };
            inner.map(|why| format!("{name}: {why}"))
        })
    }

    #[test]
    fn every_built_in_recipe_fits_the_schema_as_it_stands_and_as_resolved() {
        for (name, text) in crate::builtin::recipes() {
            let table: toml::Table = text.parse().expect("TOML");
            let value = serde_json::to_value(table).expect("JSON");
            assert_eq!(misfit(schema(), &value), None, "{name}");
            let recipe = Recipe::load(name, &[]).expect(name);
            let table: toml::Table = toml::to_string(&recipe).expect("writes").parse().expect("TOML");
            let value = serde_json::to_value(table).expect("JSON");
            assert_eq!(misfit(schema(), &value), None, "{name}, resolved");
        }
    }

    #[test]
    fn what_the_schema_refuses_the_reader_refuses_too() {
        let base = "policy = { checkpoint = \"tiny\" }\ndata = { arithmetic = {} }\n";
        for (wrong, right) in [
            ("seed = \"x\"", "seed = 1"),
            ("sed = 1", "name = \"a\""),
            ("rollout = { max_rows = 0 }", "rollout = { max_rows = 1 }"),
            ("rollout = { backend = \"vllm\" }", "rollout = { backend = { vllm = { url = \"http://a\" } } }"),
            ("save = { dtype = \"f64\" }", "save = { dtype = \"f16\" }"),
            ("rewards = { math = { weihgt = 1.0 } }", "rewards = { math = { weight = 1.0 } }"),
            (
                "rewards = { python = { a = { fil = \"a.py\" } } }",
                "rewards = { python = { a = { file = \"a.py\" } } }",
            ),
        ] {
            for (more, fits) in [(wrong, false), (right, true)] {
                let text = format!("{base}{more}\n");
                let table: toml::Table = text.parse().expect("TOML");
                let value = serde_json::to_value(table).expect("JSON");
                assert_eq!(
                    misfit(schema(), &value).is_none(),
                    fits,
                    "{more}: {:?}",
                    misfit(schema(), &value)
                );
                assert_eq!(
                    Recipe::parse("test", &text).is_ok(),
                    fits,
                    "{more}: {:?}",
                    Recipe::parse("test", &text)
                );
            }
        }
    }

    #[test]
    fn every_key_and_every_choice_says_what_it_is() {
        let keys = all();
        assert!(keys.len() > 200, "{} keys", keys.len());
        let silent: Vec<String> = keys.iter().filter(|key| key.text().is_empty()).map(Key::name).collect();
        assert!(silent.is_empty(), "no description: {silent:?}");
        let unsaid: Vec<String> = keys
            .iter()
            .flat_map(|key| key.choices().into_iter().map(|choice| (key.name(), choice)))
            .filter(|(_, choice)| choice.about.is_empty())
            .map(|(name, choice)| format!("{name} = {}", choice.written))
            .collect();
        assert!(unsaid.is_empty(), "no description: {unsaid:?}");
    }

    #[test]
    fn a_default_is_what_a_recipe_has_without_the_key() {
        let text = "policy = { checkpoint = \"tiny\" }\ndata = { arithmetic = {} }\n[rewards.math]\n[sft]\nsteps = 1\nbatch_size = 1\nschedule = {}\n\
                    [rl]\nsteps = 1\nprompts_per_step = 1\ngroup_size = 2\ntruncated = \"keep\"\n[save]\n[rollout]\n";
        let recipe = Recipe::parse("test", text).expect("a recipe");
        let table: toml::Table = toml::to_string(&recipe).expect("writes").parse().expect("TOML");
        let value = serde_json::to_value(table).expect("JSON");
        let mut seen = 0;
        for key in all() {
            let found = key.path.iter().try_fold(&value, |value, name| value.get(name));
            // a choice that was not made has no keys there
            let (Some(found), Some(default)) = (found, &key.default) else { continue };
            let mut found = found.clone();
            tidy(&mut found);
            // what is left out when it is written is not there to be compared
            if let (Some(found), Some(default)) = (found.as_object_mut(), default.as_object()) {
                found.retain(|name, _| default.contains_key(name));
            }
            if !key.is_table() {
                assert_eq!(written(&found), written(default), "{}", key.name());
                seen += 1;
            }
        }
        assert!(seen > 60, "{seen} defaults were compared");
    }

    #[test]
    fn a_key_is_found_through_choices_and_names_of_ones_own() {
        let find = |name: &str| Key::find(name.split('.'));
        let weights = find("rl.baseline.optimal.weights").expect("a key");
        assert!(weights.is_choice() && weights.choices().iter().any(|choice| choice.written == "\"full\""));
        let file = find("rewards.python.mine.file").expect("a key");
        assert_eq!((file.kind().as_str(), file.required), ("a text in quotes", false));
        assert_eq!(find("rewards.math.weight").expect("a key").default, Some(json!(1.0)));
        assert_eq!(find("rl.steps").expect("a key").kind(), "a whole number of at least 1");
        assert_eq!(find("rl.objective.grpo.clip_low").expect("a key").default, Some(json!(0.2)));
        assert!(find("rl.truncated").expect("a key").required);
        let wrong = find("rl.baseline.optimal.wieghts").expect_err("not there");
        assert_eq!((wrong.table.name().as_str(), wrong.name.as_str()), ("rl.baseline.optimal", "wieghts"));
    }
}
