//! Functions that hang, crash, print and lie: a bad sample costs only itself, and nothing is waited for without end.

use std::path::Path;
use std::time::{Duration, Instant};

use rewards::{Python, Reward, RewardError};
use serde_json::Map;

use super::common::*;

fn each(deadline: f64) -> Python {
    Python { deadline, ..python("bad.py", Some("each")) }
}

#[test]
fn a_bad_sample_costs_only_itself() {
    let bad =
        ["sleep", "exit", "kill", "raise", "bytes", "sys.exit", "nan", "str", "list", "big", "fork and hold"];
    let mut texts = vec!["good"; 24];
    for (i, text) in bad.iter().enumerate() {
        texts[2 * i + 1] = text;
    }
    texts[2] = "print";
    texts[4] = "fork";
    texts[6] = "none";
    let reward = each(0.6).build("r").unwrap();
    let verdicts = reward.score_all(&rollouts(&texts)).unwrap();
    for (text, verdict) in texts.iter().zip(&verdicts) {
        let wanted = match *text {
            "sleep" => "no answer within 0.6 s (deadline)",
            "exit" => "the worker ended with exit status 3; it printed: ",
            "fork and hold" => "the worker ended with exit status 4",
            "kill" => "the worker ended by signal 9 (SIGKILL)",
            "raise" => "ValueError: no such ? thing",
            "sys.exit" => "SystemExit: 5",
            "bytes" => "wrote bytes that are not UTF-8 as line 1",
            "nan" => "returned nan, wanted a finite number or None",
            "str" => "returned 'abc' (str), wanted a number or None",
            "list" => "returned [1] (list), wanted a number or None",
            "big" => "+300, wanted a number within f32",
            "none" => {
                assert_eq!((verdict.value, &verdict.failure), (None, &None));
                continue;
            }
            _ => {
                assert_eq!(verdict.value, Some(text.len() as f32), "{text}: {verdict:?}");
                continue;
            }
        };
        assert!(failure(verdict).contains(wanted), "{text}: {verdict:?}");
    }
    assert!(failure(&verdicts[3]).ends_with("about to leave"), "{:?}", verdicts[3]);
    // the traceback is the function's own
    let raised = failure(&verdicts[7]);
    assert!(raised.contains("bad.py\", line") && !raised.contains("<string>"), "{raised}");
}

#[test]
fn a_function_of_samples_that_raises_says_nothing_of_the_others() {
    let reward = python("bad.py", Some("one")).build("r").unwrap();
    let verdicts = reward.score_all(&rollouts(&["a", "raise", "abc"])).unwrap();
    assert_eq!((verdicts[0].value, verdicts[2].value), (Some(1.0), Some(3.0)));
    assert!(failure(&verdicts[1]).contains("ValueError"));
}

#[test]
fn answers_of_the_wrong_form_are_said() {
    for (function, wanted) in [
        ("few", "returned 0 values, wanted 1"),
        ("number", "returned 1.0 (float), wanted a list of 1 numbers or None"),
        ("dictionary", "returned a dict with value, wanted `score` in it"),
        (
            "wants",
            "`wants` wants `colour`; there is `prompts`, `completions`, `completion_ids`, `index`, `level`, ",
        ),
    ] {
        let reward = Python { workers: 1, ..python("bad.py", Some(function)) }.build("r").unwrap();
        let verdicts = reward.score_all(&rollouts(&["a"])).unwrap();
        assert!(failure(&verdicts[0]).contains(wanted), "{verdicts:?}");
    }
    let reward = python("bad.py", Some("few")).build("r").unwrap();
    let verdicts = reward.score_all(&rollouts(&["a"; 18])).unwrap();
    assert_eq!(failure(&verdicts[17]), "returned 7 values, wanted 8");
}

#[test]
fn a_function_that_never_answers_ends_a_large_step_at_its_deadline() {
    let reward = Python { deadline: 0.5, ..python("bad.py", Some("hang")) }.build("r").unwrap();
    let many: Vec<_> = (0..400).map(|i| rollout(i / 8, "x")).collect();
    // the same the next time, with new workers
    for _ in 0..2 {
        let begun = Instant::now();
        let Err(RewardError::Hangs { name, why }) = reward.score_all(&many) else { panic!("it hangs") };
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        assert_eq!(name, "r");
        assert!(why.starts_with("`hang` of `") && why.contains("no answer within 0.5 s (deadline)"), "{why}");
        assert!(
            why.contains("no answer to any of its 2 calls; the last was about 1 of the rollouts"),
            "{why}"
        );
    }
}

#[test]
fn a_function_that_only_crashes_ends_a_large_step_soon() {
    let reward = python("bad.py", Some("leave")).build("r").unwrap();
    let many: Vec<_> = (0..400).map(|i| rollout(i / 8, "x")).collect();
    let Err(RewardError::Hangs { why, .. }) = reward.score_all(&many) else { panic!("it crashes") };
    assert!(why.contains("the worker ended with exit status 3"), "{why}");
}

#[test]
fn a_prompt_that_hangs_is_not_a_function_that_hangs() {
    let reward = each(0.5).build("r").unwrap();
    let rollouts: Vec<_> =
        (0..12).map(|i| rollout(i / 2, if i < 2 { "sleep" } else { "longer than that" })).collect();
    let verdicts = reward.score_all(&rollouts).unwrap();
    assert_eq!(verdicts.iter().filter(|verdict| verdict.failure.is_some()).count(), 2);
    assert!(verdicts[2..].iter().all(|verdict| verdict.value == Some(16.0)));
}

/// Numbers of processes that the function wrote down.
#[cfg(target_os = "linux")]
fn left(pids: &Path) -> Vec<String> {
    let all = std::fs::read_to_string(pids).unwrap();
    let mut left: Vec<String> = all.lines().map(str::to_owned).collect();
    left.retain(|pid| Path::new("/proc").join(pid).exists());
    left
}

#[test]
#[cfg(target_os = "linux")]
fn nothing_is_left_running() {
    let pids = scratch("pids.txt");
    let mut args = Map::new();
    args.insert("pids".into(), pids.to_str().unwrap().into());
    let reward = Python { args, ..each(0.5) }.build("r").unwrap();
    let verdicts = reward.score_all(&rollouts(&["a", "b", "family", "fork", "fork and hold"])).unwrap();
    assert_eq!(failure(&verdicts[2]), "no answer within 0.5 s (deadline)");
    assert_eq!(verdicts[3].value, Some(4.0));
    let begun = Instant::now();
    drop(reward);
    assert!(begun.elapsed() < Duration::from_secs(30), "workers that sleep at exit are killed");
    // children of the worker are waited for by another, soon
    while !left(&pids).is_empty() && begun.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(left(&pids), Vec::<String>::new());
}
