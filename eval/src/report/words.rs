//! Figures and verdicts as people read them.
//!
//! Before: estimates, as shares of one. After: the pages of [`super`]. What both pages say is said here once. Shares are
//! in percent with one decimal, differences in points with a sign; what is not a number is a dash.

use serde_json::Value;

use crate::protocol::Protocol;
use crate::result::{Comparison, Evaluation};
use crate::stats::{Estimate, Interval, Method, PairedVerdict};

/// What stands where there is no number.
pub(crate) const NONE: &str = "–";

/// How to read the intervals: what each is over, and what that means.
pub(crate) const INTERVALS: [(&str, &str); 3] = [
    (
        "Over questions",
        "what another set of questions of this kind might have given: judge a model by this one.",
    ),
    (
        "Over draws",
        "what another seed might have given on these very questions; it says nothing of other questions.",
    ),
    (
        "Exact",
        "the interval over questions by Clopper and Pearson, which holds the true share at least 95 times in 100 and is \
         wider for it.",
    ),
];

/// Text as HTML, for contents and quoted attributes. Control characters become U+FFFD.
pub(crate) fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            '\n' | '\t' => html.push(c),
            '\u{2028}' | '\u{2029}' => html.push(' '),
            c if c.is_control() => html.push('\u{fffd}'),
            c => html.push(c),
        }
    }
    html
}

/// A number with so many decimals, and no "-0.0".
fn decimal(value: f64, places: usize) -> String {
    let text = format!("{value:.places$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|c| c == '0' || c == '.') => rest.to_owned(),
        Some(rest) => format!("−{rest}"),
        None => text,
    }
}

/// A share in percent, without the sign: "63.4".
pub(crate) fn percent(share: f64) -> String {
    if share.is_finite() { decimal(100.0 * share, 1) } else { NONE.into() }
}

/// "[60.8, 66.0]", in percent or points.
pub(crate) fn interval(interval: &Interval) -> String {
    format!("[{}, {}]", percent(interval.low), percent(interval.high))
}

/// "63.4 [60.8, 66.0]", in percent.
pub(crate) fn estimate(estimate: Option<&Estimate>) -> String {
    estimate.map_or(NONE.into(), |e| format!("{} {}", percent(e.value), interval(&e.interval)))
}

/// A difference in points: "+0.8", "−3.0".
pub(crate) fn points(difference: f64) -> String {
    let text = percent(difference);
    if difference > 0.0 && text != "0.0" && text != NONE { format!("+{text}") } else { text }
}

/// "12 questions", "1 question"; thousands are set apart.
pub(crate) fn count(n: usize, noun: &str) -> String {
    format!("{} {noun}{}", number(n), if n == 1 { "" } else { "s" })
}

/// A whole number; from 10,000 on with commas.
pub(crate) fn number(n: usize) -> String {
    let digits = n.to_string();
    if digits.len() < 5 {
        return digits;
    }
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A mean or a rate: one decimal below 100, whole above.
pub(crate) fn mean(value: f64) -> String {
    match value {
        v if !v.is_finite() => NONE.into(),
        v if v.abs() < 100.0 => decimal(v, 1),
        v => number(v.round().max(0.0) as usize),
    }
}

/// How long: "42 s", "3 min 20 s", "2 h 5 min".
pub(crate) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return NONE.into();
    }
    match seconds.round().max(0.0) as u64 {
        0..10 => format!("{} s", decimal(seconds, 1)),
        s @ 10..120 => format!("{s} s"),
        s @ 120..7200 => format!("{} min {} s", s / 60, s % 60),
        s => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

/// "p = 0.012", "p < 0.001".
pub(crate) fn p_value(p: f64) -> String {
    match p {
        p if !p.is_finite() => format!("p {NONE}"),
        p if p < 0.001 => "p < 0.001".into(),
        p if p < 0.0995 => format!("p = {}", decimal(p, 3)),
        p => format!("p = {}", decimal(p, 2)),
    }
}

/// Where an interval comes from.
pub(crate) fn method(method: &Method) -> &'static str {
    match method {
        Method::Wilson => "over questions, Wilson",
        Method::ClopperPearson => "over questions, Clopper–Pearson",
        Method::Clustered => "over questions, clustered by question",
        Method::T => "over questions, Student’s t",
        Method::Bootstrap => "over questions, bootstrap",
        Method::Draws => "over draws",
        Method::Adaptive => "over draws, adaptive",
        Method::Runs => "over training runs, Student’s t",
    }
}

/// The difference of two models, with its interval over questions.
pub(crate) fn paired(comparison: &Comparison) -> Estimate {
    let paired = &comparison.paired;
    Estimate { value: paired.difference, interval: paired.interval, method: Method::T }
}

/// "+5.2 [1.1, 9.3]", in points.
pub(crate) fn difference(comparison: &Comparison) -> String {
    format!("{} {}", points(comparison.paired.difference), interval(&comparison.paired.interval))
}

/// What a comparison found, in two sentences. The names are taken as they are given, escaped or not.
pub(crate) fn verdict(comparison: &Comparison, a: &str, b: &str, benchmark: &str) -> String {
    let (paired, bounds) = (&comparison.paired, interval(&comparison.paired.interval));
    let size = percent(paired.difference.abs());
    let p = match &paired.mcnemar {
        Some(test) => format!("McNemar mid-p: {}", p_value(test.mid_p)),
        None => p_value(paired.p_value),
    };
    let found = match paired.verdict() {
        PairedVerdict::Better => {
            format!("{b} is better than {a} on {benchmark} by {size} points {bounds}, {p}")
        }
        PairedVerdict::Worse => {
            format!("{b} is worse than {a} on {benchmark} by {size} points {bounds}, {p}")
        }
        PairedVerdict::NoDifferenceShown => format!(
            "No difference shown between {b} and {a} on {benchmark}: {} points {bounds}, {p}; this comparison could have \
             shown {} points",
            points(paired.difference),
            percent(paired.detectable)
        ),
    };
    format!(
        "{found}. Of {}, {b} does better on {}, worse on {} and the same on {}.",
        count(paired.questions, "question"),
        number(paired.better),
        number(paired.worse),
        number(paired.equal)
    )
}

/// What a comparison found, as plain text, and where its protocols differ.
pub(crate) fn comparison(comparison: &Comparison) -> String {
    let found = verdict(comparison, &comparison.a, &comparison.b, &comparison.benchmark);
    match comparison.differences.as_slice() {
        [] => found,
        differences => format!("{found} {DIFFERENT}{}.", differences.join("; ")),
    }
}

/// Said before where protocols differ.
pub(crate) const DIFFERENT: &str = "Their protocols differ, so this may be no difference of the models: ";

/// What to bear in mind when there are several comparisons.
pub(crate) fn by_chance(comparisons: usize) -> Option<String> {
    let some = 1.0 - 0.95_f64.powi(comparisons.min(10_000) as i32);
    let wrong = mean(comparisons as f64 * 0.05);
    (comparisons >= 2).then(|| {
        format!(
            "Of {comparisons} comparisons between models that are equal, {wrong} would show a difference on average, and some \
             would in {} of all such reports: no interval here is widened for that.",
            about(some)
        )
    })
}

/// A share that is known roughly, to the next tenth: "about 60 %".
pub(crate) fn about(share: f64) -> String {
    match (10.0 * share).round() {
        tenths if !tenths.is_finite() => NONE.into(),
        tenths if tenths < 1.0 => "less than 10 %".into(),
        tenths if tenths > 9.0 => "more than 90 %".into(),
        tenths => format!("about {:.0} %", 10.0 * tenths),
    }
}

/// Points that are known roughly, to one digit: "about 4 points".
pub(crate) fn about_points(points: f64) -> String {
    let points = 100.0 * points.abs();
    if !points.is_finite() {
        return NONE.into();
    }
    let scale = 10f64.powf(points.max(1e-9).log10().floor());
    let rounded = (points / scale).round() * scale;
    match rounded {
        rounded if rounded < 0.095 => "less than 0.1 points".into(),
        rounded if rounded < 0.95 => format!("about {rounded:.1} points"),
        rounded if rounded < 1.5 => "about 1 point".into(),
        rounded => format!("about {rounded:.0} points"),
    }
}

/// Everything that a protocol says, a line each: "sampling.temperature", "0.7". Nothing is left out.
pub(crate) fn settings(protocol: &Protocol) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    // a struct of plain values always becomes JSON
    flatten("", &serde_json::to_value(protocol).unwrap_or_default(), &mut lines);
    lines
}

fn flatten(place: &str, value: &Value, lines: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let place = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
                flatten(&place, value, lines);
            }
        }
        Value::String(text) if !text.is_empty() && !text.contains('\n') => {
            lines.push((place.into(), text.clone()))
        }
        Value::Null => lines.push((place.into(), "nothing".into())),
        other => lines.push((place.into(), other.to_string())),
    }
}

/// What is wrong with the figures of an evaluation, a sentence each; empty if nothing is.
pub(crate) fn flaws(evaluation: &Evaluation) -> Vec<String> {
    let (summary, mut flaws) = (&evaluation.summary, Vec::new());
    let mut flaw = |n: usize, noun: &str, what: &str| {
        if n > 0 {
            flaws.push(format!("{} {what}", count(n, noun)));
        }
    };
    flaw(summary.skipped, "question", "not asked, as the prompt did not fit the model; counted as not right");
    flaw(summary.absent, "sample", "not judged, and in no figure");
    flaw(summary.unreadable, "sample", "with an answer that cannot be read as mathematics, compared as text");
    flaws
}

/// What more samples can do for the interval over questions, where questions have several: the draws' part of its variance
/// shrinks with them, and the questions' part does not (Var = Var(pᵢ)/n + mean p(1 − p)/(nk) for k samples each).
pub(crate) fn draws_part(evaluation: &Evaluation) -> Option<String> {
    let summary = &evaluation.summary;
    let whole = summary.accuracy.as_ref()?.interval.half_width();
    let draws = summary.over_draws.as_ref()?.interval.half_width();
    if whole <= 0.0 {
        return None;
    }
    let part = (draws / whole).powi(2).min(1.0);
    let left = whole * (1.0 - part).sqrt();
    Some(format!(
        "{} of the variance of accuracy is that of the draws; with ever more samples its interval would still reach {} to either side",
        about(part),
        about_points(left)
    ))
}

/// What there is to say of the lengths of a model's completions.
pub(crate) fn lengths(evaluation: &Evaluation) -> Vec<String> {
    let Some(tokens) = &evaluation.summary.tokens else { return Vec::new() };
    let mut said = vec![
        format!("mean {}", mean(tokens.mean)),
        format!("median {}", number(tokens.median)),
        format!("95 % within {}", number(tokens.p95)),
        format!("longest {}", number(tokens.longest)),
    ];
    if let (Some(right), Some(wrong)) = (tokens.right, tokens.wrong) {
        said.push(format!("right ones {} on average, wrong ones {}", mean(right), mean(wrong)));
    }
    if let Some(rate) = &evaluation.summary.truncation_rate {
        let budget = number(evaluation.protocol.sampling.max_tokens);
        said.push(format!("{} % ran out of the {budget} tokens allowed", percent(rate.value)));
    }
    said
}

/// A part of a benchmark, as it is called: "level 3", "Algebra".
pub(crate) fn part(kind: &str, name: &str) -> String {
    if name.parse::<f64>().is_ok() { format!("{kind} {name}") } else { name.to_owned() }
}

/// The first few of many things, and how many more there are.
pub(crate) fn few<T>(all: &[T], most: usize) -> (&[T], usize) {
    let shown = &all[..all.len().min(most)];
    (shown, all.len() - shown.len())
}

/// The different ones, in the order they first come in.
pub(crate) fn distinct<T: PartialEq>(all: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for one in all {
        if !found.contains(&one) {
            found.push(one);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_number_is_a_dash_and_nothing_is_minus_nought() {
        assert_eq!([percent(f64::NAN), mean(f64::INFINITY), estimate(None)], [NONE, NONE, NONE]);
        assert_eq!([percent(-0.0001), points(-0.0001), points(0.0)], ["0.0", "0.0", "0.0"]);
        assert_eq!([points(0.008), points(-0.03), percent(0.6341)], ["+0.8", "−3.0", "63.4"]);
    }

    #[test]
    fn numbers_are_as_long_as_they_need_be() {
        assert_eq!([number(1319), number(10_000), number(1_234_567)], ["1319", "10,000", "1,234,567"]);
        assert_eq!([mean(99.94), mean(1319.4)], ["99.9", "1319"]);
        assert_eq!([p_value(0.0004), p_value(0.012), p_value(0.5)], ["p < 0.001", "p = 0.012", "p = 0.50"]);
        assert_eq!([duration(3.21), duration(75.0), duration(200.0)], ["3.2 s", "75 s", "3 min 20 s"]);
        assert_eq!([duration(7500.0), count(1, "question")], ["2 h 5 min", "1 question"]);
    }

    #[test]
    fn more_samples_narrow_an_interval_to_what_the_questions_leave() {
        let mut evaluation = super::super::page::tests::evaluation("a", "x", 6, 4);
        let estimate =
            |half: f64, method| Estimate { value: 0.5, interval: Interval::around(0.5, half), method };
        evaluation.summary.accuracy = Some(estimate(0.05, Method::Clustered));
        evaluation.summary.over_draws = Some(estimate(0.03, Method::Draws));
        let said = draws_part(&evaluation).unwrap();
        // both intervals are estimates, so a tenth is all that is known
        assert!(
            said.starts_with("about 40 % of the variance")
                && said.ends_with("still reach about 4 points to either side"),
            "{said}"
        );
        evaluation.summary.over_draws = None;
        assert_eq!(draws_part(&evaluation), None, "a single greedy sample has no draws");
    }

    #[test]
    fn what_is_known_roughly_is_said_roughly() {
        let shares = [0.587, 0.001, 0.97, 0.951, 0.5].map(about);
        assert_eq!(
            shares,
            ["about 60 %", "less than 10 %", "more than 90 %", "more than 90 %", "about 50 %"]
        );
        let points = [0.0412, 0.0011, 0.0001, 0.23, 0.0098].map(about_points);
        let wanted = [
            "about 4 points",
            "about 0.1 points",
            "less than 0.1 points",
            "about 20 points",
            "about 1 point",
        ];
        assert_eq!(points, wanted);
    }

    #[test]
    fn several_comparisons_come_with_what_chance_would_show() {
        assert_eq!(by_chance(1), None);
        let said = by_chance(14).unwrap();
        assert!(
            said.contains("0.7 would show a difference") && said.contains("in about 50 % of all"),
            "{said}"
        );
    }

    #[test]
    fn html_of_hostile_text_holds_no_markup() {
        let html = escaped("<img onerror='x' src=\"y\">&\u{1b}[2J\0");
        assert_eq!(html, "&lt;img onerror=&#39;x&#39; src=&quot;y&quot;&gt;&amp;\u{fffd}[2J\u{fffd}");
    }
}
