//! A row of a file becomes a prompt, whatever the file's format.
//!
//! Before: [`crate::jsonl`] or [`crate::parquet`] has read a row's columns. After: a [`Dataset`] of prompts.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Map, Value, value::RawValue};

use crate::{
    Answer, At, Body, Columns, DataError, Dataset, Layout, Prompt, PromptTemplate, Reading,
    conversation::{conversation, is_empty},
    dataset::repeated,
    filter::OpenFilter,
    held_back::{HeldBack, Part},
    latex::misread_latex,
    packed::PACKED,
    solution::Mark,
    template::Template,
};

/// What becomes of a row that has been read.
#[derive(Default)]
pub(crate) struct Keep<'a> {
    pub(crate) filter: Option<OpenFilter<'a>>,
    /// The part of a split that is wanted.
    pub(crate) part: Option<(HeldBack, Part)>,
}

/// Rows on their way to a dataset: what has been read so far, and how to read the next.
pub(crate) struct Rows<'a> {
    /// The files, the last one is being read.
    paths: Vec<PathBuf>,
    stem: String,
    name: String,
    columns: &'a Columns,
    layout: Layout,
    template: Template<'a>,
    keep: Keep<'a>,
    reading: Option<Reading>,
    read: usize,
    left_out: BTreeMap<String, usize>,
    prompts: Vec<Arc<Prompt>>,
    /// The file and the place in it of each prompt.
    places: Vec<(usize, At)>,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(
        columns: &'a Columns,
        layout: Layout,
        template: &'a PromptTemplate,
        keep: Keep<'a>,
    ) -> Result<Self, DataError> {
        if matches!(layout, Layout::Gsm8k | Layout::Math) && columns.answer.is_none() {
            return Err(DataError::LayoutNeedsAnswer { layout: layout.name() });
        }
        Ok(Self {
            paths: Vec::new(),
            stem: String::new(),
            name: String::new(),
            columns,
            layout,
            template: Template::new(template)?,
            keep,
            reading: None,
            read: 0,
            left_out: BTreeMap::new(),
            prompts: Vec::new(),
            places: Vec::new(),
        })
    }

    /// The next rows are of this file; ids of rows without one begin with `stem`, by default the file's.
    pub(crate) fn begin(&mut self, path: &Path, stem: Option<String>) {
        let own = stem_of(path);
        if self.paths.is_empty() {
            self.name.clone_from(&own);
        }
        self.stem = stem.unwrap_or(own);
        self.paths.push(path.to_owned());
    }

    /// The next row becomes the next prompt, unless it is left out.
    pub(crate) fn push(&mut self, row: Row<'_>) -> Result<(), DataError> {
        let (columns, layout) = (self.columns, self.layout);
        let reading = self.reading.get_or_insert_with(|| Reading::of(&row, columns, layout));
        let (path, at) = (row.path, row.at);
        self.read += 1;
        let (prompt, question) = prompt(row, reading, columns.id.as_deref(), &self.template, &self.stem)?;
        if let Some((held_back, part)) = &self.keep.part
            && held_back.part(&prompt.id) != *part
        {
            return Ok(());
        }
        if let Some(filter) = &self.keep.filter
            && let Some(why) = filter.refuses(&prompt, &question).map_err(|(column, found)| {
                DataError::MissingColumn { path: path.to_owned(), at, column, found }
            })?
        {
            *self.left_out.entry(why).or_default() += 1;
            return Ok(());
        }
        self.places.push((self.paths.len() - 1, at));
        self.prompts.push(Arc::new(prompt));
        Ok(())
    }

    /// All rows, if there are some and their ids differ.
    pub(crate) fn finish(self) -> Result<Dataset, DataError> {
        let (paths, prompts) = (self.paths, self.prompts);
        let dataset = match paths.as_slice() {
            [path] => path.display().to_string(),
            [path, others @ ..] => format!(
                "{}` and {} more, to `{}",
                path.display(),
                others.len(),
                others[others.len() - 1].display()
            ),
            [] => String::new(),
        };
        let Some(mut reading) = self.reading else {
            return Err(DataError::Empty { dataset });
        };
        reading.left_out = self.left_out.into_iter().collect();
        if prompts.is_empty() {
            let why = reading.why_left_out();
            let part = self.keep.part.map(|(held_back, part)| (part.name(), held_back.fraction));
            return Err(DataError::NothingLeft { dataset, rows: self.read, why, part });
        }
        if let Some((first, second)) = repeated(prompts.iter().map(|prompt| prompt.id.as_str())) {
            let id = prompts[second].id.clone();
            let ((one, first), (other, second)) = (self.places[first], self.places[second]);
            let path = paths[one].clone();
            return Err(match one == other {
                true => DataError::DuplicateId { path, id, first, second },
                false => {
                    let other = paths[other].clone();
                    DataError::DuplicateAcross { path, id, first, other, second }
                }
            });
        }
        Ok(Dataset::of_checked(self.name, prompts, reading))
    }
}

/// What a file is called, without what tells its format.
pub(crate) fn stem_of(path: &Path) -> String {
    let packed =
        path.extension().is_some_and(|end| PACKED.iter().any(|packed| end.eq_ignore_ascii_case(packed)));
    let path = if packed { Path::new(path.file_stem().unwrap_or_default()) } else { path };
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// A row as a prompt, and its question without the template.
fn prompt(
    row: Row<'_>,
    reading: &Reading,
    id_column: Option<&str>,
    template: &Template<'_>,
    stem: &str,
) -> Result<(Prompt, String), DataError> {
    let (question, last) = question(&row, reading)?;
    let id = match id_column.or(row.columns.contains_key("id").then_some("id")) {
        Some(column) => row.text_or_number(column)?,
        None => format!("{stem}:{}", row.at.number()),
    };
    let (answer, solution) = match &reading.answer {
        Some(column) => answer(&row, reading, column)?,
        None => (last.filter(|_| reading.last_is_answer).map(Answer::from), None),
    };
    let asked = match &question {
        Body::Text(text) => text,
        Body::Chat(messages) => match messages.iter().rfind(|message| message.role == "user") {
            Some(message) => &message.content,
            None => return Err(row.not_a_conversation(&reading.question, "has no turn of the user")),
        },
    };
    let asked = asked.clone();
    let text = match template.jinja() {
        Some(jinja) => jinja.render(&row, &id, &asked, answer.as_ref())?,
        None => template.fill(|column| match (column, &answer) {
            ("question", _) => Ok(asked.clone()),
            ("id", _) => Ok(id.clone()),
            ("answer", Some(answer)) => Ok(answer.to_string()),
            _ => row.for_template(column),
        })?,
    };
    let body = match question {
        Body::Text(_) => template.body(text),
        Body::Chat(messages) => template
            .conversation(messages, text)
            .map_err(|problem| row.not_a_conversation(&reading.question, problem))?,
    };
    // rewards find every column under its own name; the answer's too, unless our name is the same
    let mut fields = row.columns;
    if reading.answer.as_deref() == Some("answer") {
        fields.shift_remove("answer");
    }
    fields.entry("question").or_insert_with(|| Value::String(asked.clone()));
    if let Some(solution) = solution {
        fields.entry("solution").or_insert(Value::String(solution));
    }
    Ok((Prompt { id, body, answer, fields }, asked))
}

/// The question, and the last turn of its conversation if that is not part of it.
fn question(row: &Row<'_>, reading: &Reading) -> Result<(Body, Option<String>), DataError> {
    let column = reading.question.as_str();
    let mut messages = match row.get(column)? {
        Value::String(question) => {
            row.undamaged(column, question)?;
            return Ok((Body::Text(question.clone()), None));
        }
        list @ Value::Array(_) => {
            conversation(list).map_err(|problem| row.not_a_conversation(column, problem))?
        }
        _ => return Err(row.wrong_type(column, "text or a list of messages")),
    };
    messages.iter().try_for_each(|message| row.undamaged(column, &message.content))?;
    if row.find("tools").is_some_and(|tools| !is_empty(tools)) {
        return Err(row.not_a_conversation(
            "tools",
            "holds tools, which no chat template is given: take the column out",
        ));
    }
    let ends_in_assistant = messages.last().is_some_and(|message| message.role == "assistant");
    let last = match reading.drops_last && ends_in_assistant {
        true => messages.pop().map(|message| message.content),
        false => None,
    };
    if reading.last_is_answer && last.is_none() {
        let problem = "does not end in a turn of the assistant, which would be the answer: name the answer's column, or say \
                       that there is none by `answer = \"\"`";
        return Err(row.not_a_conversation(column, problem));
    }
    match messages.last() {
        None => Err(row.not_a_conversation(column, "has nothing before the assistant's turn")),
        Some(message) if message.role == "assistant" => Err(row.not_a_conversation(
            column,
            "ends in a turn of the assistant, which the policy is to write, wanted one of the user (in a column called \
             `messages` the last turn may be the assistant's: it is the reference)",
        )),
        Some(_) => Ok((Body::Chat(messages), last)),
    }
}

/// The answer, and the solution that stood before it if it stood behind `####`.
fn answer(
    row: &Row<'_>,
    reading: &Reading,
    column: &str,
) -> Result<(Option<Answer>, Option<String>), DataError> {
    let references = row.references(column, reading.layout == Layout::Verl)?;
    references.iter().try_for_each(|reference| row.undamaged(column, reference))?;
    let (path, at, column) = (row.path.to_owned(), row.at, column.to_owned());
    let Some(mark) = reading.mark else {
        if let Some((mark, first)) = reading.deciding
            && references.iter().any(|reference| mark.tells(reference))
        {
            return Err(DataError::MarkedAnswer { path, at, column, mark: mark.written(), first });
        }
        return Ok((Answer::any_of(references), None));
    };
    let (mut answers, mut solution) = (Vec::new(), None);
    for reference in &references {
        let Some((before, answer)) = mark.answer(reference) else {
            let first = reading.deciding.map(|(_, first)| first);
            return Err(DataError::UnmarkedAnswer { path, at, column, mark: mark.written(), first });
        };
        if answer.is_empty() {
            return Err(DataError::EmptyAnswer { path, at, column, mark: mark.written() });
        }
        solution.get_or_insert_with(|| before.to_owned());
        answers.push(answer);
    }
    Ok((Answer::any_of(answers), solution.filter(|_| mark == Mark::Hashes)))
}

/// One row, as its file has it.
pub(crate) struct Row<'a> {
    pub(crate) path: &'a Path,
    pub(crate) at: At,
    /// The row's JSON, if the file is JSON: numbers are taken from there, digit by digit.
    pub(crate) text: Option<&'a str>,
    pub(crate) columns: Map<String, Value>,
}

impl Row<'_> {
    /// What a column holds, or an entry of an object in a column: `reward_model.ground_truth`.
    pub(crate) fn find(&self, column: &str) -> Option<&Value> {
        find_column(&self.columns, column)
    }

    pub(crate) fn get(&self, column: &str) -> Result<&Value, DataError> {
        self.find(column).ok_or_else(|| DataError::MissingColumn {
            path: self.path.to_owned(),
            at: self.at,
            column: column.to_owned(),
            found: self.names(column),
        })
    }

    /// The columns there are; with those of the object into which a name leads.
    pub(crate) fn names(&self, column: &str) -> Vec<String> {
        let mut names: Vec<String> = self.columns.keys().cloned().collect();
        let outer = column.split('.').next().unwrap_or_default();
        if let Some(Value::Object(entries)) = self.columns.get(outer).filter(|_| outer != column) {
            names.extend(entries.keys().map(|inner| format!("{outer}.{inner}")));
        }
        names
    }

    fn text_or_number(&self, column: &str) -> Result<String, DataError> {
        match self.get(column)? {
            Value::String(text) => Ok(text.clone()),
            number @ Value::Number(_) => Ok(self.raw(column, number)),
            _ => Err(self.wrong_type(column, "text or a number")),
        }
    }

    /// The references of an answer's column, at least one. verl's rows may hold objects for reward functions of their own.
    fn references(&self, column: &str, verl: bool) -> Result<Vec<String>, DataError> {
        const WANTED: &str = "text, a number, a boolean or a list of these";
        let value = self.get(column)?;
        match value {
            Value::Array(list) if list.iter().any(Value::is_object) => {
                // TRL's `completion`: a conversation of the assistant's turn
                let mut messages =
                    conversation(value).map_err(|problem| self.not_a_conversation(column, problem))?;
                match messages.pop() {
                    Some(last) if last.role == "assistant" => Ok(vec![last.content]),
                    _ => Err(self.not_a_conversation(column, "does not end in a turn of the assistant")),
                }
            }
            Value::Array(list) if !list.is_empty() => {
                let raw = self.text.and_then(|text| raw_entry(text, column));
                let raw = raw.and_then(|raw| serde_json::from_str::<Vec<&RawValue>>(raw.get()).ok());
                let one = |(place, value): (usize, &Value)| match (value, &raw) {
                    (Value::Number(_), Some(raw)) => Ok(raw[place].get().to_owned()),
                    (value, _) => scalar(value).ok_or_else(|| self.wrong_type(column, WANTED)),
                };
                list.iter().enumerate().map(one).collect()
            }
            Value::String(text) if verl && text.trim_start().starts_with("[\"") => {
                // several references as JSON within the text
                Ok(serde_json::from_str(text)
                    .ok()
                    .filter(|list: &Vec<String>| !list.is_empty())
                    .unwrap_or_else(|| vec![text.clone()]))
            }
            Value::Object(entries) if verl => match entries.get("target").filter(|_| entries.len() == 1) {
                Some(_) => self.references(&format!("{column}.target"), verl),
                None => Ok(vec![value.to_string()]),
            },
            number @ Value::Number(_) => Ok(vec![self.raw(column, number)]),
            value => scalar(value).map(|text| vec![text]).ok_or_else(|| self.wrong_type(column, WANTED)),
        }
    }

    /// Text as it is, anything else but null as JSON.
    fn for_template(&self, column: &str) -> Result<String, DataError> {
        match self.find(column) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Null) => Err(self.wrong_type(column, "something to put into the template")),
            Some(other) => Ok(self.raw(column, other)),
            None => Err(DataError::TemplateColumn {
                place: format!("`{}`, {}", self.path.display(), self.at),
                column: column.to_owned(),
                found: self.names(column),
            }),
        }
    }

    /// A column's JSON as the file has it: `1.50` stays `1.50`, and a long integer keeps its digits.
    fn raw(&self, column: &str, value: &Value) -> String {
        match self.text.and_then(|text| raw_entry(text, column)) {
            Some(raw) => raw.get().to_owned(),
            None => value.to_string(),
        }
    }

    /// That no LaTeX in the text lost its backslash.
    fn undamaged(&self, column: &str, text: &str) -> Result<(), DataError> {
        match misread_latex(text) {
            None => Ok(()),
            Some(problem) => Err(DataError::MisreadLatex {
                path: self.path.to_owned(),
                at: self.at,
                column: column.to_owned(),
                problem,
            }),
        }
    }

    pub(crate) fn not_a_conversation(&self, column: &str, problem: impl Into<String>) -> DataError {
        DataError::Conversation {
            path: self.path.to_owned(),
            at: self.at,
            column: column.to_owned(),
            problem: problem.into(),
        }
    }

    pub(crate) fn wrong_type(&self, column: &str, wanted: &'static str) -> DataError {
        DataError::WrongType {
            path: self.path.to_owned(),
            at: self.at,
            column: column.into(),
            found: self.find(column).map_or("nothing", kind),
            wanted,
        }
    }
}

/// What a row holds under a name, which may lead into objects by dots: `reward_model.ground_truth`.
pub fn find_column<'a>(entries: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let inner =
        |(dot, _): (usize, &str)| find_column(entries.get(&name[..dot])?.as_object()?, &name[dot + 1..]);
    entries.get(name).or_else(|| name.match_indices('.').find_map(inner))
}

/// The same within JSON, as it is written there.
fn raw_entry<'a>(text: &'a str, name: &str) -> Option<&'a RawValue> {
    let entries: HashMap<String, &'a RawValue> = serde_json::from_str(text).ok()?;
    let inner = |(dot, _): (usize, &str)| raw_entry(entries.get(&name[..dot])?.get(), &name[dot + 1..]);
    entries.get(name).copied().or_else(|| name.match_indices('.').find_map(inner))
}

/// A text, number or boolean as text.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// What to call a value in a message.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
