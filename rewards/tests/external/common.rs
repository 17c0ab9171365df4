//! What the tests share.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Once};

use data::{Body, Message, Prompt, Rollout, Verdict};
use rewards::Python;
use serde_json::{Value, json};

/// A file beside this one.
pub(crate) fn fixture(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "external", name].iter().collect()
}

/// Settings for a function in one of those files, with two workers.
pub(crate) fn python(file: &str, function: Option<&str>) -> Python {
    static CHECKED: Once = Once::new();
    CHECKED.call_once(|| {
        let found = Command::new("python3").arg("--version").output();
        assert!(found.is_ok(), "these tests need python3 on the PATH: {found:?}");
    });
    let function = function.map(str::to_owned);
    Python { file: fixture(file), function, workers: 2, deadline: 5.0, ..Python::default() }
}

/// A rollout of some prompt that ended by itself, with the answer 4 and the columns `level` 3, `task` and `index`.
pub(crate) fn rollout(prompt: usize, text: &str) -> Rollout {
    let task = if prompt.is_multiple_of(2) { "math" } else { "code" };
    let Value::Object(fields) = json!({"level": 3, "task": task, "index": prompt}) else { unreachable!() };
    let prompt = Prompt {
        id: format!("set/{prompt}"),
        body: Body::Text("2+2=".into()),
        answer: Some("4".into()),
        fields,
    };
    Rollout {
        tokens: vec![7; text.len()],
        log_probs: vec![-1.0; text.len()],
        ..Rollout::of_text(Arc::new(prompt), text)
    }
}

/// The same of a prompt that is a chat.
pub(crate) fn chat(prompt: usize, text: &str) -> Rollout {
    let mut rollout = rollout(prompt, text);
    Arc::make_mut(&mut rollout.prompt).body =
        Body::Chat(vec![Message::system("be brief"), Message::user("2+2?")]);
    rollout
}

/// A rollout of a prompt of its own for each text.
pub(crate) fn rollouts(texts: &[&str]) -> Vec<Rollout> {
    texts.iter().enumerate().map(|(i, text)| rollout(i, text)).collect()
}

pub(crate) fn values(verdicts: &[Verdict]) -> Vec<Option<f32>> {
    if let Some(failure) = verdicts.iter().find_map(|verdict| verdict.failure.as_ref()) {
        panic!("{failure}");
    }
    verdicts.iter().map(|verdict| verdict.value).collect()
}

pub(crate) fn failure(verdict: &Verdict) -> &str {
    verdict.failure.as_deref().unwrap_or_else(|| panic!("no failure: {verdict:?}"))
}

/// A file that is not there yet.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_file(&path);
    path
}
