//! Samples to read, as data for the page's script.
//!
//! Before: readings. After: `page.js` shows them, as text and never as markup. Samples of one question stay together, so that
//! models are read side by side; a page that would grow too large leaves whole questions out, and says how many.

use std::collections::BTreeMap;

use serde::Serialize;

use super::words::{count, distinct, escaped, number};
use super::{Readings, Report};
use crate::record::SampleText;

/// Bytes of samples that a page holds.
const ROOM: usize = 4_000_000;

/// Characters of one text; of a longer one the middle is left out.
const LONGEST: usize = 40_000;

#[derive(Serialize)]
struct Data<'a> {
    models: Vec<&'a str>,
    benchmarks: Vec<&'a str>,
    questions: Vec<Question>,
}

/// A question and the samples that are shown of it. Short names, as there are thousands.
#[derive(Serialize)]
struct Question {
    /// Place of the benchmark.
    b: usize,
    id: String,
    /// What is asked.
    q: String,
    /// The reference answer.
    r: Option<String>,
    s: Vec<Sample>,
}

#[derive(Serialize)]
struct Sample {
    /// Place of the model.
    m: usize,
    /// Place among the samples of the question.
    p: usize,
    /// What the model wrote.
    t: String,
    /// The answer found in it.
    a: Option<String>,
    /// Whether it is right.
    v: Option<bool>,
    /// Why.
    w: Option<String>,
    /// Whether it ran out of tokens.
    c: bool,
    /// Its tokens.
    n: Option<usize>,
}

/// The section with the controls of the script, and the data beneath them. Empty if there is nothing to read.
pub(super) fn section(report: &Report<'_>) -> String {
    let readings: Vec<&Readings<'_>> = report.readings.iter().filter(|r| !r.samples.is_empty()).collect();
    if readings.is_empty() {
        return String::new();
    }
    let models = distinct(readings.iter().map(|r| r.model));
    let benchmarks = distinct(readings.iter().map(|r| r.benchmark));
    let (questions, left_out) = fitting(grouped(&readings, &models, &benchmarks), ROOM);
    let shown: usize = questions.iter().map(|question| question.s.len()).sum();
    let all: usize = readings.iter().map(|r| r.all.max(r.samples.len())).sum();
    let mut html = String::from("<section id=\"reader\"><h2>Samples to read</h2>\n");
    html += &format!("<p>{} of {} are here.", number(shown), count(all, "sample"));
    if left_out > 0 {
        html +=
            &format!(" {} were left out, as the page would be too large.", count(left_out, "more question"));
    }
    html += "</p>\n<noscript><p class=\"warning\">Showing samples needs JavaScript. All else on this page does \
             not.</p></noscript>\n";
    html += &controls(&models, &benchmarks);
    html += "<p id=\"shown\" aria-live=\"polite\"></p>\n<div id=\"questions\"></div>\n<p id=\"pages\" hidden><button \
             type=\"button\" id=\"earlier\">Earlier</button> <button type=\"button\" id=\"later\">Later</button></p>\n";
    let data = Data { models, benchmarks, questions };
    html +=
        &format!("<script type=\"application/json\" id=\"samples\">{}</script>\n</section>\n", json(&data));
    html
}

fn controls(models: &[&str], benchmarks: &[&str]) -> String {
    let select = |id: &str, label: &str, first: &str, options: &[(String, &str)]| {
        let mut html = format!("<label>{label} <select id=\"{id}\"><option value=\"\">{first}</option>");
        for (value, name) in options {
            html += &format!("<option value=\"{value}\">{}</option>", escaped(name));
        }
        html + "</select></label>\n"
    };
    let numbered =
        |names: &[&'static str]| names.iter().map(|name| ((*name).to_owned(), *name)).collect::<Vec<_>>();
    let places = |names: &[&str]| (0..names.len()).map(|place| place.to_string()).collect::<Vec<_>>();
    let mut html = String::from("<div id=\"controls\" role=\"search\" hidden>\n");
    for (id, names, first) in [("benchmark", benchmarks, "all"), ("model", models, "all")] {
        if names.len() > 1 {
            let options: Vec<_> = places(names).into_iter().zip(names.iter().copied()).collect();
            html += &select(id, id, first, &options);
        }
    }
    let mut verdicts = numbered(&["right", "wrong", "not judged", "truncated"]);
    if models.len() > 1 {
        verdicts.push(("disagree".into(), "models disagree"));
    }
    html += &select("verdict", "verdict", "any", &verdicts);
    html += "<label>text <input type=\"search\" id=\"text\" autocomplete=\"off\"></label>\n<label><input \
             type=\"checkbox\" id=\"whole\"> with the other samples of these questions</label>\n</div>\n";
    html
}

/// Samples by question, in the order that questions first come in, benchmark by benchmark.
fn grouped(readings: &[&Readings<'_>], models: &[&str], benchmarks: &[&str]) -> Vec<Question> {
    let place = |names: &[&str], name: &str| names.iter().position(|known| *known == name).unwrap_or(0);
    let mut questions: Vec<Question> = Vec::new();
    let mut places: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    for group in readings {
        let (b, m) = (place(benchmarks, group.benchmark), place(models, group.model));
        for reading in group.samples {
            let at = *places.entry((b, &reading.id)).or_insert_with(|| {
                let (q, r) = (shortened(&reading.prompt), reading.reference.as_deref().map(shortened));
                questions.push(Question { b, id: reading.id.clone(), q, r, s: Vec::new() });
                questions.len() - 1
            });
            questions[at].s.push(sample(m, reading));
        }
    }
    questions.sort_by_key(|question| question.b);
    questions
}

fn sample(m: usize, reading: &SampleText) -> Sample {
    Sample {
        m,
        p: reading.place,
        t: shortened(&reading.text),
        a: reading.answer.as_deref().map(shortened),
        v: reading.right,
        w: reading.reason.as_deref().map(shortened),
        c: reading.truncated,
        n: reading.tokens,
    }
}

/// The text, without its middle if it is too long.
fn shortened(text: &str) -> String {
    let length = text.chars().count();
    if length <= LONGEST {
        return text.to_owned();
    }
    let start: String = text.chars().take(LONGEST / 2).collect();
    let end: String = text.chars().skip(length - LONGEST / 2).collect();
    format!("{start}\n[… {} left out here …]\n{end}", count(length - LONGEST, "character"))
}

/// The first questions of each benchmark that have room together, and how many have none. Benchmarks take turns.
fn fitting(questions: Vec<Question>, room: usize) -> (Vec<Question>, usize) {
    let mut turns: Vec<(usize, usize, usize)> = Vec::new();
    let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
    for (place, question) in questions.iter().enumerate() {
        let turn = seen.entry(question.b).or_default();
        turns.push((*turn, place, json(question).len() + 1));
        *turn += 1;
    }
    turns.sort_unstable();
    let (mut taken, mut kept) = (0, vec![false; questions.len()]);
    for (_, place, size) in turns {
        kept[place] = taken + size <= room;
        taken += if kept[place] { size } else { 0 };
    }
    let all = questions.len();
    let kept: Vec<Question> =
        questions.into_iter().zip(kept).filter_map(|(q, kept)| kept.then_some(q)).collect();
    let left_out = all - kept.len();
    (kept, left_out)
}

/// JSON that no HTML parser takes for anything but text: "<", ">", "&" and the line ends of JavaScript are written out.
fn json(value: &impl Serialize) -> String {
    // plain structs always become JSON
    let text = serde_json::to_string(value).unwrap_or_else(|_| "null".into());
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => safe += &format!("\\u{:04x}", u32::from(c)),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(id: &str, text: &str) -> SampleText {
        SampleText {
            id: id.into(),
            place: 0,
            prompt: "1 + 1?".into(),
            reference: Some("2".into()),
            text: text.into(),
            answer: None,
            right: None,
            reason: None,
            truncated: false,
            tokens: None,
        }
    }

    fn questions(readings: &[Readings<'_>]) -> Vec<Question> {
        grouped(&readings.iter().collect::<Vec<_>>(), &["a", "b"], &["x", "y"])
    }

    #[test]
    fn samples_of_one_question_stand_together_whoever_wrote_them() {
        let (one, two) = ([reading("q1", "1"), reading("q2", "2")], [reading("q2", "3"), reading("q3", "4")]);
        let of = |model, benchmark, samples| Readings { model, benchmark, samples, all: 2 };
        let found = questions(&[of("a", "x", &one), of("a", "y", &one), of("b", "x", &two)]);
        let told: Vec<_> = found.iter().map(|q| (q.b, q.id.as_str(), q.s.len())).collect();
        assert_eq!(told, [(0, "q1", 1), (0, "q2", 2), (0, "q3", 1), (1, "q1", 1), (1, "q2", 1)]);
    }

    #[test]
    fn data_in_the_page_cannot_end_its_script_and_reads_back_the_same() {
        let hostile = "</script><!--<script>\u{2028}\u{2029}&lt;\0\u{1b}\\u003c";
        let text = json(&hostile);
        assert!(!text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']), "{text}");
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), hostile);
    }

    #[test]
    fn questions_without_room_are_left_out_whole_and_in_turn() {
        let samples: Vec<SampleText> = (0..50).map(|n| reading(&format!("q{n}"), "some text")).collect();
        let of = |benchmark| Readings { model: "a", benchmark, samples: &samples, all: 50 };
        let all = questions(&[of("x"), of("y")]);
        let size = json(&all[0]).len() + 1;
        let (kept, left_out) = fitting(all, 10 * size + 20);
        let of_x = kept.iter().filter(|q| q.b == 0).count();
        assert_eq!((kept.len(), left_out, of_x), (10, 90, 5));
    }

    #[test]
    fn a_very_long_text_keeps_its_two_ends() {
        let text = format!("start{}end", "é".repeat(LONGEST));
        let short = shortened(&text);
        assert!(short.starts_with("start") && short.ends_with("end"));
        assert!(short.contains("8 characters left out") && short.chars().count() < LONGEST + 60);
    }
}
