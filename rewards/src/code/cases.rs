//! The tests of a prompt, whatever shape its dataset gives them.
//!
//! Before: a column of the dataset row. After: [`super::run`] runs each [`Case`].

use serde_json::{Map, Value};

use super::values;

/// One test.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Case {
    /// What the program reads from standard input, and should write to standard output.
    Io { input: String, output: String },
    /// A function of the program, its arguments and what it should return.
    Call { function: String, arguments: Vec<Value>, wanted: Value },
    /// Python that raises an error if the program is wrong.
    Assert { source: String },
}

/// The cases in a prompt's fields, or `None` if the field is not there.
///
/// # Errors
/// What was found and what was wanted.
pub(super) fn cases(fields: &Map<String, Value>, name: &str) -> Result<Option<Vec<Case>>, String> {
    let Some(found) = fields.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
    let inner = found.as_str().and_then(json_within);
    let cases = match inner.as_ref().unwrap_or(found) {
        Value::String(source) => vec![Case::Assert { source: script(source, fields) }],
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let function = fields.get("entry_point").and_then(Value::as_str).filter(|name| is_name(name));
            let before = setup(fields) + &function.map(taken).unwrap_or_default();
            let sources = items.iter().filter_map(Value::as_str);
            sources.map(|source| Case::Assert { source: format!("{before}{source}\n") }).collect()
        }
        Value::Array(items) => items.iter().map(|item| pair(item, fields)).collect::<Result<_, _>>()?,
        Value::Object(columns) if columns.contains_key("inputs") => table(columns, fields)?,
        other => return Err(wanted("the tests", other)),
    };
    if cases.is_empty() {
        return Err(format!("`{name}` has no tests, wanted at least one"));
    }
    Ok(Some(cases))
}

/// JSON in a string: datasets pack tests so. Python that begins with a bracket is not JSON.
fn json_within(text: &str) -> Option<Value> {
    let begins = text.trim_start().starts_with(['[', '{', '"']);
    begins.then(|| values::read(text).ok()).flatten()
}

fn wanted(what: &str, found: &Value) -> String {
    let mut found = found.to_string();
    if let Some((end, _)) = found.char_indices().nth(80) {
        found.replace_range(end.., "…");
    }
    format!(
        "{what}: found `{found}`, wanted a list of {{\"input\", \"output\"}}, an object with the lists \"inputs\" and \
         \"outputs\", or Python that asserts"
    )
}

/// MBPP's columns of what must come before an assertion.
fn setup(fields: &Map<String, Value>) -> String {
    let mut lines = String::new();
    for name in ["test_imports", "test_setup_code"] {
        match fields.get(name) {
            Some(Value::String(line)) => lines += &format!("{line}\n"),
            Some(Value::Array(more)) => more.iter().filter_map(Value::as_str).for_each(|line| {
                lines += &format!("{line}\n");
            }),
            _ => {}
        }
    }
    lines
}

/// HumanEval defines `check` and names the function to be checked in another column. It is the program's even if Python has
/// one of that name, so `judge.py` is asked for it by `__program__`.
fn script(source: &str, fields: &Map<String, Value>) -> String {
    let before = setup(fields);
    match fields.get("entry_point").and_then(Value::as_str) {
        Some(function) if source.contains("def check(") && is_name(function) => {
            format!("{before}{source}\ncheck(__program__({function:?}))\n")
        }
        Some(function) if source.contains("def check(") => format!("{before}{source}\ncheck({function})\n"),
        Some(function) if is_name(function) => format!("{before}{}{source}\n", taken(function)),
        _ => format!("{before}{source}\n"),
    }
}

/// A line that takes a function from the program before the test asks for it.
fn taken(function: &str) -> String {
    format!("{function} = __program__({function:?})\n")
}

fn is_name(text: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    text.starts_with(letter) && text.chars().all(|c| letter(c) || c.is_ascii_digit())
}

fn function_name(columns: &Map<String, Value>, fields: &Map<String, Value>) -> Option<String> {
    let name = columns.get("fn_name").or_else(|| fields.get("fn_name")).and_then(Value::as_str);
    name.filter(|name| !name.is_empty()).map(str::to_owned)
}

/// `{"input", "output"}`.
fn pair(item: &Value, fields: &Map<String, Value>) -> Result<Case, String> {
    let columns = item.as_object().ok_or_else(|| wanted("a test", item))?;
    let (Some(input), Some(output)) = (columns.get("input"), columns.get("output")) else {
        return Err(wanted("a test", item));
    };
    let function = function_name(columns, fields);
    let kind = columns.get("type").or_else(|| columns.get("testtype")).and_then(Value::as_str);
    if function.is_none() && kind.is_some_and(|kind| !kind.starts_with("stdin")) {
        return Err(wanted("a test of a function without `fn_name`", item));
    }
    case(input, output, function)
}

/// `{"inputs", "outputs"}`, as in APPS, TACO and PRIME.
fn table(columns: &Map<String, Value>, fields: &Map<String, Value>) -> Result<Vec<Case>, String> {
    let list = |name: &str| columns.get(name).and_then(Value::as_array);
    let whole = || wanted("the tests", &Value::Object(columns.clone()));
    let (inputs, outputs) = list("inputs").zip(list("outputs")).ok_or_else(whole)?;
    if inputs.len() != outputs.len() {
        let (inputs, outputs) = (inputs.len(), outputs.len());
        return Err(format!(
            "the tests: found {inputs} inputs and {outputs} outputs, wanted as many of both"
        ));
    }
    let function = function_name(columns, fields);
    inputs.iter().zip(outputs).map(|(input, output)| case(input, output, function.clone())).collect()
}

fn case(input: &Value, output: &Value, function: Option<String>) -> Result<Case, String> {
    let Some(function) = function else {
        return Ok(Case::Io { input: text(input)?, output: text(output)? });
    };
    match input {
        Value::Array(arguments) => {
            Ok(Case::Call { function, arguments: arguments.clone(), wanted: output.clone() })
        }
        // A line of JSON for each argument, and JSON for the result.
        Value::String(lines) => {
            let read = |line: &str| values::read(line).map_err(|_| wanted("an argument", &line.into()));
            let lines = lines.lines().filter(|line| !line.trim().is_empty());
            let arguments = lines.map(read).collect::<Result<_, _>>()?;
            let wanted = output.as_str().map_or_else(|| Ok(output.clone()), read)?;
            Ok(Case::Call { function, arguments, wanted })
        }
        other => Err(wanted("the arguments of a function", other)),
    }
}

/// A text, or its lines.
fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Array(lines) if lines.iter().all(Value::is_string) => {
            let lines: Vec<_> = lines.iter().filter_map(Value::as_str).collect();
            Ok(lines.join("\n"))
        }
        other => Err(wanted("a text", other)),
    }
}
