//! The sections of the page that show the main figures: accuracy and comparisons.
//!
//! Before: evaluations. After: [`super::page()`] puts the sections in order. Every chart has its numbers in a table or beside
//! it, so that nothing is told by a picture or a colour alone.

use super::Report;
use super::chart::{Axis, Row, whiskers};
use super::words::{
    self, NONE, difference, distinct, escaped, estimate, interval, mean, method, number, percent,
};
use crate::result::{Comparison, Evaluation};

/// Comparisons that are put into words; more stay in the chart and in evaluation.json.
pub(super) const COMPARISONS: usize = 100;

/// Benchmarks in the order they first come in, each with its evaluations.
pub(super) fn by_benchmark<'a>(report: &Report<'a>) -> Vec<(&'a str, Vec<&'a Evaluation>)> {
    let all: &'a [Evaluation] = report.evaluations;
    let names = distinct(all.iter().map(|e| e.protocol.benchmark.as_str()));
    names
        .into_iter()
        .map(|name| (name, all.iter().filter(|e| e.protocol.benchmark == name).collect()))
        .collect()
}

/// Models in the order they first come in; their places are their colours.
pub(super) fn models<'a>(report: &Report<'a>) -> Vec<&'a str> {
    distinct(report.evaluations.iter().map(|e| e.model.name.as_str()))
}

/// The number of a model's colour.
pub(super) fn series(report: &Report<'_>, evaluation: &Evaluation) -> usize {
    models(report).iter().position(|name| *name == evaluation.model.name).unwrap_or(0)
}

/// A table; the first cell of a row is its head. Cells are HTML.
pub(super) fn table(caption: &str, head: &[&str], rows: &[Vec<String>]) -> String {
    let label = escaped(caption);
    let mut html =
        format!("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{label}\"><table>");
    html += &format!("<caption><span>{label}</span></caption>\n<thead><tr>");
    for name in head {
        html += &format!("<th scope=\"col\">{}</th>", escaped(name));
    }
    html += "</tr></thead>\n<tbody>\n";
    for row in rows {
        let cells: Vec<String> = row.iter().skip(1).map(|cell| format!("<td>{cell}</td>")).collect();
        // short names keep their line, long ones may break
        let class = if row[0].chars().count() > 32 { " class=\"long\"" } else { "" };
        html += &format!("<tr><th scope=\"row\"{class}>{}</th>{}</tr>\n", row[0], cells.concat());
    }
    html + "</tbody></table></div>\n"
}

/// Which colour is which model.
pub(super) fn legend(report: &Report<'_>, shown: &[&Evaluation]) -> String {
    let mut html = String::from("<ul class=\"legend\">");
    for evaluation in shown {
        let (colour, name) = (series(report, evaluation) % 8, escaped(&evaluation.model.name));
        html += &format!("<li><span class=\"swatch s{colour}\"></span>{name}</li>");
    }
    html + "</ul>\n"
}

/// Accuracy of every model on every benchmark.
pub(super) fn accuracy(report: &Report<'_>) -> String {
    let mut html = String::from("<section id=\"accuracy\"><h2>Accuracy</h2>\n");
    for (benchmark, evaluations) in by_benchmark(report) {
        html += &format!("<h3>{}</h3>\n", escaped(benchmark));
        html += &mixed(&evaluations);
        let estimates = evaluations.iter().filter_map(|e| e.summary.accuracy.as_ref());
        let axis = Axis::of_shares(estimates);
        let row = |e: &&Evaluation| Row {
            name: e.model.name.clone(),
            value: e
                .summary
                .accuracy
                .as_ref()
                .map_or("nothing judged".into(), |accuracy| estimate(Some(accuracy))),
            marks: e.summary.accuracy.iter().map(|accuracy| (series(report, e), *accuracy)).collect(),
        };
        let rows: Vec<Row> = evaluations.iter().map(row).collect();
        html += &format!("<figure>{}", whiskers(&rows, &axis));
        html += "<figcaption>Right answers in percent, with 95 % intervals over questions.</figcaption></figure>\n";
        html += &numbers(benchmark, &evaluations);
    }
    html + "</section>\n"
}

/// A warning if the models of a benchmark were not measured alike.
fn mixed(evaluations: &[&Evaluation]) -> String {
    let hashes = distinct(evaluations.iter().map(|e| e.protocol_hash.as_str()));
    let seeds = distinct(evaluations.iter().map(|e| e.seed));
    let mut html = String::new();
    if hashes.len() > 1 {
        html += &format!(
            "<p class=\"warning\">These were measured by {} different <a href=\"#protocol\">protocols</a>, so their figures \
             do not compare.</p>\n",
            hashes.len()
        );
    }
    if seeds.len() > 1 {
        html += "<p class=\"warning\">These were measured with different seeds: they did not meet the same luck.</p>\n";
    }
    html
}

/// A column of the table of numbers: its head, and what stands in it.
type Column = (&'static str, fn(&Evaluation) -> Option<String>);

const COLUMNS: [Column; 10] = [
    ("accuracy, %", |e| Some(estimate(e.summary.accuracy.as_ref()))),
    ("questions", |e| Some(number(e.summary.questions))),
    ("samples", |e| Some(number(e.summary.samples))),
    ("exact", |e| e.summary.exact.as_ref().map(|exact| interval(&exact.interval))),
    ("over draws", |e| e.summary.over_draws.as_ref().map(|draws| interval(&draws.interval))),
    ("format, %", |e| e.summary.format_rate.as_ref().map(|rate| percent(rate.value))),
    ("truncated, %", |e| e.summary.truncation_rate.as_ref().map(|rate| percent(rate.value))),
    ("tokens, mean", |e| {
        let tokens = e.summary.tokens.as_ref()?;
        let bounds = tokens.interval.map(|bounds| format!(" [{}, {}]", mean(bounds.low), mean(bounds.high)));
        Some(mean(tokens.mean) + &bounds.unwrap_or_default())
    }),
    ("tokens / s", |e| e.cost.tokens_per_second().map(mean)),
    ("protocol", |e| Some(format!("<a href=\"#protocol\"><code>{}</code></a>", escaped(&e.protocol_hash)))),
];

/// The numbers of a benchmark, a row a model, and what is wrong with them.
fn numbers(benchmark: &str, evaluations: &[&Evaluation]) -> String {
    // what no model has is no column
    let columns: Vec<&Column> =
        COLUMNS.iter().filter(|(_, of)| evaluations.iter().any(|e| of(e).is_some())).collect();
    let head: Vec<&str> = std::iter::once("model").chain(columns.iter().map(|(name, _)| *name)).collect();
    let row = |e: &&Evaluation| {
        let cells = columns.iter().map(|(_, of)| of(e).unwrap_or(NONE.into()));
        std::iter::once(escaped(&e.model.name)).chain(cells).collect()
    };
    let rows: Vec<Vec<String>> = evaluations.iter().map(row).collect();
    let methods =
        distinct(evaluations.iter().filter_map(|e| Some(method(&e.summary.accuracy.as_ref()?.method))));
    let caption = match methods.is_empty() {
        true => format!("Numbers of {benchmark}"),
        false => format!("Numbers of {benchmark}; intervals of accuracy {}", methods.join(" or ")),
    };
    let mut html = table(&caption, &head, &rows);
    let part = |e: &&Evaluation| {
        Some(format!("<li><b>{}</b>: {}</li>\n", escaped(&e.model.name), words::draws_part(e)?))
    };
    let parts: String = evaluations.iter().filter_map(part).collect();
    if !parts.is_empty() {
        html += &format!("<ul class=\"note\">\n{parts}</ul>\n");
    }
    let flaw = |e: &&Evaluation| {
        let flaws = words::flaws(e);
        (!flaws.is_empty())
            .then(|| format!("<li><b>{}</b>: {}</li>\n", escaped(&e.model.name), flaws.join("; ")))
    };
    let flaws: String = evaluations.iter().filter_map(flaw).collect();
    if !flaws.is_empty() {
        html += &format!("<ul class=\"warning\">\n{flaws}</ul>\n");
    }
    html
}

/// Models against each other, on the same questions.
pub(super) fn comparisons(report: &Report<'_>) -> String {
    if report.comparisons.is_empty() {
        return String::new();
    }
    let mut html = String::from("<section id=\"comparisons\"><h2>Comparisons</h2>\n");
    let axis = Axis::of_differences(&report.comparisons.iter().map(words::paired).collect::<Vec<_>>());
    for benchmark in distinct(report.comparisons.iter().map(|c| c.benchmark.as_str())) {
        let here: Vec<&Comparison> = report.comparisons.iter().filter(|c| c.benchmark == benchmark).collect();
        let row = |c: &&Comparison| Row {
            name: format!("{} minus {}", c.b, c.a),
            value: difference(c),
            marks: vec![(0, words::paired(c))],
        };
        html += &format!("<h3>{}</h3>\n<figure>", escaped(benchmark));
        html += &whiskers(&here.iter().map(row).collect::<Vec<_>>(), &axis);
        html += "<figcaption>Difference in points on the same questions, with 95 % intervals over questions. An \
                 interval that holds 0 shows no difference.</figcaption></figure>\n<ul class=\"verdicts\">\n";
        let (shown, more) = words::few(&here, COMPARISONS);
        for comparison in shown {
            let bold = |name: &str| format!("<b>{}</b>", escaped(name));
            let verdict =
                words::verdict(comparison, &bold(&comparison.a), &bold(&comparison.b), &escaped(benchmark));
            html += &format!("<li>{verdict}");
            if !comparison.differences.is_empty() {
                let differences = escaped(&comparison.differences.join("; "));
                html += &format!(" <span class=\"warning\">{}{differences}.</span>", words::DIFFERENT);
            }
            html += "</li>\n";
        }
        if more > 0 {
            html += &format!("<li>{} more are in the chart only.</li>\n", number(more));
        }
        html += "</ul>\n";
    }
    html += &words::by_chance(report.comparisons.len())
        .map_or(String::new(), |note| format!("<p class=\"note\">{note}</p>\n"));
    html + "</section>\n"
}

/// What runs of one recipe say together.
pub(super) fn runs(report: &Report<'_>) -> String {
    if report.runs.is_empty() {
        return String::new();
    }
    let lines: String =
        report.runs.iter().map(|runs| format!("<li>{}</li>\n", escaped(&super::runs(runs)))).collect();
    format!("<section id=\"runs\"><h2>Runs of one recipe</h2>\n<ul>\n{lines}</ul>\n</section>\n")
}
