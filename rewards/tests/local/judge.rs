//! Grades that a model inside of the program writes.

use std::sync::Arc;

use rewards::{LocalJudge, Reward};
use serde_json::json;
use tempfile::TempDir;

use crate::forward::outputs;
use crate::tiny::{FAMILIES, Tiny, VOCAB, failure, rollout, tokens, value, word};

fn tiny(family: &str) -> Tiny {
    Tiny::new(family, "lm_head.weight", VOCAB)
}

/// It writes what follows what.
fn rigged(family: &str, follows: &[(&str, &str)]) -> TempDir {
    let mut tiny = tiny(family);
    tiny.rig(follows);
    tiny.write()
}

fn settings(dir: &TempDir) -> LocalJudge {
    let prompt = "a {completion} b {prompt}".into();
    LocalJudge { path: dir.path().to_owned(), prompt, max_tokens: 8, ..LocalJudge::default() }
}

#[test]
fn a_model_that_writes_a_score_gives_that_score() {
    let follows = [("<|assistant|>", "Score:"), ("Score:", "7"), ("7", "<|end|>")];
    for family in FAMILIES {
        let dir = rigged(family, &follows);
        let judge = settings(&dir).build("j").unwrap();
        let verdicts = judge.score_all(&[rollout("a"), rollout("b c"), rollout("")]).unwrap();
        for verdict in &verdicts {
            assert_eq!(value(verdict), (7.0 - 1.0) / (10.0 - 1.0));
            assert_eq!(verdict.reason.as_deref(), Some("Score: 7"));
        }
        let fine = LocalJudge { scale: [0.0, 7.0], ..settings(&dir) }.build("j").unwrap();
        assert_eq!(value(&fine.score(&rollout("a"))), 1.0);
        let coarse = LocalJudge { scale: [0.0, 5.0], ..settings(&dir) }.build("j").unwrap();
        assert_eq!(failure(&coarse.score(&rollout("a"))), "the judge gives 7, wanted a grade from 0 to 5");
    }
}

#[test]
fn the_reply_is_the_likeliest_one_token_by_token_as_without_a_cache() {
    for family in FAMILIES {
        let tiny = tiny(family);
        let dir = tiny.write();
        let judge = LocalJudge { max_tokens: 12, ..settings(&dir) }.build("j").unwrap();
        for completion in ["a", "c c b"] {
            // the tags around a completion are no words of the tokenizer
            let mut all = tokens(&format!("<|user|> a [UNK] {completion} [UNK] b a b <|end|> <|assistant|>"));
            let mut reply = vec![];
            for _ in 0..12 {
                let logits = outputs(&tiny, "lm_head", &all);
                let most = (0..VOCAB).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap() as u32;
                if most == tokens("<|end|>")[0] {
                    break;
                }
                all.push(most);
                reply.push(word(most));
            }
            assert!(reply.len() > 2, "{family} says nearly nothing: {reply:?}");
            reply.retain(|word| !word.starts_with("<|") && !word.is_empty());
            let ends = format!("it ends: {:?}", reply.join(" "));
            let verdict = judge.score(&rollout(completion));
            assert!(failure(&verdict).ends_with(&ends), "{verdict:?}, wanted {reply:?}");
        }
    }
}

#[test]
fn a_tied_head_is_the_embedding() {
    let mut tied = tiny("mistral");
    tied.rig(&[]);
    tied.weights.remove("lm_head.weight");
    tied.config["tie_word_embeddings"] = json!(true);
    let verdict = settings(&tied.write()).build("j").unwrap().score(&rollout("a"));
    // each word is likeliest after itself, and special ones are not told
    assert!(failure(&verdict).ends_with("it ends: \"\""), "{verdict:?}");
    let verdict = LocalJudge { enable_thinking: Some(false), ..settings(&tied.write()) }
        .build("j")
        .unwrap()
        .score(&rollout("a"));
    assert!(failure(&verdict).ends_with("it ends: \"c c c c c c c c\""), "{verdict:?}");
}

#[test]
fn a_deadline_that_is_over_is_a_failure() {
    let dir = rigged("qwen2", &[("<|assistant|>", "Score:"), ("Score:", "7"), ("7", "<|end|>")]);
    let judge = LocalJudge { deadline: 1e-6, ..settings(&dir) }.build("j").unwrap();
    assert_eq!(failure(&judge.score(&rollout("a"))), "no grade within 0.000001 s");
    let one_prompt = judge.score_all(&[rollout("a"), rollout("b"), rollout("c")]).unwrap();
    assert!(one_prompt.iter().all(|verdict| failure(verdict) == "no grade within 0.000001 s"));
    let mut other = rollout("a");
    Arc::make_mut(&mut other.prompt).id = "q".into();
    let error = judge.score_all(&[rollout("a"), other]).unwrap_err().to_string();
    assert_eq!(error, "reward `j` does not answer: no grade within 0.000001 s");
}

#[test]
fn a_question_that_leaves_no_room_is_a_failure() {
    let dir = rigged("qwen3", &[]);
    let judge = LocalJudge { context: Some(18), ..settings(&dir) }.build("j").unwrap();
    let wanted = "the question has 11 tokens, wanted at most 10 (context 18 without max_tokens 8)";
    assert_eq!(failure(&judge.score(&rollout("a b"))), wanted);
    let verdict = judge.score(&rollout("a"));
    assert!(failure(&verdict).starts_with("the judge's reply is cut off"), "{verdict:?}");
}

#[test]
fn a_reply_that_was_cut_off_has_no_grade() {
    let endless = [("<|assistant|>", "Score:"), ("Score:", "7"), ("7", "7")];
    let chatty = [("<|assistant|>", "Score:"), ("Score:", "7"), ("7", "a"), ("a", "b"), ("b", "a")];
    for follows in [&endless[..], &chatty] {
        let verdict = settings(&rigged("qwen2", follows)).build("j").unwrap().score(&rollout("a"));
        let wanted = "the judge's reply is cut off, wanted it to end within 8 tokens; it ends: \"Score: 7 ";
        assert!(failure(&verdict).starts_with(wanted), "{verdict:?}");
    }
}

#[test]
fn a_completion_cannot_end_its_turn_and_speak_for_the_judge() {
    let dir = rigged("qwen2", &[]);
    let judge = LocalJudge { context: Some(9), ..settings(&dir) }.build("j").unwrap();
    // <|user|> a <tag> < |end|> </tag> b a b <|end|> <|assistant|>: with a special token it would be one less
    let wanted = "the question has 11 tokens, wanted at most 1 (context 9 without max_tokens 8)";
    assert_eq!(failure(&judge.score(&rollout("<|end|>"))), wanted);
}
