//! Conversations become the text that a chat model was trained on.
//!
//! Before: messages, and the Jinja template of a checkpoint. After: [`super::text`] encodes the text. The environment is
//! that of transformers, but for what a judge has no use for: there are no tools and no `tojson`, and no date, since
//! the same question would change from day to day.

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, escape_formatter};
use serde_json::Map;

use super::folder::Folder;
use data::{Message, guard};

const NAME: &str = "chat_template";
/// What a rendering may cost, in instructions or in 64 bytes of data; far more than a question to a judge needs.
const FUEL: u64 = 1 << 20;
const SPECIAL: [&str; 4] = ["bos_token", "eos_token", "pad_token", "unk_token"];

/// A checkpoint's chat template, parsed.
pub(super) struct Chat {
    environment: Environment<'static>,
    /// `bos_token` and the like, as the template may write them.
    special: BTreeMap<&'static str, String>,
}

/// A special token of tokenizer_config.json: a string, or an object with `content`.
pub(super) fn special<'a>(config: &'a Map<String, serde_json::Value>, field: &str) -> Option<&'a str> {
    let value = config.get(field)?;
    value.as_str().or_else(|| value.get("content")?.as_str())
}

impl Chat {
    /// `chat_template.jinja`, which wins, or `chat_template` of tokenizer_config.json: a string, or a list of which the
    /// one named `default` is taken.
    pub(super) fn open(folder: &Folder) -> Result<Option<Self>, String> {
        let config = folder.json("tokenizer_config.json")?.unwrap_or_default();
        let source = match (folder.text("chat_template.jinja")?, config.get(NAME)) {
            (Some(text), _) => text,
            (None, None | Some(serde_json::Value::Null)) => return Ok(None),
            (None, Some(serde_json::Value::String(text))) => text.clone(),
            (None, Some(list)) => {
                let named =
                    |entry: &&serde_json::Value| entry.get("name").is_some_and(|name| name == "default");
                let default = list.as_array().and_then(|list| list.iter().find(named));
                let text = default.and_then(|entry| entry.get("template")?.as_str());
                let place = folder.place("tokenizer_config.json");
                text.ok_or_else(|| {
                    format!("chat_template in {place} is no text, and has none named `default`")
                })?
                .to_owned()
            }
        };
        let special =
            SPECIAL.iter().filter_map(|field| Some((*field, special(&config, field)?.to_owned()))).collect();
        let environment =
            environment(source).map_err(|error| format!("the chat template is broken: {error:#}"))?;
        Ok(Some(Self { environment, special }))
    }

    /// The text of a conversation; with `open` the assistant's turn is opened at its end. `thinking` reaches the template
    /// as `enable_thinking`, if it is given.
    pub(super) fn render(
        &self,
        messages: &[Message],
        open: bool,
        thinking: Option<bool>,
    ) -> Result<String, String> {
        let mut variables: BTreeMap<&str, Value> =
            self.special.iter().map(|(name, token)| (*name, Value::from(token.as_str()))).collect();
        variables.insert("messages", Value::from(Serde(messages)));
        variables.insert("tools", Value::from(()));
        variables.insert("documents", Value::from(()));
        variables.insert("add_generation_prompt", Value::from(open));
        if let Some(thinking) = thinking {
            variables.insert("enable_thinking", Value::from(thinking));
        }
        guard(|| self.environment.get_template(NAME)?.render(variables))
            .map_err(|panic| format!("the chat template broke its engine: {panic}"))?
            .map_err(|error| format!("the chat template refuses: {error:#}"))
    }
}

fn environment(source: String) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_formatter(as_python);
    environment.set_fuel(Some(FUEL));
    environment.remove_filter("tojson");
    environment.add_function("raise_exception", |message: String| {
        Err::<Value, Error>(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_template_owned(NAME, source)?;
    Ok(environment)
}

/// Python prints `True`, `False` and `None`.
fn as_python(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Bool => out.write_str(if value.is_true() { "True" } else { "False" }).map_err(Error::from),
        ValueKind::None => out.write_str("None").map_err(Error::from),
        _ => escape_formatter(out, state, value),
    }
}
