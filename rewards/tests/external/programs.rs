//! Any program over JSON lines.

use std::time::{Duration, Instant};

use rewards::{Command, Reward, RewardError};

use super::common::*;

fn command(words: &[&str], deadline: f64) -> Command {
    let command = words.iter().map(|word| (*word).to_owned()).collect();
    Command { command, workers: 2, deadline, ..Command::default() }
}

/// A program that takes a second to start, and greets then.
fn script(deadline: f64) -> Command {
    let path = fixture("command.py");
    let words = ["python3", path.to_str().unwrap(), "--slow"];
    Command { greets: true, ..command(&words, deadline) }
}

#[test]
fn a_line_of_shell_is_a_reward() {
    let reward = command(&["sh", "-c", "while read -r line; do echo 0.5; done"], 5.0).build("r").unwrap();
    let verdicts = reward.score_all(&rollouts(&["a\nb"; 30])).unwrap();
    assert_eq!(values(&verdicts), [Some(0.5); 30]);
}

#[test]
fn a_bad_sample_costs_only_itself() {
    let texts = ["a", "bc", "exit", "words", "null", "object", "bytes", "sleep"];
    let reward = script(0.6).build("r").unwrap();
    let verdicts = reward.score_all(&rollouts(&texts)).unwrap();
    for (text, verdict) in texts.iter().zip(&verdicts) {
        let wanted = match *text {
            "sleep" => "no answer within 0.6 s (deadline)",
            "exit" => "the worker ended with exit status 7",
            "bytes" => "wrote bytes that are not UTF-8 as line 1 of its answer",
            "words" => "wrote \"oh no\" as line 1 of its answer, wanted JSON",
            "null" => {
                assert_eq!(*verdict, data::Verdict::absent());
                continue;
            }
            "object" => {
                let wanted = data::Verdict::from(0.5).because("because").with_answer(Some("4".into()));
                assert_eq!(*verdict, wanted);
                continue;
            }
            _ => {
                assert_eq!(verdict.value, Some(text.len() as f32 + 3.0), "{verdict:?}");
                continue;
            }
        };
        assert!(failure(verdict).contains(wanted), "{text}: {verdict:?}");
    }
}

#[test]
fn programs_that_never_answer_end_the_step_at_the_deadline() {
    let large = "x".repeat(300_000); // more than a pipe holds
    let many: Vec<_> = (0..50).map(|i| rollout(i / 8, &large)).collect();
    for words in [&["sleep", "1000"][..], &["cat", "/dev/zero"], &["sh", "-c", "exec sleep 1000 <&-"]] {
        let reward = command(words, 0.4).build("r").unwrap();
        let begun = Instant::now();
        assert!(matches!(reward.score_all(&many), Err(RewardError::Hangs { .. })), "{words:?}");
        assert!(begun.elapsed() < Duration::from_secs(30), "{words:?}: {:?}", begun.elapsed());
    }
}

#[test]
fn a_program_that_is_not_there_cannot_start() {
    let error = command(&["no-such-program"], 1.0).build("r").err().unwrap();
    assert!(
        error.to_string().contains("reward `r` cannot start: `no-such-program` cannot be run"),
        "{error}"
    );
    let error = Command { start_deadline: 0.2, ..script(0.6) }.build("r").err().unwrap();
    assert!(error.to_string().contains("was not ready within 0.2 s (start_deadline)"), "{error}");
    assert!(Command::default().build("r").err().unwrap().to_string().contains("command is empty"));
}
