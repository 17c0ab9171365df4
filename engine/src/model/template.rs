//! Conversations become the text that a chat model was trained on.
//!
//! Before: the messages of a prompt, and the Jinja template of a checkpoint. After: [`super::tokenizer`] encodes the
//! text. The environment is set up as in transformers (`apply_chat_template`), so that the bytes are the same.

use super::error::{ModelError, Result};
use super::tokenizer::TokenizerConfig;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, escape_formatter};
use serde::Serialize;
use std::collections::BTreeMap;

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

impl ChatTemplate {
    /// The template of a checkpoint, if it has one: the text of `chat_template.jinja`, which wins, or `chat_template`
    /// in `tokenizer_config.json`, a string or a list of named templates of which `default` is taken.
    ///
    /// # Errors
    /// If tokenizer_config.json is not JSON, its `chat_template` is of another kind, or the template does not parse.
    pub fn from_files(jinja: Option<&str>, tokenizer_config: Option<&[u8]>) -> Result<Option<Self>> {
        const CONFIG: &str = "tokenizer_config.json";
        let config = match tokenizer_config {
            Some(bytes) => TokenizerConfig::parse(CONFIG, bytes)?,
            None => TokenizerConfig::default(),
        };
        let (place, source) = match (jinja, config.chat_template()) {
            (Some(text), _) => ("chat_template.jinja", text),
            (None, Some(value)) => (CONFIG, default_template(CONFIG, value)?),
            (None, None) => return Ok(None),
        };
        let special_tokens = SPECIAL_TOKENS
            .iter()
            .filter_map(|field| Some((*field, config.token(field)?.to_string())))
            .collect();
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
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_template_owned(NAME, source.to_string()).map_err(refused)?;
        Ok(Self { environment, place: place.to_string(), special_tokens })
    }

    /// The text of a conversation. Messages are anything that serialises to an object, such as [`ChatMessage`].
    ///
    /// With `add_generation_prompt` the assistant's turn is opened at the end. `enable_thinking` reaches the template
    /// only if given; templates that do not know it ignore it.
    ///
    /// # Errors
    /// If the template raises one, or uses what is not there (tools, documents and the date are not given).
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
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(variables))
            .map_err(|error| ModelError::Template { place: self.place.clone(), source: Box::new(error) })
    }
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

/// `json.dumps(value, ensure_ascii=False)`: Python's spacing, nothing escaped for HTML.
fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let failed = |error: serde_json::Error| Error::new(ErrorKind::BadSerialization, error.to_string());
    // Consumed so that templates which state transformers' own default still render.
    if options.get::<Option<bool>>("ensure_ascii")? == Some(true) {
        return Err(Error::new(ErrorKind::InvalidOperation, "tojson(ensure_ascii=true) is not supported"));
    }
    options.assert_all_used()?;
    let mut bytes = Vec::new();
    match indent {
        None => {
            let mut out = serde_json::Serializer::with_formatter(&mut bytes, PythonSpacing);
            value.serialize(&mut out).map_err(failed)?;
        }
        Some(width) => {
            let indent = vec![b' '; width];
            let formatter = serde_json::ser::PrettyFormatter::with_indent(&indent);
            let mut out = serde_json::Serializer::with_formatter(&mut bytes, formatter);
            value.serialize(&mut out).map_err(failed)?;
        }
    }
    let text = String::from_utf8(bytes).expect("serde_json writes UTF-8");
    Ok(Value::from_safe_string(text))
}

/// `", "` between items and `": "` after keys, on one line.
struct PythonSpacing;

impl serde_json::ser::Formatter for PythonSpacing {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W) -> std::io::Result<()> {
        out.write_all(b": ")
    }
}
