//! The same figures in the shape that lm-evaluation-harness writes, for tools that read it.
//!
//! Before: the evaluations of one model. After: `results_DATE.json` and, one line a question, `samples_TASK_DATE.jsonl`, by
//! which its tools find them. Names of keys, and what is hashed, are those of lm-evaluation-harness 0.4. A standard error is
//! half the 95 % interval divided by 1.96, since it has no place for an interval.

use data::{Body, Prompt};
use serde_json::{Map, Value, json};

use crate::protocol::{Protocol, sha256_of};
use crate::record::{Question, SampleText};
use crate::result::Evaluation;
use crate::stats::Estimate;

/// Filter that its metrics name: ours has one way to find an answer.
const FILTER: &str = "none";
/// The metric that every line of samples has.
const METRIC: &str = "exact_match";

/// When an evaluation was begun, as the harness writes it into names: `2026-01-31T23-59-59.123456`, of microseconds since
/// 1970 in UTC.
pub fn date(micros: u64) -> String {
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // years of 365.2425 days that begin in March, so that the day that comes and goes is their last
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = 400 * era + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}-{minute:02}-{second:02}.{micros:06}")
}

/// `results_DATE.json`: the name of the file of figures.
pub fn results_file(micros: u64) -> String {
    format!("results_{}.json", date(micros))
}

/// `samples_TASK_DATE.jsonl`: the name of the file of a benchmark's samples.
pub fn samples_file(benchmark: &str, micros: u64) -> String {
    format!("samples_{}_{}.jsonl", sanitized(benchmark), date(micros))
}

/// The figures of one model. `version` says who measured and `micros` when, in microseconds since 1970; `hashes` are the
/// [`task_hash`] of each evaluation.
pub fn results(evaluations: &[&Evaluation], hashes: &[String], version: &str, micros: u64) -> Value {
    let table = |value: &dyn Fn(&Evaluation) -> Value| -> Value {
        evaluations.iter().map(|e| (e.protocol.benchmark.clone(), value(e))).collect::<Map<_, _>>().into()
    };
    let model = evaluations.first().map(|evaluation| &evaluation.model);
    let hashes = evaluations.iter().zip(hashes).map(|(e, hash)| (e.protocol.benchmark.clone(), json!(hash)));
    json!({
        "results": table(&|e| task(e)),
        "group_subtasks": table(&|_| json!([])),
        "configs": table(&|e| json!({
            "task": e.protocol.benchmark,
            "output_type": "generate_until",
            "doc_to_text": e.protocol.prompt.template,
            "description": e.protocol.prompt.system.clone().unwrap_or_default(),
            "num_fewshot": e.protocol.shots.count,
            "metric_list": [{ "metric": METRIC, "aggregation": "mean", "higher_is_better": true }],
            "repeats": e.protocol.samples.most(),
            "should_decontaminate": false,
            "generation_kwargs": generation(&e.protocol),
            "metadata": { "version": e.protocol_hash, "protocol": e.protocol },
        })),
        "versions": table(&|e| json!(e.protocol_hash)),
        "n-shot": table(&|e| json!(e.protocol.shots.count)),
        "higher_is_better": table(&|e| higher(e)),
        "n-samples": table(&|e| json!({
            "original": e.protocol.questions.count,
            "effective": e.questions.iter().filter(|question| question.share().is_some()).count(),
        })),
        "config": {
            "model": "evenkeel",
            "model_args": format!("pretrained={}", model.map_or("", |model| &model.source)),
            "model_sha": model.and_then(|model| model.sha256.clone()),
            "dtype": model.map_or("", |model| &model.computed),
            "batch_size": Value::Null,
            "limit": Value::Null,
            "random_seed": evaluations.first().map(|e| e.seed),
        },
        "git_hash": Value::Null,
        "date": micros as f64 / 1e6,
        "task_hashes": hashes.collect::<Map<_, _>>(),
        "evenkeel_version": version,
        "model_source": "evenkeel",
        "model_name": model.map_or("", |model| &model.source),
        "model_name_sanitized": model.map_or(String::new(), |model| sanitized(&model.name)),
        "total_evaluation_time_seconds": evaluations.iter().map(|e| e.cost.seconds).sum::<f64>().to_string(),
    })
}

/// One line for each question, those that were not asked among them. `prompts` are the questions as they are asked, and
/// `readings` their samples, by question and place.
pub fn samples<'p>(
    evaluation: &Evaluation,
    prompts: impl IntoIterator<Item = &'p Prompt>,
    readings: &[SampleText],
) -> Vec<Value> {
    let prompts: std::collections::BTreeMap<&str, &Prompt> =
        prompts.into_iter().map(|prompt| (prompt.id.as_str(), prompt)).collect();
    let line = |(place, question): (usize, &Question)| {
        let readings: Vec<&SampleText> = readings.iter().filter(|r| r.id == question.id).collect();
        let prompt = prompts.get(question.id.as_str());
        let asked = prompt.map_or_else(String::new, |prompt| whole(prompt));
        let target = prompt.and_then(|prompt| prompt.reference()).unwrap_or_default();
        let doc = json!({
            "id": question.id,
            "question": prompt.map(|prompt| crate::record::question(prompt)),
            "level": question.level,
            "subject": question.subject,
        });
        // a value of plain text and numbers always becomes JSON
        let doc_hash = sha256_of(&serde_json::to_string_pretty(&doc).unwrap_or_default());
        let (texts, answers) = match question.skipped {
            // its tools take the first of each
            Some(_) => (vec![""], vec!["[invalid]"]),
            None => (
                readings.iter().map(|reading| reading.text.as_str()).collect(),
                readings.iter().map(|reading| reading.answer.as_deref().unwrap_or("[invalid]")).collect(),
            ),
        };
        json!({
            "doc_id": place,
            "doc": doc,
            "target": target,
            "arguments": { "gen_args_0": { "arg_0": asked, "arg_1": generation(&evaluation.protocol) } },
            "resps": [texts],
            "filtered_resps": answers,
            "filter": FILTER,
            "metrics": [METRIC],
            "doc_hash": doc_hash,
            "prompt_hash": sha256_of(&asked),
            "target_hash": sha256_of(target),
            METRIC: question.share(),
        })
    };
    evaluation.questions.iter().enumerate().map(line).collect()
}

/// The hash of a benchmark's lines: of their hashes, one behind the other.
pub fn task_hash(lines: &[Value]) -> String {
    let names = ["doc_hash", "prompt_hash", "target_hash"];
    let hashes = lines.iter().flat_map(|line| names.iter().filter_map(|name| line[name].as_str()));
    sha256_of(&hashes.collect::<String>())
}

/// A prompt as one text: what it says, or its turns as JSON, as the harness has them for chats.
fn whole(prompt: &Prompt) -> String {
    match &prompt.body {
        Body::Text(text) => text.clone(),
        // turns are plain text
        Body::Chat(turns) => serde_json::to_string(turns).unwrap_or_default(),
    }
}

fn generation(protocol: &Protocol) -> Value {
    json!({
        "until": protocol.sampling.stop,
        "max_gen_toks": protocol.sampling.max_tokens,
        "do_sample": protocol.sampling.temperature > 0.0,
        "temperature": protocol.sampling.temperature,
        "top_p": protocol.sampling.top_p,
    })
}

/// A model's name as part of a file's.
pub fn sanitized(name: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' };
    name.chars().map(plain).collect()
}

fn figures(evaluation: &Evaluation) -> Vec<(String, Estimate, bool)> {
    let summary = &evaluation.summary;
    let mut found: Vec<(String, Estimate, bool)> = Vec::new();
    found.extend(summary.accuracy.map(|estimate| (METRIC.into(), estimate, true)));
    let many = summary.pass_at.len() > 1;
    for (name, figures) in
        [("pass@", &summary.pass_at), ("pass^", &summary.pass_hat), ("maj@", &summary.majority_at)]
    {
        found
            .extend(figures.iter().filter(|_| many).map(|at| (format!("{name}{}", at.k), at.estimate, true)));
    }
    found.extend(summary.format_rate.map(|estimate| ("format_rate".into(), estimate, true)));
    found.extend(summary.truncation_rate.map(|estimate| ("truncation_rate".into(), estimate, false)));
    found
}

fn task(evaluation: &Evaluation) -> Value {
    let mut task = Map::new();
    task.insert("alias".into(), json!(evaluation.protocol.benchmark));
    for (name, estimate, _) in figures(evaluation) {
        task.insert(format!("{name},{FILTER}"), json!(estimate.value));
        let error = estimate.interval.half_width() / 1.959_964;
        task.insert(format!("{name}_stderr,{FILTER}"), json!(error));
    }
    Value::Object(task)
}

fn higher(evaluation: &Evaluation) -> Value {
    let figures = figures(evaluation).into_iter();
    figures.map(|(name, _, higher)| (name, json!(higher))).collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::super::page::tests::evaluation;
    use super::*;

    #[test]
    fn a_date_is_the_harness_own() {
        assert_eq!(date(0), "1970-01-01T00-00-00.000000");
        assert_eq!(date(951_782_399_000_001), "2000-02-28T23-59-59.000001");
        assert_eq!(date(951_782_400_000_000), "2000-02-29T00-00-00.000000");
        assert_eq!(date(1_772_323_199_123_456), "2026-02-28T23-59-59.123456");
        assert_eq!(date(1_772_323_200_000_000), "2026-03-01T00-00-00.000000");
        assert_eq!(samples_file("gsm8k", 0), "samples_gsm8k_1970-01-01T00-00-00.000000.jsonl");
    }

    #[test]
    fn every_question_is_a_line_with_hashes_and_their_mean_is_the_figure() {
        let mut evaluation = evaluation("m", "b", 6, 2);
        evaluation.questions[4].skipped = Some("too long".into());
        evaluation.questions[4].samples.clear();
        let prompt = |question: &Question| Prompt {
            id: question.id.clone(),
            body: Body::Text(format!("what is {}?", question.id)),
            answer: Some("é".into()),
            fields: Default::default(),
        };
        let prompts: Vec<Prompt> = evaluation.questions.iter().map(prompt).collect();
        let lines = samples(&evaluation, &prompts, &[]);
        assert_eq!(lines.len(), 6);
        let shares: Vec<f64> = lines.iter().filter_map(|line| line["exact_match"].as_f64()).collect();
        let wanted: Vec<f64> = evaluation.questions.iter().filter_map(Question::share).collect();
        assert_eq!(shares, wanted);
        let line = &lines[4];
        assert_eq!(line["arguments"]["gen_args_0"]["arg_0"], "what is q4?");
        // sha256sum of the text itself, without a line break
        assert_eq!(line["target_hash"], "4a99557e4033c3539de2eb65472017cad5f9557f7a0625a09f1c3f6e2ba69c4c");
        let other = samples(&evaluation, &prompts[1..], &[]);
        assert_ne!(task_hash(&lines), task_hash(&other));
        assert_eq!(task_hash(&lines).len(), 64);
    }
}
