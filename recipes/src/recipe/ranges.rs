//! Values in a recipe or a benchmark that no run could mean: numbers beyond their range, and texts whose backslashes were
//! read as escapes.
//!
//! Before: text that has the right keys and types. After: numbers that neither overflow f32 nor ask for more than any machine
//! has; what the types say, such as at least 1, they say themselves. The bounds are far outside of what anyone uses. Wherever
//! a recipe holds LaTeX (templates, worked examples, texts around a trace), it is what was written.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::RecipeError;

/// The last part of a key, and the least and the largest value there.
const RANGES: &[(&str, f64, f64)] = &[
    // counts of things that are made one by one
    ("steps", 0.0, 1e9),
    ("every", 0.0, 1e9),
    ("keep", 0.0, 1e6),
    ("prompts_per_step", 0.0, 65536.0),
    ("pairs_per_step", 0.0, 65536.0),
    ("group_size", 0.0, 65536.0),
    ("batch_size", 0.0, 65536.0),
    ("epochs", 0.0, 1e4),
    ("mini_batches", 0.0, 65536.0),
    ("micro_batch_tokens", 0.0, 16777216.0),
    ("max_rounds", 0.0, 1e4),
    ("overlap", 0.0, 1024.0),
    ("chunks", 0.0, 65536.0),
    ("correlations", 0.0, 1e9),
    ("warmup", 0.0, 1e12),
    ("prompts", 0.0, 1e7),
    ("samples", 0.0, 1e6),
    ("pilot", 0.0, 1e6),
    ("most", 0.0, 1e6),
    ("count", 0.0, 1e7),
    ("max_rows", 0.0, 65536.0),
    ("prompt_tokens", 0.0, 16777216.0),
    ("max_tokens", 0.0, 16777216.0),
    ("min_tokens", 0.0, 16777216.0),
    ("thinking_budget", 0.0, 16777216.0),
    ("top_log_probs", 0.0, 16777216.0),
    ("kv_memory", 0.0, 1e6),
    // factors
    ("learning_rate", 0.0, 1e3),
    ("weight_decay", 0.0, 1e3),
    ("epsilon", 0.0, 1.0),
    ("entropy_bonus", -1e3, 1e3),
    ("coefficient", 0.0, 1e4),
    ("temperature", 0.0, 1e4),
    ("temperature_positive", 0.0, 1e4),
    ("temperature_negative", 0.0, 1e4),
    ("repetition_penalty", 0.0, 1e3),
    ("weight", -1e6, 1e6),
    ("rms_norm_eps", 1e-30, 1.0),
    ("rope_theta", 1e-3, 1e15),
];

/// Keys of bounds that may be infinite: there is then none.
const UNBOUNDED: &[&str] =
    &["cap", "upper", "ratio_cap", "dual_clip", "max_kl", "max_grad_norm", "clip_high", "clip", "floor"];

/// The largest number anywhere else; f32 ends at 3.4e38.
const LARGEST: f64 = 1e30;
/// The smallest number but 0 anywhere; f32 ends at 1.2e-38.
const SMALLEST: f64 = 1e-30;

/// Refuses the first such value, where it stands.
///
/// # Errors
/// With line, column, the key, the value and what is wanted. Text that is not TOML is left to the caller.
pub(super) fn check(place: &str, text: &str) -> Result<(), RecipeError> {
    let Ok(table) = DeTable::parse(text) else { return Ok(()) };
    match in_table(text, table.get_ref(), "") {
        Some(Found { span, path, problem }) => Err(RecipeError::Parse {
            place: place.to_owned(),
            message: format!("{}`{path}` {problem}", pointed(text, &span)),
            hint: String::new(),
        }),
        None => Ok(()),
    }
}

/// The key of the first such value, and what is wrong with it, in a text that nobody wrote.
pub(super) fn out_of_range(text: &str) -> Option<(Vec<String>, String)> {
    let table = DeTable::parse(text).ok()?;
    let Found { path, problem, .. } = in_table(text, table.get_ref(), "")?;
    let keys = path.split('.').map(str::to_owned).collect();
    Some((keys, format!("`{path}` {problem}")))
}

/// A value that no run could mean.
struct Found {
    /// Where it stands in the text.
    span: Range<usize>,
    /// Its key with those of the tables around it.
    path: String,
    /// The value and what is wanted instead.
    problem: String,
}

fn in_table(text: &str, table: &DeTable<'_>, path: &str) -> Option<Found> {
    table.iter().find_map(|(key, value)| {
        let key = key.get_ref();
        let path = if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
        in_value(text, value, &path, key)
    })
}

fn in_value(text: &str, value: &Spanned<DeValue<'_>>, path: &str, key: &str) -> Option<Found> {
    let out_of_range = |number: &str| {
        let number = number.replace('_', "").parse::<f64>().ok()?;
        let wanted = wanted_instead(number, key, value.get_ref().is_float())?;
        Some(format!("is {}; wanted {wanted}", &text[value.span()]))
    };
    let problem = match value.get_ref() {
        DeValue::Table(table) => return in_table(text, table, path),
        DeValue::Array(list) => return list.iter().find_map(|value| in_value(text, value, path, key)),
        DeValue::Float(float) => out_of_range(float.as_str())?,
        // in other bases than ten only the seed makes sense
        DeValue::Integer(integer) if integer.radix() == 10 => out_of_range(integer.as_str())?,
        DeValue::String(text) => format!("holds {}", data::misread_latex(text)?),
        _ => return None,
    };
    Some(Found { span: value.span(), path: path.to_owned(), problem })
}

/// What is wanted instead, if the number is out of range.
fn wanted_instead(number: f64, key: &str, float: bool) -> Option<String> {
    if number.is_nan() {
        return Some("a number".to_owned());
    }
    if number.is_infinite() && UNBOUNDED.contains(&key) {
        return None;
    }
    let (least, most) = RANGES
        .iter()
        .find(|(name, _, _)| *name == key)
        .map_or((-LARGEST, LARGEST), |(_, least, most)| (*least, *most));
    if !(least..=most).contains(&number) {
        return Some(format!("{} to {}", plain(least), plain(most)));
    }
    (float && number != 0.0 && number.abs() < SMALLEST)
        .then(|| format!("0 or at least {SMALLEST:e} in size, which f32 can tell from 0"))
}

fn plain(number: f64) -> String {
    if number.abs() < 1e9 && number.fract() == 0.0 { format!("{number}") } else { format!("{number:e}") }
}

/// The line that a span is in, with a mark under it, as TOML's own errors have it.
fn pointed(text: &str, span: &Range<usize>) -> String {
    let before = &text[..span.start];
    let number = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = text[start..].lines().next().unwrap_or("");
    let column = text[start..span.start].chars().count() + 1;
    let width = text[span.clone()].chars().count().max(1);
    let gutter = " ".repeat(number.to_string().len());
    let (indent, mark) = (" ".repeat(column - 1), "^".repeat(width));
    format!(
        "TOML parse error at line {number}, column {column}\n{gutter} |\n{number} | {line}\n{gutter} | {indent}{mark}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_out_of_range_is_refused_where_it_stands() {
        let text = "seed = 1\n[rl]\ngroup_size = 1_000_000_000\n";
        let error = check("x.toml", text).unwrap_err().to_string();
        assert!(error.contains("line 3, column 14"), "{error}");
        assert!(
            error.contains("3 | group_size = 1_000_000_000\n  |              ^^^^^^^^^^^^^\n"),
            "{error}"
        );
        assert!(error.contains("`rl.group_size` is 1_000_000_000; wanted 0 to 65536"), "{error}");
        for (text, part) in [
            ("a = { learning_rate = 1e300 }", "`a.learning_rate` is 1e300; wanted 0 to 1000"),
            ("learning_rate = -1e-3", "wanted 0 to 1000"),
            ("x = nan", "wanted a number"),
            ("x = [1.0, inf]", "`x` is inf; wanted -1e30 to 1e30"),
            ("x = 1e-300", "f32 can tell from 0"),
            ("weight = 1e7", "wanted -1000000 to 1000000"),
        ] {
            let error = check("x.toml", text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        for fine in [
            "",
            "cap = inf",
            "x = 0.0",
            "seed = 9223372036854775807",
            "seed = 0xff",
            "x = \"1e300\"",
            "é = 1",
        ] {
            assert!(check("x.toml", fine).is_ok(), "{fine}");
        }
    }

    #[test]
    fn latex_whose_backslashes_were_read_as_escapes_is_refused_wherever_a_recipe_holds_it() {
        for (text, place) in [
            (
                "[sft]\nanswer_templates = [\"{answer}\", \"\\boxed{{{answer}}}\"]",
                "`sft.answer_templates` holds a backspace",
            ),
            (
                "[[shots]]\nsolution = \"It is $\\frac12$.\"",
                "`shots.solution` holds a form feed before `rac`",
            ),
            ("[thinking]\nopen = \"\\therefore\"", "`thinking.open` holds a tab before `herefore`"),
            (
                "[rewards.judge]\nprompt = \"2 \\neq 3\"",
                "`rewards.judge.prompt` holds a line break before `eq`",
            ),
        ] {
            let error = check("x.toml", text).unwrap_err().to_string();
            assert!(error.contains(place) && error.contains("line 2, column"), "{text}: {error}");
        }
        for fine in [
            "a = '\\boxed{\\frac12}'",
            "a = \"\\\\boxed{}\"",
            "stop = [\"\\n\", \"\\n\\n\", \"\\t\"]",
            "a = \"one\\nnext\"",
        ] {
            assert!(check("x.toml", fine).is_ok(), "{fine}");
        }
        let set = ["rl.sampling.thinking_close=\"\\boxed\"".to_owned()];
        let error = super::super::Recipe::load("tiny", &set).unwrap_err().to_string();
        assert!(error.contains("`rl.sampling.thinking_close` holds a backspace"), "{error}");
    }

    #[test]
    fn the_numbers_of_a_recipe_have_ranges() {
        let counts = [
            "rl.steps",
            "rl.prompts_per_step",
            "rl.group_size",
            "rl.epochs",
            "rl.mini_batches",
            "rl.micro_batch_tokens",
            "rl.overlap",
            "rl.sampling.max_tokens",
            "rl.sampling.min_tokens",
            "rl.sampling.top_log_probs",
            "rl.ledger.chunks",
            "rl.schedule.warmup",
            "save.every",
            "save.keep",
            "eval.prompts",
            "eval.every",
            "eval.samples",
            "rollout.max_rows",
            "rollout.prompt_tokens",
            "data.arithmetic.count",
        ];
        let factors = [
            "rl.schedule.learning_rate",
            "rl.sampling.temperature",
            "rl.sampling.repetition_penalty",
            "rl.entropy_bonus",
            "rl.kl.coefficient",
            "rewards.exact_match.weight",
            "rollout.kv_memory",
        ];
        let counts = counts.map(|key| (key, "999999999999999999"));
        for (key, value) in counts.into_iter().chain(factors.map(|key| (key, "1e20"))) {
            let error =
                super::super::Recipe::load("tiny", &[format!("{key}={value}")]).unwrap_err().to_string();
            assert!(error.contains(&format!("`{key}` is ")) && error.contains("; wanted "), "{key}: {error}");
        }
    }
}
