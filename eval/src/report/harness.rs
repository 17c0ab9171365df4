//! The same figures in the shape that lm-evaluation-harness writes, for tools that read it.
//!
//! Before: the evaluations of one model. After: `results.json` and, one line a question, `samples_TASK.jsonl`. Names of keys
//! are those of lm-evaluation-harness 0.4. A standard error is half the 95 % interval divided by 1.96, since it has no place
//! for an interval.

use serde_json::{Map, Value, json};

use crate::record::{Question, Reading};
use crate::result::Evaluation;
use crate::stats::Estimate;

/// Filter that its metrics name: ours has one way to find an answer.
const FILTER: &str = "none";

/// `results.json` of one model. `program` and `version` say who measured.
pub fn results(evaluations: &[&Evaluation], version: &str) -> Value {
    let table = |value: &dyn Fn(&Evaluation) -> Value| -> Value {
        evaluations.iter().map(|e| (e.protocol.benchmark.clone(), value(e))).collect::<Map<_, _>>().into()
    };
    let model = evaluations.first().map(|evaluation| &evaluation.model);
    json!({
        "results": table(&|e| task(e)),
        "group_subtasks": table(&|_| json!([])),
        "configs": table(&|e| json!({
            "task": e.protocol.benchmark,
            "output_type": "generate_until",
            "doc_to_text": e.protocol.prompt.template,
            "description": e.protocol.prompt.system.clone().unwrap_or_default(),
            "num_fewshot": e.protocol.shots.count,
            "repeats": e.protocol.samples.most(),
            "should_decontaminate": false,
            "generation_kwargs": {
                "until": e.protocol.sampling.stop,
                "max_gen_toks": e.protocol.sampling.max_tokens,
                "do_sample": e.protocol.sampling.temperature > 0.0,
                "temperature": e.protocol.sampling.temperature,
                "top_p": e.protocol.sampling.top_p,
            },
            "metadata": { "version": e.protocol_hash, "protocol": e.protocol },
        })),
        "versions": table(&|e| json!(e.protocol_hash)),
        "n-shot": table(&|e| json!(e.protocol.shots.count)),
        "higher_is_better": table(&|e| higher(e)),
        "n-samples": table(&|e| json!({
            "original": e.protocol.questions.count, "effective": e.summary.questions - e.summary.skipped,
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
        "evenkeel_version": version,
        "model_source": "evenkeel",
        "model_name": model.map_or("", |model| &model.source),
        "model_name_sanitized": model.map_or(String::new(), |model| sanitized(&model.name)),
        "total_evaluation_time_seconds": evaluations.iter().map(|e| e.cost.seconds).sum::<f64>().to_string(),
    })
}

/// One line for each question that was asked: `samples_TASK.jsonl`. `readings` are its samples, by question and place.
pub fn samples(evaluation: &Evaluation, readings: &[Reading]) -> Vec<Value> {
    let of =
        |question: &Question| readings.iter().filter(|reading| reading.id == question.id).collect::<Vec<_>>();
    let asked = evaluation.questions.iter().enumerate().filter(|(_, question)| question.skipped.is_none());
    asked
        .map(|(place, question)| {
            let readings = of(question);
            let texts: Vec<&str> = readings.iter().map(|reading| reading.text.as_str()).collect();
            let answers: Vec<&str> =
                readings.iter().map(|r| r.answer.as_deref().unwrap_or("[invalid]")).collect();
            json!({
                "doc_id": place,
                "doc": {
                    "id": question.id,
                    "question": readings.first().map(|reading| &reading.prompt),
                    "level": question.level,
                    "subject": question.subject,
                },
                "target": readings.first().and_then(|reading| reading.reference.as_ref()),
                "resps": [texts],
                "filtered_resps": answers,
                "filter": FILTER,
                "metrics": ["exact_match"],
                "exact_match": question.share(),
            })
        })
        .collect()
}

/// A model's name as part of a file's.
pub fn sanitized(name: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' };
    name.chars().map(plain).collect()
}

fn figures(evaluation: &Evaluation) -> Vec<(String, Estimate, bool)> {
    let summary = &evaluation.summary;
    let mut found: Vec<(String, Estimate, bool)> = Vec::new();
    found.extend(summary.accuracy.map(|estimate| ("exact_match".into(), estimate, true)));
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
