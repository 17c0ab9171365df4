//! Conversations become the text that a chat model was trained on.
//!
//! Before: the messages of a prompt, and the Jinja template of a checkpoint. After: [`super::tokenizer`] encodes the
//! text. The environment is set up as in transformers (`apply_chat_template`), so that the bytes are the same.

mod dialect;
mod json;

use super::error::{ModelError, Result};
use super::tokenizer::TokenizerConfig;
use data::guard;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, escape_formatter};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;

/// One turn of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ChatMessage<'a> {
    /// `system`, `user` or `assistant`.
    pub role: &'a str,
    /// What was said.
    pub content: &'a str,
}

/// A checkpoint's chat template, parsed.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// The file that holds the template.
    place: String,
    /// `bos_token`, `eos_token`, … as the template may write them; those that the tokenizer has.
    special_tokens: BTreeMap<&'static str, String>,
}

const NAME: &str = "chat_template";
const SPECIAL_TOKENS: [&str; 4] = ["bos_token", "eos_token", "pad_token", "unk_token"];

/// What a rendering may cost, in instructions or in 64 bytes of data: a second of time and 256 MiB, far more than any
/// conversation needs.
const FUEL: u64 = 4 << 20;
/// Longest text that a rendering may give, in bytes.
const MAX_TEXT: usize = 16 << 20;

impl ChatTemplate {
    /// The template of a checkpoint, if it has one: the text of `chat_template.jinja`, which wins; or `chat_template` in
    /// `tokenizer_config.json`; or that in `chat_template.json`, where processors of transformers keep it. In JSON it is
    /// a text, or several by name (a list or an object) of which `default` is taken.
    ///
    /// # Errors
    /// If a file is not JSON, its `chat_template` is of another kind, or the template does not parse.
    pub fn from_files(
        jinja: Option<&str>,
        tokenizer_config: Option<&[u8]>,
        json: Option<&[u8]>,
    ) -> Result<Option<Self>> {
        const CONFIG: &str = "tokenizer_config.json";
        const JSON: &str = "chat_template.json";
        let read = |file, bytes: Option<&[u8]>| match bytes {
            Some(bytes) => TokenizerConfig::parse(file, bytes),
            None => Ok(TokenizerConfig::default()),
        };
        let (config, own) = (read(CONFIG, tokenizer_config)?, read(JSON, json)?);
        let (place, source) = match (jinja, config.chat_template(), own.chat_template()) {
            (Some(text), _, _) => ("chat_template.jinja", text),
            (None, Some(value), _) => (CONFIG, default_template(CONFIG, value)?),
            (None, None, Some(value)) => (JSON, default_template(JSON, value)?),
            (None, None, None) => return Ok(None),
        };
        let mut special_tokens = BTreeMap::new();
        for field in SPECIAL_TOKENS {
            if let Some(token) = config.token(field)? {
                special_tokens.insert(field, token.to_string());
            }
        }
        Self::parse(place, source, special_tokens).map(Some)
    }

    fn parse(place: &str, source: &str, special_tokens: BTreeMap<&'static str, String>) -> Result<Self> {
        let mut environment = Environment::new();
        let refused = |error| ModelError::Template { place: place.to_string(), source: Box::new(error) };
        let syntax =
            SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(refused)?;
        environment.set_syntax(syntax);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_formatter(format_as_python);
        environment.set_fuel(Some(FUEL));
        environment.add_filter("tojson", json::to_json);
        environment.add_filter(dialect::PERCENT, percent);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        let source = dialect::translate(source);
        guard(|| environment.add_template_owned(NAME, source)).unwrap_or_else(gave_up).map_err(refused)?;
        Ok(Self { environment, place: place.to_string(), special_tokens })
    }

    /// The text of a conversation. Messages are anything that serialises to an object, such as [`ChatMessage`].
    ///
    /// With `add_generation_prompt` the assistant's turn is opened at the end. `enable_thinking` reaches the template
    /// only if given; templates that do not know it ignore it.
    ///
    /// # Errors
    /// If the template raises one, uses what is not there (tools, documents and the date are not given), or does not end
    /// within bounds of work and of text.
    pub fn render<M: Serialize>(
        &self,
        messages: &[M],
        add_generation_prompt: bool,
        enable_thinking: Option<bool>,
    ) -> Result<String> {
        let mut variables: BTreeMap<&str, Value> =
            self.special_tokens.iter().map(|(name, token)| (*name, Value::from(token.as_str()))).collect();
        variables.insert("messages", Value::from(Serde(messages)));
        variables.insert("tools", Value::from(()));
        variables.insert("documents", Value::from(()));
        variables.insert("add_generation_prompt", Value::from(add_generation_prompt));
        if let Some(enabled) = enable_thinking {
            variables.insert("enable_thinking", Value::from(enabled));
        }
        let mut out = Bounded(Vec::new());
        let render =
            || self.environment.get_template(NAME)?.render_captured_to(variables, &mut out).map(drop);
        guard(render).unwrap_or_else(gave_up).map_err(|error| self.failed(error))?;
        Ok(String::from_utf8(out.0).expect("templates write UTF-8"))
    }

    fn failed(&self, error: Error) -> ModelError {
        let error = match error.kind() {
            ErrorKind::OutOfFuel => Error::new(
                ErrorKind::OutOfFuel,
                "it does more work, or makes more text, than any conversation needs; does it loop?",
            ),
            // what the writer refused stands behind
            ErrorKind::WriteFailure => match std::error::Error::source(&error) {
                Some(source) => Error::new(ErrorKind::WriteFailure, source.to_string()),
                None => error,
            },
            _ => error,
        };
        ModelError::Template { place: self.place.clone(), source: Box::new(error) }
    }
}

/// A panic of the template engine, as its error.
fn gave_up(panic: String) -> Result<(), Error> {
    Err(Error::new(ErrorKind::InvalidOperation, format!("the template engine gave up: {panic}")))
}

fn default_template<'a>(place: &str, value: &'a serde_json::Value) -> Result<&'a str> {
    let wrong = |reason: String| ModelError::TemplateKind { place: place.to_string(), reason };
    match value {
        serde_json::Value::String(text) => Ok(text),
        serde_json::Value::Array(list) => {
            let name = |entry: &'a serde_json::Value| entry.get("name")?.as_str();
            let default = list.iter().find(|entry| name(entry) == Some("default"));
            default.and_then(|entry| entry.get("template")?.as_str()).ok_or_else(|| {
                let names: Vec<&str> = list.iter().filter_map(name).collect();
                wrong(format!("is a list without a template named `default`; it has {names:?}"))
            })
        }
        serde_json::Value::Object(named) => match named.get("default") {
            Some(serde_json::Value::String(text)) => Ok(text),
            _ => {
                let names: Vec<&String> = named.keys().collect();
                Err(wrong(format!("is an object without a template named `default`; it has {names:?}")))
            }
        },
        _ => Err(wrong("must be a template or a list of named templates".to_string())),
    }
}

/// Python prints `True`, `False` and `None`.
fn format_as_python(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Bool => out.write_str(if value.is_true() { "True" } else { "False" }).map_err(Error::from),
        ValueKind::None => out.write_str("None").map_err(Error::from),
        _ => escape_formatter(out, state, value),
    }
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

fn strftime_now(format: String) -> Result<Value, Error> {
    let message = format!(
        "the template asks for today's date (strftime_now({format:?})), which is not given: the same prompt would \
         change from day to day and the run could not be repeated"
    );
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// `format % operand` of Python: a tuple has the values, anything else is the one value.
fn percent(state: &mut State<'_, '_>, format: &Value, operand: &Value) -> Result<Value, Error> {
    let python = |value: Value| if value.is_none() { Value::from("None") } else { value };
    let mut arguments = vec![format.clone()];
    match operand.is_tuple() {
        true => arguments.extend(operand.try_iter()?.map(python)),
        false => arguments.push(python(operand.clone())),
    }
    state.apply_filter("format", &arguments)
}

/// A text that may not grow beyond [`MAX_TEXT`].
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_TEXT {
            return Err(io::Error::other(format!("it writes more than {} MiB", MAX_TEXT >> 20)));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
