//! Prompt templates in Jinja: conditions, loops and entries of objects, where `{column}` is not enough.
//!
//! Before: the recipe's `jinja`. After: [`crate::template`] makes the prompt of the text.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::{Environment, Error, UndefinedBehavior, Value, syntax::SyntaxConfig, value::Serde};

use crate::{Answer, DataError, row::Row};

/// Steps of one rendering before it is given up.
const FUEL: u64 = 1_000_000;
const NAME: &str = "jinja";

/// A template that has been read. A variable that is not there is an error, unless the template asks whether it is.
pub(crate) struct Jinja {
    environment: Environment<'static>,
    variables: BTreeSet<String>,
}

impl Jinja {
    pub(crate) fn new(text: &str) -> Result<Self, DataError> {
        let malformed =
            |error: Error| DataError::Jinja { problem: format!("cannot be read: {}", said(&error)) };
        let mut environment = Environment::new();
        environment
            .set_syntax(SyntaxConfig::builder().keep_trailing_newline(true).build().map_err(malformed)?);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.add_template_owned(NAME, text.to_owned()).map_err(malformed)?;
        let template = environment.get_template(NAME).map_err(malformed)?;
        let variables = template.undeclared_variables(false);
        let functions: BTreeSet<&str> = environment.globals().map(|(name, _)| name).collect();
        let variables = variables.into_iter().filter(|name| !functions.contains(name.as_str())).collect();
        Ok(Self { environment, variables })
    }

    /// Names that it takes from the row.
    pub(crate) fn variables(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(String::as_str)
    }

    /// Its text, with these values of its variables; or what fails.
    pub(crate) fn fill(&self, values: &BTreeMap<&str, Value>) -> Result<String, String> {
        let rendered = self.environment.get_template(NAME).and_then(|template| template.render(values));
        rendered.map_err(|error| said(&error))
    }

    /// Its text for a row, whose columns are variables; `question`, `answer` and `id` are the mapped ones.
    pub(crate) fn render(
        &self,
        row: &Row<'_>,
        id: &str,
        question: &str,
        answer: Option<&Answer>,
    ) -> Result<String, DataError> {
        let mut values = BTreeMap::new();
        for name in self.variables() {
            let value = match (name, answer) {
                ("question", _) => Some(Value::from(question)),
                ("id", _) => Some(Value::from(id)),
                ("answer", Some(answer)) => Some(Value::from(answer.to_string())),
                _ => row.columns.get(name).map(|value| Value::from(Serde(value))),
            };
            values.extend(value.map(|value| (name, value)));
        }
        self.fill(&values).map_err(|problem| {
            let place = format!("`{}`, {}", row.path.display(), row.at);
            match self.variables().find(|name| !values.contains_key(name)) {
                Some(column) => {
                    DataError::TemplateColumn { place, column: column.to_owned(), found: row.names(column) }
                }
                None => DataError::JinjaRow { place, problem },
            }
        })
    }
}

fn said(error: &Error) -> String {
    let line = error.line().map_or(String::new(), |line| format!(", in its line {line}"));
    let detail = error.detail().map_or(String::new(), |detail| format!(": {detail}"));
    format!("{}{detail}{line}", error.kind())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::At;

    fn render(template: &str, columns: serde_json::Value) -> Result<String, String> {
        let columns = columns.as_object().unwrap().clone();
        let row = Row { path: Path::new("rows.jsonl"), at: At::Line(7), text: None, columns };
        let jinja = Jinja::new(template).map_err(|error| error.to_string())?;
        jinja.render(&row, "r7", "1+1", Some(&Answer::from("2"))).map_err(|error| error.to_string())
    }

    #[test]
    fn columns_entries_loops_and_conditions_are_there() {
        let template = "{% if hint is defined %}{{ hint }}{% endif %}{{ question }} = {{ meta.level }}\n\
                        {%- for c in choices %} ({{ loop.index }}) {{ c }}{% endfor %} [{{ id }}, {{ answer }}]\n";
        let row = json!({"meta": {"level": 3}, "choices": ["a", "b"]});
        assert_eq!(render(template, row).unwrap(), "1+1 = 3 (1) a (2) b [r7, 2]\n");
        // what a column holds is not read as a template
        assert_eq!(render("{{ x }}", json!({"x": "{{ y }}"})).unwrap(), "{{ y }}");
    }

    #[test]
    fn a_template_that_fails_names_the_row_and_the_column_or_the_reason() {
        assert_eq!(
            render("{{ levle }}", json!({"level": 3})).unwrap_err(),
            "`rows.jsonl`, line 7: the template names the column `levle`, which is not there; the columns are `level`; did \
             you mean `level`?"
        );
        let error = render("{{ meta.deep.x }}", json!({"meta": {}})).unwrap_err();
        assert!(
            error.starts_with("`rows.jsonl`, line 7: the prompt's `jinja` fails: undefined value"),
            "{error}"
        );
        let error = render("{{ text / 2 }}", json!({"text": "a"})).unwrap_err();
        assert!(error.starts_with("`rows.jsonl`, line 7: the prompt's `jinja` fails: "), "{error}");
        let endless = "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}";
        let error = render(endless, json!({})).unwrap_err();
        assert!(error.contains("engine ran out of fuel"), "{error}");
    }

    #[test]
    fn a_malformed_template_is_named_with_its_line() {
        let error = render("a\n{% if %}", json!({})).unwrap_err();
        assert!(
            error.starts_with("the prompt's `jinja` cannot be read: syntax error")
                && error.ends_with("in its line 2"),
            "{error}"
        );
    }
}
