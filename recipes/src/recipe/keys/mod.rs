//! The keys of a recipe: what each is, its type, default, choices and source.
//!
//! Before: the types that read a recipe, which derive a JSON Schema from their fields, doc comments and serde attributes. After:
//! `evenkeel explain` and `evenkeel schema` print it, and what is wrong in a recipe is said in its terms. Nothing of it is
//! written down twice, so nothing of it can grow stale.

mod schema;
mod words;

use serde_json::{Value, json};

pub(crate) use self::schema::schema;
use self::schema::{kind_of, list, map, resolve};
pub(crate) use self::words::written;
use self::words::{body, first_sentences, section};

/// One key of a recipe, or the recipe itself.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    /// Names from the root on.
    pub(crate) path: Vec<String>,
    /// Its description.
    pub(crate) about: String,
    /// The description of its type, if that has docs of its own.
    type_about: String,
    /// Its value where it is left out, if that is one.
    pub(crate) default: Option<Value>,
    /// True if it has to be given where its table is.
    pub(crate) required: bool,
    /// Its schema, references followed.
    node: Value,
}

/// Why there is no such key.
#[derive(Debug)]
pub(crate) struct NoKey {
    /// The key up to where it went wrong.
    pub(crate) table: Key,
    /// The name that is not there.
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

    /// The schema of each of its keys, if they have names of the user's own, as in `[rewards.python.NAME]`.
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

    /// True if it is one of several things that have names.
    pub(crate) fn is_choice(&self) -> bool {
        self.node["oneOf"].is_array() || self.node["enum"].is_array()
    }

    /// True if it is a table with keys.
    pub(crate) fn is_table(&self) -> bool {
        self.node["type"] == "object"
    }

    /// The values that it may have, each with its meaning, if it is a choice.
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

    /// A value that it might have, in TOML.
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

    /// Its schema, with its own description and default; what it refers to is among the `$defs` of [`schema()`].
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

    /// The values that it may have: its choices, or its type in words.
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

    /// Its description without the sections of its docs; then that of its type, if that says more.
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
    /// Its meaning, in short.
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

/// A sentence about keys of this name in other tables, if there are a few.
pub(crate) fn elsewhere(name: &str) -> String {
    let found = named(name);
    match found.len() {
        1..=4 => format!(
            "\nthere is {}",
            found.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
        ),
        _ => String::new(),
    }
}

/// Full names of the keys that are called so.
pub(crate) fn named(name: &str) -> Vec<String> {
    fn walk(key: &Key, name: &str, found: &mut Vec<String>) {
        for child in key.children() {
            if child.path.last().is_some_and(|last| last == name) {
                found.push(child.name());
            }
            walk(&child, name, found);
        }
    }
    let mut found = Vec::new();
    walk(&Key::root(), name, &mut found);
    found
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
    use super::schema::tidy;
    use super::*;
    use crate::recipe::root::Recipe;

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
