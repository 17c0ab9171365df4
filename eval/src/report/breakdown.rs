//! The sections of the page that take figures apart: by level and subject, by number of samples, by length.
//!
//! Before: evaluations. After: [`super::page()`] puts the sections in order, after those of [`super::figures`].

use super::Report;
use super::chart::{Axis, Curve, Row, curves, histogram, whiskers};
use super::figures::{by_benchmark, legend, series, table};
use super::words::{self, count, distinct, escaped, estimate, number};
use crate::result::Evaluation;
use crate::summary::{AtK, QuestionShare, Summary};

/// Models that a chart with all of them in one place can show.
const CROWD: usize = 8;

/// Parts of a benchmark that are shown; a column with more different values is no grouping.
pub(super) const PARTS: usize = 60;

/// Accuracy by level and by subject.
pub(super) fn parts(report: &Report<'_>) -> String {
    let mut html = String::new();
    for (benchmark, evaluations) in by_benchmark(report) {
        html += &parts_of(report, benchmark, "level", &evaluations, |summary| &summary.by_level);
        html += &parts_of(report, benchmark, "subject", &evaluations, |summary| &summary.by_subject);
    }
    match html.is_empty() {
        true => html,
        false => format!("<section id=\"parts\"><h2>Levels and subjects</h2>\n{html}</section>\n"),
    }
}

fn parts_of(
    report: &Report<'_>,
    benchmark: &str,
    kind: &str,
    evaluations: &[&Evaluation],
    of: impl Fn(&Summary) -> &[QuestionShare],
) -> String {
    let names = distinct(evaluations.iter().flat_map(|e| of(&e.summary)).map(|share| share.name.as_str()));
    let (shown, more) = words::few(&names, PARTS);
    if shown.is_empty() {
        return String::new();
    }
    let find = |e: &&Evaluation, name: &str| of(&e.summary).iter().find(|share| share.name == name).cloned();
    let mut html = format!("<h3>{}, by {kind}</h3>\n", escaped(benchmark));
    let questions = |name: &str| evaluations.iter().filter_map(|e| find(e, name)).map(|s| s.questions).max();
    if evaluations.len() <= CROWD {
        let row = |name: &&str| {
            let marks: Vec<_> = evaluations
                .iter()
                .filter_map(|e| Some((series(report, e), find(e, name)?.accuracy?)))
                .collect();
            let alone = evaluations.len() == 1;
            let value = marks.first().filter(|_| alone).map(|(_, accuracy)| estimate(Some(accuracy)));
            let questions = count(questions(name).unwrap_or(0), "question");
            let value = value.map_or_else(|| questions.clone(), |value| format!("{value}, {questions}"));
            Row { name: words::part(kind, name), value, marks }
        };
        let rows: Vec<Row> = shown.iter().map(row).collect();
        let axis = Axis::of_shares(rows.iter().flat_map(|row| &row.marks).map(|(_, estimate)| estimate));
        if evaluations.len() > 1 {
            html += &legend(report, evaluations);
        }
        html += &format!("<figure>{}", whiskers(&rows, &axis));
        html += "<figcaption>Right answers in percent, with 95 % intervals over questions.</figcaption></figure>\n";
    }
    if evaluations.len() > 1 {
        let head: Vec<&str> = [kind, "questions"]
            .into_iter()
            .chain(evaluations.iter().map(|e| e.model.name.as_str()))
            .collect();
        let row = |name: &&str| {
            let shares =
                evaluations.iter().map(|e| estimate(find(e, name).and_then(|s| s.accuracy).as_ref()));
            let start = [escaped(&words::part(kind, name)), number(questions(name).unwrap_or(0))];
            start.into_iter().chain(shares).collect()
        };
        let rows: Vec<Vec<String>> = shown.iter().map(row).collect();
        html += &table(&format!("Accuracy on {benchmark} by {kind}, %"), &head, &rows);
    }
    if more > 0 {
        html +=
            &format!("<p class=\"note\">{} more {kind}s are in evaluation.json only.</p>\n", number(more));
    }
    html
}

/// What several samples of a question are worth together.
pub(super) fn at_k(report: &Report<'_>) -> String {
    type Figure = (&'static str, &'static str, fn(&Summary) -> &[AtK]);
    const FIGURES: [Figure; 3] = [
        ("pass@k", "one of k samples is right", |summary| &summary.pass_at),
        ("pass^k", "all of k samples are right", |summary| &summary.pass_hat),
        ("maj@k", "the majority of k is right", |summary| &summary.majority_at),
    ];
    let mut html = String::new();
    for (benchmark, evaluations) in by_benchmark(report) {
        let several = |e: &&&Evaluation| e.summary.pass_at.iter().any(|at| at.k > 1);
        let evaluations: Vec<&Evaluation> = evaluations.iter().filter(several).copied().collect();
        if evaluations.is_empty() {
            continue;
        }
        html += &format!("<h3>{}</h3>\n", escaped(benchmark));
        let (shown, more) = words::few(&evaluations, CROWD);
        if evaluations.len() > 1 {
            html += &legend(report, shown);
        }
        html += "<div class=\"plots\">\n";
        for (name, means, of) in FIGURES {
            let axis =
                Axis::of_shares(evaluations.iter().flat_map(|e| of(&e.summary)).map(|at| &at.estimate));
            let curve = |e: &&Evaluation| Curve {
                series: series(report, e),
                points: of(&e.summary).iter().map(|at| (at.k, at.estimate)).collect(),
            };
            html += &format!("<figure><h4>{name}: {means}</h4>");
            html += &curves(&shown.iter().map(curve).collect::<Vec<_>>(), &axis);
            html += "<figcaption>k, the number of samples</figcaption></figure>\n";
        }
        html += "</div>\n";
        if more > 0 {
            html += &format!("<p class=\"note\">{} more models are in the table only.</p>\n", number(more));
        }
        let mut ks = distinct(evaluations.iter().flat_map(|e| &e.summary.pass_at).map(|at| at.k));
        ks.sort_unstable();
        let head: Vec<String> = ks.iter().map(|k| format!("k = {k}")).collect();
        let head: Vec<&str> =
            ["model", "figure"].into_iter().chain(head.iter().map(String::as_str)).collect();
        let rows = evaluations.iter().flat_map(|e| FIGURES.iter().map(move |figure| (e, figure)));
        let row = |(e, (name, _, of)): (&&Evaluation, &Figure)| {
            let at = |k: &usize| estimate(of(&e.summary).iter().find(|at| at.k == *k).map(|at| &at.estimate));
            [escaped(&e.model.name), (*name).to_owned()].into_iter().chain(ks.iter().map(at)).collect()
        };
        html += &table(
            &format!("Several samples of a question of {benchmark}, %"),
            &head,
            &rows.map(row).collect::<Vec<_>>(),
        );
    }
    match html.is_empty() {
        true => html,
        false => format!("<section id=\"at-k\"><h2>Several samples of a question</h2>\n{html}</section>\n"),
    }
}

/// How long completions are.
pub(super) fn lengths(report: &Report<'_>) -> String {
    let mut html = String::new();
    for (benchmark, evaluations) in by_benchmark(report) {
        let longest = evaluations.iter().filter_map(|e| Some(e.summary.tokens.as_ref()?.longest)).max();
        let Some(longest) = longest else { continue };
        let mut figures = String::from("<div class=\"plots\">\n");
        for evaluation in &evaluations {
            let Some(tokens) = &evaluation.summary.tokens else { continue };
            let budget = evaluation.protocol.sampling.max_tokens;
            // a budget that is far off would leave no room for the bars
            let end = if budget <= 2 * longest { longest.max(budget) } else { longest };
            figures += &format!("<figure><h4>{}</h4>", escaped(&evaluation.model.name));
            figures += &histogram(&tokens.histogram, end, budget);
            figures +=
                &format!("<figcaption>{}</figcaption></figure>\n", words::lengths(evaluation).join("; "));
        }
        figures += "</div>\n";
        html += &format!("<h3>{}</h3>\n", escaped(benchmark));
        html += "<ul class=\"legend\"><li><span class=\"swatch right\"></span>right</li><li><span class=\"swatch \
                 other\"></span>wrong or not judged</li><li><span class=\"swatch budget\"></span>token \
                 budget</li></ul>\n";
        html += &match evaluations.len() > CROWD {
            true => format!("<details><summary>{} charts</summary>{figures}</details>\n", evaluations.len()),
            false => figures,
        };
    }
    match html.is_empty() {
        true => html,
        false => {
            format!("<section id=\"lengths\"><h2>Length of completions, in tokens</h2>\n{html}</section>\n")
        }
    }
}
