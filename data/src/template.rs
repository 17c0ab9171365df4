//! How a row's columns become the text that the policy reads.
//!
//! Before: [`crate::Dataset`] has read or drawn a row. After: its [`Body`] is part of a [`crate::Prompt`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Body, DataError, Message, jinja::Jinja, latex::misread_latex};

const QUESTION: &str = "{question}";

/// How a row's columns become the text that the policy reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct PromptTemplate {
    /// A system message in front, taken as it stands; needs `chat`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The text, with `{column}` wherever a column of the row goes. `{question}`, `{answer}` and `{id}` are the mapped
    /// columns, whatever the file calls them. `{{` and `}}` are literal braces. Where a row holds a conversation,
    /// `{question}` is its last turn of the user, and the text takes the place of that turn.
    pub template: String,
    /// The text as a template in Jinja instead, where `{{ column }}` and `{% if … %}` see the row's columns, and entries of
    /// objects as `extra_info.level`. A column that is not there is an error unless the template asks whether it is defined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jinja: Option<String>,
    /// Whether the text is the user's turn of a conversation, rendered by the checkpoint's chat template, or plain
    /// text that the policy continues. A row that holds a conversation is one in either case.
    pub chat: bool,
}

impl Default for PromptTemplate {
    fn default() -> Self {
        Self { system: None, template: QUESTION.into(), jinja: None, chat: false }
    }
}

impl PromptTemplate {
    /// The prompt of a question that comes from no dataset, such as a worked example.
    ///
    /// # Errors
    /// If the template is malformed, or names a column other than `question`.
    pub fn of_question(&self, question: &str) -> Result<Body, DataError> {
        let template = Template::new(self)?;
        let text = template.fill(|column| match column {
            "question" => Ok(question.to_owned()),
            column => Err(DataError::NotAQuestion { column: column.to_owned() }),
        })?;
        Ok(template.body(text))
    }
}

/// A [`PromptTemplate`] taken apart once, to be filled for every row.
pub(crate) struct Template<'a> {
    settings: &'a PromptTemplate,
    pieces: Vec<Piece<'a>>,
    jinja: Option<Jinja>,
}

#[derive(Debug, PartialEq)]
enum Piece<'a> {
    Text(&'a str),
    Column(&'a str),
}

impl<'a> Template<'a> {
    pub(crate) fn new(settings: &'a PromptTemplate) -> Result<Self, DataError> {
        if settings.system.is_some() && !settings.chat {
            return Err(DataError::SystemWithoutChat);
        }
        if settings.jinja.is_some() && settings.template != QUESTION {
            return Err(DataError::Jinja { problem: "stands beside `template`: wanted one of them".into() });
        }
        for (name, text) in [
            ("template", Some(&settings.template)),
            ("jinja", settings.jinja.as_ref()),
            ("system", settings.system.as_ref()),
        ] {
            if let Some(problem) = text.and_then(|text| misread_latex(text)) {
                return Err(DataError::MisreadTemplate { name, problem });
            }
        }
        let jinja = settings.jinja.as_deref().map(Jinja::new).transpose()?;
        Ok(Self { settings, pieces: parse(&settings.template)?, jinja })
    }

    /// The template in Jinja, if it is one.
    pub(crate) fn jinja(&self) -> Option<&Jinja> {
        self.jinja.as_ref()
    }

    /// The text with each column's from `column`, whose error is passed on.
    pub(crate) fn fill<E: From<DataError>>(
        &self,
        column: impl Fn(&str) -> Result<String, E>,
    ) -> Result<String, E> {
        if let Some(jinja) = &self.jinja {
            let values = jinja.variables().map(|name| Ok((name, column(name)?.into())));
            let values = values.collect::<Result<BTreeMap<_, _>, E>>()?;
            let failed = |problem| DataError::JinjaRow { place: "a row".into(), problem };
            return Ok(jinja.fill(&values).map_err(failed)?);
        }
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(literal) => text.push_str(literal),
                Piece::Column(name) => text.push_str(&column(name)?),
            }
        }
        Ok(text)
    }

    /// What the policy reads, of a filled template.
    pub(crate) fn body(&self, text: String) -> Body {
        if !self.settings.chat {
            return Body::Text(text);
        }
        let system = self.settings.system.iter().map(Message::system);
        Body::Chat(system.chain([Message::user(text)]).collect())
    }

    /// The same of a row's own conversation, whose last turn of the user the text replaces; or what is in the way.
    pub(crate) fn conversation(
        &self,
        mut messages: Vec<Message>,
        text: String,
    ) -> Result<Body, &'static str> {
        let own =
            messages.first().is_some_and(|message| matches!(message.role.as_str(), "system" | "developer"));
        if own && self.settings.system.is_some() {
            return Err("has a system message, and the recipe's `system` is another: keep one of them");
        }
        if let Some(last) = messages.iter_mut().rfind(|message| message.role == "user") {
            last.content = text;
        }
        Ok(Body::Chat(self.settings.system.iter().map(Message::system).chain(messages).collect()))
    }
}

fn parse(template: &str) -> Result<Vec<Piece<'_>>, DataError> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some(start) = rest.find(['{', '}']) {
        let (text, braced) = rest.split_at(start);
        let error = |problem| {
            let before = &template[..template.len() - braced.len()];
            DataError::Template { template: template.into(), at: before.chars().count() + 1, problem }
        };
        pieces.push(Piece::Text(text));
        if braced.starts_with("{{") || braced.starts_with("}}") {
            pieces.push(Piece::Text(&braced[..1]));
            rest = &braced[2..];
            continue;
        }
        if braced.starts_with('}') {
            return Err(error("a `}` that closes nothing (a brace that stays is written `}}`)"));
        }
        match braced[1..].split_once(['{', '}']) {
            Some(("", _)) if braced.starts_with("{}") => {
                return Err(error("a `{}` that names no column (braces that stay are written `{{}}`)"));
            }
            Some((name, after)) if braced[1 + name.len()..].starts_with('}') => {
                pieces.push(Piece::Column(name));
                rest = after;
            }
            _ => return Err(error("a `{` that is never closed (a brace that stays is written `{{`)")),
        }
    }
    pieces.push(Piece::Text(rest));
    pieces.retain(|piece| *piece != Piece::Text(""));
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(template: &str) -> String {
        let settings = PromptTemplate { template: template.into(), ..PromptTemplate::default() };
        Template::new(&settings)
            .and_then(|template| template.fill(|column| Ok::<_, DataError>(format!("<{column}>"))))
            .unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn columns_are_filled_and_doubled_braces_stay() {
        assert_eq!(text("{question}"), "<question>");
        assert_eq!(text("Q: {a} {b b}{a}."), "Q: <a> <b b><a>.");
        assert_eq!(text(r"{q} Answer in \boxed{{}}."), r"<q> Answer in \boxed{}.");
        assert_eq!(text("{{{a}}}"), "{<a>}");
        assert_eq!(text("no column"), "no column");
        assert_eq!(text(""), "");
    }

    #[test]
    fn what_a_column_holds_is_not_read_as_a_template() {
        let template = PromptTemplate::default();
        let text = Template::new(&template).unwrap().fill(|_| Ok::<_, DataError>("{x}}".into())).unwrap();
        assert_eq!(text, "{x}}");
    }

    #[test]
    fn unbalanced_braces_are_named_by_their_place() {
        let unclosed = "a `{` that is never closed (a brace that stays is written `{{`)";
        assert_eq!(text("é{a"), format!("the template `é{{a` has {unclosed}, at character 2"));
        assert_eq!(text("{a{b}"), format!("the template `{{a{{b}}` has {unclosed}, at character 1"));
        assert_eq!(text("{"), format!("the template `{{` has {unclosed}, at character 1"));
        assert_eq!(
            text("ab}"),
            "the template `ab}` has a `}` that closes nothing (a brace that stays is written `}}`), at character 3"
        );
        assert_eq!(
            text(r"\boxed{}"),
            r"the template `\boxed{}` has a `{}` that names no column (braces that stay are written `{{}}`), at character 7"
        );
    }

    #[test]
    fn a_chat_has_the_system_message_first_and_the_text_as_the_users() {
        let settings = PromptTemplate { system: Some("{s}".into()), chat: true, ..PromptTemplate::default() };
        let body = Template::new(&settings).unwrap().body("hi".into());
        assert_eq!(body, Body::Chat(vec![Message::system("{s}"), Message::user("hi")]));

        let settings = PromptTemplate { system: None, ..settings };
        let body = Template::new(&settings).unwrap().body("hi".into());
        assert_eq!(body, Body::Chat(vec![Message::user("hi")]));
    }

    #[test]
    fn a_rows_own_conversation_keeps_its_turns_and_takes_one_system_message() {
        let turns = |system: &[&str], user: &str| {
            let system = system.iter().map(|text| Message::system(*text));
            let first = [Message::user("a"), Message { role: "assistant".into(), content: "b".into() }];
            system.chain(first).chain([Message::user(user)]).collect::<Vec<_>>()
        };
        let plain = PromptTemplate::default();
        let plain = Template::new(&plain).unwrap();
        let given = turns(&["own"], "c");
        assert_eq!(plain.conversation(given, "C!".into()), Ok(Body::Chat(turns(&["own"], "C!"))));
        let chat = PromptTemplate { system: Some("s".into()), chat: true, ..PromptTemplate::default() };
        let chat = Template::new(&chat).unwrap();
        assert_eq!(chat.conversation(turns(&[], "c"), "c".into()), Ok(Body::Chat(turns(&["s"], "c"))));
        let two = chat.conversation(turns(&["own"], "c"), "c".into()).unwrap_err();
        assert_eq!(two, "has a system message, and the recipe's `system` is another: keep one of them");
    }

    #[test]
    fn a_command_that_lost_its_backslash_in_the_recipe_is_refused() {
        for (template, system) in [("{question} \u{8}oxed{{}}", None), ("{question}", Some("Use \u{c}rac."))]
        {
            let settings = PromptTemplate {
                system: system.map(str::to_owned),
                template: template.into(),
                jinja: None,
                chat: true,
            };
            let error = Template::new(&settings).err().unwrap().to_string();
            let name = if system.is_some() { "system" } else { "template" };
            assert!(error.starts_with(&format!("the prompt's `{name}` has a ")), "{error}");
        }
    }

    #[test]
    fn a_system_message_without_chat_is_refused() {
        let settings = PromptTemplate { system: Some("s".into()), ..PromptTemplate::default() };
        let error = Template::new(&settings).err().unwrap();
        assert_eq!(
            error.to_string(),
            "`system` is set but `chat` is false: plain text has no system message, so set `chat = true` or drop it"
        );
    }

    #[test]
    fn settings_are_strict_and_sparse() {
        let read = |json| serde_json::from_str::<PromptTemplate>(json);
        assert_eq!(read("{}").unwrap(), PromptTemplate::default());
        assert!(read(r#"{"templte": "x"}"#).unwrap_err().to_string().contains("unknown field `templte`"));
    }
}
