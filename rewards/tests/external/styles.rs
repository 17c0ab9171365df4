//! Functions as they are written for TRL, for verl and for samples, unchanged.

use std::time::Instant;

use data::StopReason;
use rewards::{Python, Reward, RewardError, Style};
use serde_json::{Map, json};

use super::common::*;

fn judged(settings: Python, rollouts: &[data::Rollout]) -> Vec<Option<f32>> {
    let settings = Python { workers: 1, ..settings };
    values(&settings.build("r").unwrap().score_all(rollouts).unwrap())
}

fn args(value: serde_json::Value) -> Map<String, serde_json::Value> {
    value.as_object().unwrap().clone()
}

fn refused(settings: Python) -> String {
    match (Python { workers: 1, ..settings }).build("r").err().expect("an error") {
        RewardError::Start { name, why } => {
            assert_eq!(name, "r");
            why
        }
        error => panic!("{error}"),
    }
}

#[test]
fn a_length_reward_of_trl() {
    let texts: Vec<String> = (0..50).map(|i| "x".repeat(i)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let wanted: Vec<_> = (0..50).map(|i| Some(20f32.min(i as f32))).collect();
    let reward = python("trl.py", Some("length_reward")).build("r").unwrap();
    assert_eq!(values(&reward.score_all(&rollouts(&texts)).unwrap()), wanted);
    assert_eq!(reward.score_all(&[]).unwrap(), []);
}

#[test]
fn chats_give_completions_of_one_message() {
    let good = "<think>2\n2</think><answer>4</answer>";
    let rollouts = [chat(0, good), chat(0, "4")];
    assert_eq!(judged(python("trl.py", Some("format_reward")), &rollouts), [Some(1.0), Some(0.0)]);
}

#[test]
fn a_function_may_be_async_and_see_tokens() {
    let got = judged(python("trl.py", Some("patient_reward")), &rollouts(&["a", "bc"]));
    assert_eq!(got, [Some(1.4), Some(2.4)]);
}

#[test]
fn none_is_for_other_tasks() {
    let got = judged(python("trl.py", Some("math_reward")), &rollouts(&["4", "4", "5"]));
    assert_eq!(got, [Some(1.0), None, Some(0.0)]);
}

#[test]
fn a_function_without_kwargs_gets_what_it_names() {
    let args = args(json!({"scale": 2}));
    let got = judged(Python { args, ..python("trl.py", Some("column_reward")) }, &rollouts(&["4", "5"]));
    assert_eq!(got, [Some(8.0), Some(-3.0)]);
}

#[test]
fn what_trl_lets_a_function_log_goes_to_the_log() {
    let log = scratch("logged.txt");
    let logging = Python { workers: 1, ..python("trl.py", Some("logging_reward")) }.build("r").unwrap();
    logging.log_to(&log).unwrap();
    assert_eq!(values(&logging.score_all(&rollouts(&["4", "5"])).unwrap()), [Some(1.0), Some(0.0)]);
    drop(logging); // and with it whoever reads what it printed
    let waited = std::time::Instant::now();
    while !std::fs::read_to_string(&log).unwrap().contains("log_metric share: 0.5") {
        assert!(waited.elapsed().as_secs() < 10, "nothing in the log");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let reward = python("trl.py", Some("stateful_reward")).build("r").unwrap();
    let why = reward.score(&rollout(0, ""));
    assert!(failure(&why).contains("no `global_step`: a reward must not depend on the step"), "{why:?}");
}

#[test]
fn a_score_of_verl_is_found_among_its_helpers() {
    let args = args(json!({"format_score": 0.25}));
    let texts = rollouts(&["so #### 4", "#### 1, #### 5", "4"]);
    let got = judged(Python { args, ..python("verl_gsm8k.py", None) }, &texts);
    assert_eq!(got, [Some(1.0), Some(0.25), Some(0.0)]);
}

#[test]
fn a_dict_of_verl_has_its_numbers_as_reason() {
    let args = args(json!({"bonus": 0.5}));
    let reward = Python { args, ..python("verl_dict.py", None) }.build("r").unwrap();
    let mut other = rollout(1, "5");
    let fields = &mut std::sync::Arc::make_mut(&mut other.prompt).fields;
    fields.insert("reward_model".into(), json!({"style": "rule", "ground_truth": "5"}));
    fields.insert("extra_info".into(), json!({"index": 8}));
    let verdicts = reward.score_all(&[rollout(0, "44"), rollout(0, "6"), other]).unwrap();
    assert_eq!(values(&verdicts), [Some(1.5), Some(0.5), Some(1.5)]);
    assert_eq!(verdicts[0].reason.as_deref(), Some("acc True, length 2"));
}

#[test]
fn a_function_of_one_parameter_gets_a_sample() {
    let mut cut = rollout(0, "cut");
    cut.stop = StopReason::Length;
    let got = judged(python("plain.py", None), &[rollout(0, "abc"), cut]);
    assert_eq!(got, [Some(103.3), None]);
}

#[test]
fn a_style_can_be_told() {
    let sample = Python { style: Style::Sample, ..python("plain.py", Some("helper")) };
    assert_eq!(judged(sample, &rollouts(&["abc"])), [Some(10.0)]);
    assert_eq!(serde_json::from_str::<Python>(r#"{"style": "verl"}"#).unwrap().style, Style::Verl);
    assert!(serde_json::from_str::<Python>(r#"{"log": "x"}"#).is_err());
}

#[test]
fn what_cannot_start_says_why() {
    let why = refused(python("syntax_error.py", None));
    assert!(why.contains("SyntaxError") && why.contains("syntax_error.py\", line 1"), "{why}");
    let why = refused(python("import_error.py", None));
    assert!(
        why.contains("import_error.py\", line 1") && why.contains("No module named 'no_such_module_at_all'"),
        "{why}"
    );
    assert!(refused(python("nowhere.py", None)).contains("no Python file `"));
    let why = refused(python("plain.py", Some("rewards")));
    assert!(
        why.contains("no function `rewards`") && why.contains("its functions: `helper`, `reward`"),
        "{why}"
    );
    let why = refused(python("trl.py", None));
    assert!(why.contains("has several reward functions: `length_reward`, `format_reward`"), "{why}");
    for function in [None, Some("two")] {
        let why = refused(python("no_candidate.py", function));
        assert!(why.contains("found `two(a, b)`") && why.contains("wanted `completions` (TRL)"), "{why}");
    }
    let why = refused(Python { python: "no-such-python".into(), ..python("plain.py", None) });
    assert!(why.contains("`no-such-python` cannot be run"), "{why}");
    let why = refused(Python { args: args(json!({"colour": 1})), ..python("verl_gsm8k.py", None) });
    assert!(why.contains("args has `colour`, which `compute_score(solution_str, "), "{why}");
    let begun = Instant::now();
    let why = refused(Python { start_deadline: 0.5, ..python("slow_import.py", None) });
    assert!(why.contains("was not ready within 0.5 s (start_deadline)"), "{why}");
    assert!(begun.elapsed().as_secs_f64() < 30.0);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let fine = || python("plain.py", None);
    for (settings, part) in [
        (Python::default(), "file is not set"),
        (Python { workers: 0, ..fine() }, "workers is 0, wanted 1 to"),
        (Python { batch: 0, ..fine() }, "batch is 0"),
        (Python { deadline: -1.0, ..fine() }, "deadline is -1, wanted seconds, more than 0"),
        (Python { start_deadline: f64::NAN, ..fine() }, "start_deadline is NaN"),
    ] {
        let Some(RewardError::Setting { what }) = settings.build("r").err() else { panic!("{part}") };
        assert!(what.starts_with("reward `r`: ") && what.contains(part), "{what}");
    }
}

/// `cargo test -p evenkeel-rewards --test external -- --ignored` says whether it holds on this machine.
#[test]
#[ignore = "a measurement"]
fn a_trivial_function_costs_less_than_a_millisecond_a_sample() {
    let reward = python("trl.py", Some("length_reward")).build("r").unwrap();
    let text = "some words of a completion ".repeat(40);
    let rollouts: Vec<_> = (0..256).map(|i| rollout(i / 8, &text)).collect();
    reward.score_all(&rollouts).unwrap();
    // the best of some, as other tests run at the same time
    let best = (0..5).map(|_| {
        let begun = Instant::now();
        assert_eq!(reward.score_all(&rollouts).unwrap().len(), 256);
        begun.elapsed()
    });
    let best = best.min().unwrap() / 256;
    assert!(best.as_secs_f64() < 1e-3, "{best:?} a sample");
}
