//! What an evaluation leaves: JSON, pages, the shape of lm-evaluation-harness, and a table on the terminal.
//!
//! Before: [`eval::Results`]. After: files in the evaluation's folder.

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::Result;
use eval::report::{Readings, Report, harness, markdown, page, terminal};
use eval::{Benchmark, Evaluation, Question, Results, SampleText};

use super::folder::Folder;
use super::settings::Settings;

/// Writes all of them.
pub(crate) fn write(
    folder: &Folder,
    settings: &Settings,
    benchmarks: &[Benchmark],
    results: &Results,
) -> Result<()> {
    let path = folder.path();
    folder.write_file(&path.join("evaluation.json"), &serde_json::to_vec_pretty(results)?)?;
    let mut chosen: Vec<Vec<SampleText>> = Vec::new();
    let mut hashes: Vec<String> = Vec::new();
    for evaluation in &results.evaluations {
        let samples = folder.samples(&evaluation.model.name, &evaluation.protocol.benchmark)?;
        let mut readings: Vec<SampleText> =
            samples.iter().map(|scored| SampleText::of(scored, &evaluation.protocol.deciding)).collect();
        readings.sort_by(|a, b| (&a.id, a.place).cmp(&(&b.id, b.place)));
        let name = &evaluation.protocol.benchmark;
        let asked = benchmarks.iter().filter(|benchmark| benchmark.protocol.benchmark == *name);
        let prompts = asked.flat_map(|benchmark| &benchmark.prompts).map(|prompt| &**prompt);
        let lines = harness::samples(evaluation, prompts, &readings);
        hashes.push(harness::task_hash(&lines));
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let place = path.join("lm_eval").join(harness::sanitized(&evaluation.model.name));
        folder.write_file(&place.join(harness::samples_file(name, settings.begun)), text.as_bytes())?;
        let questions = to_read(results, &evaluation.protocol.benchmark, settings.read);
        readings
            .retain(|reading| questions.contains(reading.id.as_str()) && reading.place < MOST_OF_A_QUESTION);
        chosen.push(readings);
    }
    let readings: Vec<Readings<'_>> = results
        .evaluations
        .iter()
        .zip(&chosen)
        .map(|(evaluation, samples)| Readings {
            model: &evaluation.model.name,
            benchmark: &evaluation.protocol.benchmark,
            samples,
            all: evaluation.summary.samples,
        })
        .collect();
    let title = path.file_name().map_or_else(|| "evaluation".into(), |name| name.to_string_lossy());
    let Results { evaluations, comparisons, runs, .. } = results;
    let report = Report { title: &title, evaluations, comparisons, runs, readings: &readings };
    folder.write_file(&path.join("report.md"), markdown(&report).as_bytes())?;
    folder.write_file(&path.join("report.html"), page(&report).as_bytes())?;
    for model in &settings.models {
        let of = results.evaluations.iter().zip(&hashes).filter(|(e, _)| e.model.name == model.name);
        let (of, hashes): (Vec<&Evaluation>, Vec<String>) = of.map(|(e, hash)| (e, hash.clone())).unzip();
        let found = harness::results(&of, &hashes, &results.evenkeel, settings.begun);
        let place = path.join("lm_eval").join(harness::sanitized(&model.name));
        let file = place.join(harness::results_file(settings.begun));
        folder.write_file(&file, &serde_json::to_vec_pretty(&found)?)?;
    }
    Ok(())
}

/// Samples of one question that a page shows.
const MOST_OF_A_QUESTION: usize = 4;

/// Questions worth reading, at most so many, the same for all models: those that models differ on or that could not be judged,
/// then cut off, then wrong, then right ones; in the order of the benchmark.
fn to_read<'r>(results: &'r Results, benchmark: &str, most: usize) -> BTreeSet<&'r str> {
    let of: Vec<&Evaluation> =
        results.evaluations.iter().filter(|e| e.protocol.benchmark == benchmark).collect();
    let Some(first) = of.first() else { return BTreeSet::new() };
    let interest = |place: usize| {
        let all: Vec<&Question> = of.iter().filter_map(|e| e.questions.get(place)).collect();
        let shares: Vec<Option<f64>> = all.iter().map(|question| question.share()).collect();
        if shares.iter().any(|share| *share != shares[0]) || shares.contains(&None) {
            0
        } else if all.iter().any(|question| question.samples.iter().any(|sample| sample.truncated)) {
            1
        } else if shares[0] != Some(1.0) {
            2
        } else {
            3
        }
    };
    let mut places: Vec<(usize, usize)> =
        (0..first.questions.len()).map(|place| (interest(place), place)).collect();
    // a third of the page for what went right, so that it is no gallery of failures
    places.sort_unstable();
    let right = places.iter().filter(|(interest, _)| *interest == 3).count();
    let kept_right = right.min(most / 3).max(most.saturating_sub(places.len() - right));
    let (right, others): (Vec<_>, Vec<_>) = places.into_iter().partition(|(interest, _)| *interest == 3);
    let others = others.into_iter().take(most - kept_right.min(most));
    let chosen = others.chain(right.into_iter().take(kept_right));
    chosen.map(|(_, place)| first.questions[place].id.as_str()).collect()
}

/// The summary on the terminal.
pub(crate) fn print(folder: &Folder, results: &Results, json: bool, out: &mut dyn Write) -> Result<()> {
    if json {
        writeln!(out, "{}", serde_json::to_string(results)?)?;
        return Ok(());
    }
    let Results { evaluations, comparisons, runs, .. } = results;
    let report = Report { title: "", evaluations, comparisons, runs, readings: &[] };
    write!(out, "{}", terminal(&report))?;
    writeln!(out, "\n{0}/report.html, report.md, evaluation.json, samples", folder.path().display())?;
    Ok(())
}
