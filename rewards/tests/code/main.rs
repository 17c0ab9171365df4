//! Programs earn what their prompt's tests say, and nothing by tricks.
//!
//! Every test needs `python3`.

mod programs;
mod tricks;

use std::sync::{Arc, LazyLock};

use data::{Body, Prompt, Rollout, Verdict};
use rewards::{Code, CodeReward, Reward, RewardError, SandboxSettings};
use serde_json::{Value, json};

static ALL: LazyLock<CodeReward> = LazyLock::new(|| build(Code::default()));
static SHARE: LazyLock<CodeReward> = LazyLock::new(|| build(Code { all: false, ..Code::default() }));

fn build(code: Code) -> CodeReward {
    let sandbox = SandboxSettings { seconds: 3.0, cpu_seconds: 2, ..code.sandbox };
    Code { sandbox, ..code }.build("code").expect("these tests need python3 and a Linux with Landlock")
}

fn rollout(text: &str, fields: Value) -> Rollout {
    let Value::Object(fields) = fields else { panic!("fields are an object") };
    let prompt = Prompt { id: "p".into(), body: Body::Text("?".into()), answer: None, fields };
    Rollout::of_text(Arc::new(prompt), text)
}

fn program(code: &str, fields: Value) -> Rollout {
    rollout(&format!("So:\n```python\n{code}\n```\n"), fields)
}

fn score(code: &str, tests: Value) -> Verdict {
    ALL.score(&program(code, json!({ "tests": tests })))
}

#[track_caller]
fn earns(verdict: &Verdict, value: f32, reason: &str) {
    assert_eq!(verdict.value, Some(value), "{verdict:?}");
    assert!(verdict.reason.as_deref().unwrap_or_default().contains(reason), "{verdict:?}");
}

#[track_caller]
fn fails(verdict: &Verdict, why: &str) {
    assert!(verdict.value.is_none(), "{verdict:?}");
    assert!(verdict.failure.as_deref().unwrap_or_default().contains(why), "{verdict:?}");
}

const DOUBLE: &str = "print(int(input()) * 2)";

fn doubles() -> Value {
    json!([{"input": "1\n", "output": "2\n"}, {"input": "2\n", "output": "4"}, {"input": "5", "output": "10  \n\n"}])
}
