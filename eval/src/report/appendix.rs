//! The sections of the page that say how its figures were made: intervals, protocols, models and problems.
//!
//! Before: evaluations. After: [`super::page()`] puts the sections in order.

use std::collections::BTreeMap;

use super::Report;
use super::figures::table;
use super::words::{INTERVALS, NONE, count, distinct, duration, escaped, few, number, settings};
use crate::result::{Evaluation, Model, Problems};

/// Problems of one kind that are listed; there may be as many as questions.
pub(super) const PROBLEMS: usize = 50;

/// How to read the intervals.
pub(super) fn intervals() -> String {
    let mut html = String::from("<section id=\"intervals\"><h2>How to read the intervals</h2>\n<dl>\n");
    for (name, means) in INTERVALS {
        html += &format!("<dt>{name}</dt><dd>{means}</dd>\n");
    }
    html + "</dl>\n<p>All are 95 % intervals.</p>\n</section>\n"
}

/// Protocols that differ, each with the evaluations that followed it.
pub(super) fn protocols<'a>(report: &Report<'a>) -> Vec<Vec<&'a Evaluation>> {
    let all: &'a [Evaluation] = report.evaluations;
    let hashes = distinct(all.iter().map(|e| (e.protocol.benchmark.as_str(), e.protocol_hash.as_str())));
    let of = |(benchmark, hash): (&str, &str)| {
        let same = |e: &&Evaluation| e.protocol.benchmark == benchmark && e.protocol_hash == hash;
        all.iter().filter(same).collect()
    };
    hashes.into_iter().map(of).collect()
}

/// Everything that a change of would change the figures.
pub(super) fn protocol(report: &Report<'_>) -> String {
    let mut html = String::from(
        "<section id=\"protocol\"><h2>Protocol</h2>\n<p>The hash names what is listed here but for what changes no figure; figures \
         compare if their hashes are the same. The seed is no part of it.</p>\n",
    );
    let protocols = protocols(report);
    let open = if protocols.len() == 1 { " open" } else { "" };
    for evaluations in protocols {
        let first = evaluations[0];
        let names = evaluations.iter().map(|e| escaped(&e.model.name)).collect::<Vec<_>>().join(", ");
        html += &format!(
            "<details{open}><summary>{}, protocol <code>{}</code>: {names}</summary>\n<dl class=\"settings\">\n",
            escaped(&first.protocol.benchmark),
            escaped(&first.protocol_hash)
        );
        for (name, value) in settings(&first.protocol) {
            html += &format!("<dt>{}</dt><dd>{}</dd>\n", escaped(&name), escaped(&value));
        }
        html += "</dl></details>\n";
    }
    html + "</section>\n"
}

/// What each model is, and what measuring it took.
pub(super) fn models(report: &Report<'_>) -> String {
    let model = |model: &Model| {
        let sha256 = model.sha256.as_deref().map_or(NONE.into(), code);
        vec![escaped(&model.name), escaped(&model.source), escaped(&model.computed), sha256]
    };
    let models: Vec<Vec<String>> =
        distinct(report.evaluations.iter().map(|e| &e.model)).into_iter().map(model).collect();
    let resumed = report.evaluations.iter().any(|e| e.cost.samples_before > 0);
    let cost = |e: &Evaluation| {
        let mut row = vec![
            escaped(&e.model.name),
            escaped(&e.protocol.benchmark),
            e.seed.to_string(),
            duration(e.cost.seconds),
            duration(e.cost.judging_seconds),
            number(e.cost.tokens),
            number(e.cost.prompt_tokens),
        ];
        row.extend(resumed.then(|| number(e.cost.samples_before)));
        row
    };
    let costs: Vec<Vec<String>> = report.evaluations.iter().map(cost).collect();
    let mut head =
        vec!["model", "benchmark", "seed", "time", "of it judging", "tokens drawn", "prompt tokens"];
    // time and tokens are those of the last attempt
    head.extend(resumed.then_some("samples from attempts before, in no time or token here"));
    format!(
        "<section id=\"models\"><h2>Models</h2>\n{}{}</section>\n",
        table("What was measured", &["model", "source", "computed", "SHA-256 of the weights"], &models)
            .replacen("<table>", "<table class=\"words\">", 1),
        table("What measuring took", &head, &costs)
    )
}

/// What is wrong with the questions, by benchmark.
pub(super) fn problems(report: &Report<'_>) -> String {
    let mut html = String::from("<section id=\"problems\"><h2>Problems of the questions</h2>\n");
    for evaluations in protocols(report) {
        let first = evaluations[0];
        html += &format!("<h3>{}</h3>\n", escaped(&first.protocol.benchmark));
        html += &problems_of(&first.problems);
        let skipped: Vec<String> = skipped(&evaluations)
            .into_iter()
            .map(|(id, why, models)| {
                format!("{}, of {}: {}", code(id), escaped(&models.join(", ")), escaped(why))
            })
            .collect();
        html += &list(
            "was not asked, and counts as not right",
            "were not asked, and count as not right",
            &skipped,
        );
        if first.problems == Problems::default() && skipped.is_empty() {
            html += "<p>None was found.</p>\n";
        }
    }
    html + "</section>\n"
}

/// Questions that were not asked, with why and of which models.
pub(super) fn skipped<'a>(evaluations: &[&'a Evaluation]) -> Vec<(&'a str, &'a str, Vec<&'a str>)> {
    let mut found: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for evaluation in evaluations {
        for question in &evaluation.questions {
            if let Some(why) = &question.skipped {
                found.entry((&question.id, why)).or_default().push(&evaluation.model.name);
            }
        }
    }
    found.into_iter().map(|((id, why), models)| (id, why, models)).collect()
}

fn problems_of(problems: &Problems) -> String {
    let unanswered: Vec<String> = problems.unanswered.iter().map(|id| code(id)).collect();
    let pair = |(id, answer): &(String, String)| format!("{}: {}", code(id), code(answer));
    let unreadable: Vec<String> = problems.unreadable.iter().map(pair).collect();
    let twins: Vec<String> =
        problems.duplicates.iter().map(|(one, other)| format!("{} and {}", code(one), code(other))).collect();
    list(
        "has no reference answer, so nothing can be right there",
        "have no reference answer, so nothing can be right there",
        &unanswered,
    ) + &list(
        "has a reference answer that the grader cannot read as mathematics: only the same text is right there",
        "have reference answers that the grader cannot read as mathematics: only the same text is right there",
        &unreadable,
    ) + &list("asks what another asks", "ask what another asks", &twins)
}

fn code(text: &str) -> String {
    format!("<code>{}</code>", escaped(text))
}

/// A folded list under its own length: "3 questions were not asked".
fn list(one: &str, many: &str, items: &[String]) -> String {
    if items.is_empty() {
        return String::new();
    }
    let (shown, more) = few(items, PROBLEMS);
    let says = if items.len() == 1 { one } else { many };
    let mut html = format!(
        "<details class=\"warning\"><summary>{} {says}</summary>\n<ul>",
        count(items.len(), "question")
    );
    for item in shown {
        html += &format!("<li>{item}</li>\n");
    }
    if more > 0 {
        html += &format!("<li>and {} more</li>\n", number(more));
    }
    html + "</ul></details>\n"
}
