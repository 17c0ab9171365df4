//! Sampling by a server: what is asked of it, and what becomes of every way in which it can fail.

#[path = "../../engine/tests/common/mod.rs"]
mod common;
mod fake;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::Fixture;
use data::{Body, PolicyVersion, Prompt, Rollout, Seed, StopReason};
use engine::model::{Policy, Tokenizer, WeightDtype};
use fake::{Fake, Fault};
use rollout::backend::{Backend, BackendConfig, Job, OpenAi, ServerConfig, ServerError};
use rollout::{RolloutError, SampleProgress, Sampled, Sampling, Slots, Task};

/// 128 tokens of a letter and a digit: `a0`, `a1` … `m7`.
fn tokenizer() -> Tokenizer {
    let name = |id: u32| format!("{}{}", char::from(b'a' + (id / 10) as u8), id % 10);
    let vocab: serde_json::Map<String, serde_json::Value> =
        (0..128).map(|id| (name(id), serde_json::json!(id))).collect();
    let json = serde_json::json!({
        "version": "1.0", "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "a0" },
        "pre_tokenizer": { "type": "Split", "pattern": { "Regex": "[a-m][0-9]" }, "behavior": "Isolated", "invert": false },
        "decoder": { "type": "Fuse" },
    });
    Tokenizer::from_bytes("tiny", json.to_string().as_bytes(), None).expect("tokenizer")
}

fn tasks() -> Vec<Task> {
    (0..3u32)
        .map(|id| {
            let prompt = Prompt {
                id: format!("prompt {id}"),
                body: Body::Text(format!("c{id}d4")),
                answer: None,
                fields: Default::default(),
            };
            Task {
                prompt: Arc::new(prompt),
                tokens: Arc::from([20 + id, 34]),
                max_tokens: None,
                occurrence: 0,
            }
        })
        .collect()
}

const STOPS: [u32; 4] = [1, 2, 3, 4];
const KINDS: [&str; 2] = ["vllm", "sglang"];

fn config(url: &str) -> ServerConfig {
    ServerConfig {
        request_seconds: 5.0,
        update_seconds: 5.0,
        concurrency: 4,
        attempts: 3,
        dtype: WeightDtype::F32,
        ..ServerConfig::at(url)
    }
}

fn build(kind: &str, config: ServerConfig, weights: &Path) -> Box<dyn Backend> {
    let backend = match kind {
        "vllm" => BackendConfig::Vllm(config),
        _ => BackendConfig::Sglang(config),
    };
    assert_eq!(backend.problem(), None);
    backend.build(Slots::default(), weights.to_owned())
}

struct Asking<'a> {
    policy: &'a Policy,
    label: &'a str,
    sampling: Sampling,
    have: &'a [Rollout],
}

fn ask(backend: &dyn Backend, asking: &Asking<'_>) -> Result<Sampled, RolloutError> {
    ask_until(backend, asking, &mut |_| ())
}

fn ask_until(
    backend: &dyn Backend,
    asking: &Asking<'_>,
    progress: &mut dyn FnMut(SampleProgress<'_>),
) -> Result<Sampled, RolloutError> {
    let (tokenizer, tasks) = (tokenizer(), tasks());
    let job = Job {
        policy: asking.policy,
        version: PolicyVersion(7),
        label: asking.label,
        tokenizer: &tokenizer,
        sampling: &asking.sampling,
        stop_tokens: &STOPS,
        tasks: &tasks,
        sizes: 4.into(),
        seed: Seed(5).at(2),
        have: asking.have,
    };
    backend.sample(&job, progress)
}

fn start(fault: Fault, port: u16) -> Fake {
    // other weights than those it will be handed
    let f = Fixture::load("qwen3-tiny");
    let mut policy = f.policy;
    let tensors = policy.tensors().expect("tensors");
    let halved = tensors.iter().map(|(name, x)| (name.clone(), (x * 0.5).expect("half"))).collect();
    policy.set(&halved).expect("set");
    Fake::start(policy, tokenizer(), Vec::new(), fault, port)
}

fn sampling() -> Sampling {
    Sampling { max_tokens: 12, ..Sampling::default() }
}

/// One job on a server with a fault: what came of it.
fn once(kind: &str, fault: Fault) -> (Result<Sampled, RolloutError>, Fake) {
    let (fake, f) = (start(fault, 0), Fixture::load("qwen3-tiny"));
    let folder = tempfile::tempdir().expect("folder");
    let backend = build(kind, config(&fake.url), folder.path());
    let asking = Asking { policy: &f.policy, label: "run-rl-7", sampling: sampling(), have: &[] };
    (ask(&*backend, &asking), fake)
}

fn refusal(kind: &str, fault: Fault) -> (String, usize, Fake) {
    let (result, fake) = once(kind, fault);
    let error = result.expect_err("refused");
    (error.to_string(), error.arrived().len(), fake)
}

#[test]
fn rollouts_are_of_the_weights_that_were_handed_over() {
    for kind in KINDS {
        let (result, fake) = once(kind, Fault::None);
        let sampled = result.expect("rollouts");
        assert_eq!(sampled.rollouts.len(), 12);
        let places: Vec<(String, usize)> =
            sampled.rollouts.iter().map(|r| (r.prompt.id.clone(), r.place)).collect();
        assert!(places.is_sorted(), "in the order of the prompts: {places:?}");
        let f = Fixture::load("qwen3-tiny");
        let sequences: Vec<engine::gradient::Sequence<'_>> = sampled
            .rollouts
            .iter()
            .map(|r| engine::gradient::Sequence { prompt: &r.prompt_tokens, completion: &r.tokens })
            .collect();
        let found = engine::gradient::log_probs(&f.policy, &sequences, 1000, 1.0, false).expect("log-probs");
        for (rollout, log_probs) in sampled.rollouts.iter().zip(found.log_probs) {
            assert_eq!(rollout.log_probs, log_probs, "{kind}: f32 weights and numbers that JSON keeps");
            assert_eq!(rollout.policy, PolicyVersion(7));
            let ended = rollout.tokens.last().is_some_and(|token| STOPS.contains(token));
            assert_eq!(rollout.stop, if ended { StopReason::Token } else { StopReason::Length });
        }
        assert!(!fake.is_paused());
        let wanted: &[&str] = match kind {
            "vllm" => &[
                "/v1/models",
                "/pause?mode=wait",
                "/collective_rpc",
                "/reset_prefix_cache",
                "/update_weight_version",
                "/resume",
                "/weight_info",
            ],
            _ => &[
                "/model_info",
                "/pause_generation",
                "/update_weights_from_disk",
                "/continue_generation",
                "/model_info",
            ],
        };
        assert_eq!(fake.controls(), wanted, "{kind}");
    }
}

#[test]
fn weights_are_handed_over_once_for_each_name_and_the_last_are_kept() {
    let (fake, f) = (start(Fault::None, 0), Fixture::load("qwen3-tiny"));
    let folder = tempfile::tempdir().expect("folder");
    let backend = build("vllm", config(&fake.url), folder.path());
    let updates = |label: &str| {
        let asking = Asking { policy: &f.policy, label, sampling: sampling(), have: &[] };
        ask(&*backend, &asking).expect("rollouts");
        fake.controls().iter().filter(|path| *path == "/collective_rpc").count()
    };
    assert_eq!(["a", "a", "b", "b", "a"].map(updates), [1, 1, 2, 2, 3]);
    let kept: Vec<_> =
        std::fs::read_dir(folder.path()).expect("folder").map(|e| e.expect("entry").file_name()).collect();
    assert_eq!(kept, ["a"]);
    drop(backend);
    assert!(!folder.path().exists(), "and go with the backend");
}

#[test]
fn a_busy_server_is_asked_again_and_a_completion_is_the_same_each_time() {
    for kind in KINDS {
        let (busy, fake) = once(kind, Fault::BusyFor(2));
        let (calm, _) = once(kind, Fault::None);
        let rollouts = |result: Result<Sampled, RolloutError>| result.expect("rollouts").rollouts;
        assert_eq!(rollouts(busy), rollouts(calm));
        assert_eq!(fake.completions(), 12);
    }
}

#[test]
fn what_arrived_before_the_server_died_is_kept_and_the_rest_can_be_had_later() {
    for kind in KINDS {
        let begun = Instant::now();
        let (fake, f) = (start(Fault::DieAfter(5), 0), Fixture::load("qwen3-tiny"));
        let folder = tempfile::tempdir().expect("folder");
        let backend = build(kind, config(&fake.url), folder.path());
        let mut asking = Asking { policy: &f.policy, label: "l", sampling: sampling(), have: &[] };
        let error = ask(&*backend, &asking).expect_err("it died");
        assert!(begun.elapsed() < Duration::from_secs(15), "within its deadline");
        let text = error.to_string();
        assert!(text.contains("of 12 rollouts arrived, then: no answer from http://127.0.0.1:"), "{text}");
        let arrived = error.arrived().to_vec();
        assert!((1..12).contains(&arrived.len()), "{text}");

        let again = start(Fault::None, fake.port());
        asking.have = &arrived;
        let fresh = build(kind, config(&again.url), folder.path());
        let sampled = ask(&*fresh, &asking).expect("rollouts");
        assert_eq!(again.completions(), 12 - arrived.len(), "only what is missing is asked for");
        let (whole, _) = once(kind, Fault::None);
        assert_eq!(sampled.rollouts, whole.expect("rollouts").rollouts);
    }
}

#[test]
fn a_server_that_does_not_answer_is_given_up_at_the_deadline() {
    let (fake, f) = (start(Fault::HangAfter(3), 0), Fixture::load("qwen3-tiny"));
    let folder = tempfile::tempdir().expect("folder");
    let short = ServerConfig { request_seconds: 1.0, ..config(&fake.url) };
    let backend = build("vllm", short, folder.path());
    let begun = Instant::now();
    let asking = Asking { policy: &f.policy, label: "l", sampling: sampling(), have: &[] };
    let error = ask(&*backend, &asking).expect_err("it hangs");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert!(error.to_string().contains("/inference/v1/generate within 1 s"), "{error}");
    assert!(error.arrived().len() >= 3, "{error}");

    // and one that is not there at all
    fake.kill();
    let backend = build("sglang", config(&fake.url), folder.path());
    let error = ask(&*backend, &asking).expect_err("nobody is there");
    assert!(error.to_string().contains("(3 attempts)"), "{error}");
}

#[test]
fn a_server_is_not_waited_for_once_sampling_is_stopped() {
    let (fake, f) = (start(Fault::HangAfter(3), 0), Fixture::load("qwen3-tiny"));
    let folder = tempfile::tempdir().expect("folder");
    let patient = ServerConfig { request_seconds: 600.0, ..config(&fake.url) };
    let backend = build("vllm", patient, folder.path());
    let begun = Instant::now();
    let asking = Asking { policy: &f.policy, label: "l", sampling: sampling(), have: &[] };
    let error = ask_until(&*backend, &asking, &mut |now| now.stop.set(now.finished >= 3));
    let error = error.expect_err("it was asked to");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?} of 600 s", begun.elapsed());
    assert!(matches!(error, RolloutError::Stopped { .. }), "{error}");
    // those that came while it was told to stop are kept as well
    assert!(error.arrived().len() >= 3, "{error}");
}

#[test]
fn every_other_failure_has_a_name() {
    for kind in KINDS {
        let (text, _, _) = refusal(kind, Fault::OtherWeights);
        assert!(text.contains("sampled with weights `somebody-else`, not with `run-rl-7`"), "{text}");
        let (text, _, _) = refusal(kind, Fault::Garbled);
        assert!(text.contains("it is no JSON") && text.contains("<html>502</html>"), "{text}");
        let (text, _, _) = refusal(kind, Fault::ShortLogProbs);
        assert!(text.contains("log-prob"), "{text}");
        let (text, arrived, fake) = refusal(kind, Fault::NoWeights);
        assert!(text.contains("size mismatch"), "{text}");
        assert_eq!((arrived, fake.completions()), (0, 0));
        assert!(!fake.is_paused(), "it is not left paused");
    }
    let (text, _, _) = refusal("vllm", Fault::NoControls);
    assert!(text.contains("VLLM_SERVER_DEV_MODE=1"), "{text}");
}

#[test]
fn another_model_and_settings_beyond_the_server_are_refused_before_anything_is_sampled() {
    let (fake, f) = (start(Fault::None, 0), Fixture::load("qwen3-tiny"));
    let folder = tempfile::tempdir().expect("folder");
    for kind in KINDS {
        let other = ServerConfig { model: Some("other".into()), ..config(&fake.url) };
        let asking = Asking { policy: &f.policy, label: "l", sampling: sampling(), have: &[] };
        let text = ask(&*build(kind, other, folder.path()), &asking).expect_err("refused").to_string();
        assert!(
            text.contains("does not serve model `other`; it serves `") && text.contains("`tiny`"),
            "{text}"
        );
    }
    let refused = |kind: &str, sampling: Sampling| {
        let backend = build(kind, config(&fake.url), folder.path());
        let asking = Asking { policy: &f.policy, label: "l", sampling, have: &[] };
        ask(&*backend, &asking).expect_err("refused").to_string()
    };
    let s = sampling();
    let text = refused("vllm", Sampling { temperature: 0.7, ..s.clone() });
    assert!(text.contains("--logprobs-mode processed_logprobs"), "{text}");
    let text = refused("sglang", Sampling { top_p: 0.9, ..s.clone() });
    assert!(text.contains("top_p"), "{text}");
    let text = refused("vllm", Sampling { forbidden_tokens: vec![3], ..s.clone() });
    assert!(text.contains("forbidden_tokens"), "{text}");
    assert!(BackendConfig::Vllm(config(&fake.url)).unsupported(&s).is_none());
    let text = refused("vllm", Sampling { thinking_budget: Some(3), ..s });
    assert!(text.contains("thinking_budget"), "{text}");
    assert_eq!(fake.completions(), 0);
}

#[test]
fn a_server_of_openais_kind_gives_text_only() {
    let fake = start(Fault::None, 0);
    let server = OpenAi::new(&config(&fake.url));
    let prompts: Vec<Arc<Prompt>> = tasks().into_iter().map(|task| task.prompt).collect();
    let of = |have: &[Rollout]| {
        server.sample(&prompts, 2, &sampling(), Seed(1).at(0), have, &mut |_| ()).expect("rollouts").rollouts
    };
    let rollouts = of(&[]);
    assert_eq!(rollouts.len(), 6);
    assert!(rollouts.iter().all(|r| !r.text.is_empty() && r.tokens.is_empty() && r.log_probs.is_empty()));
    assert_eq!(of(&rollouts[..4]), rollouts);
    assert_eq!(fake.completions(), 6 + 2);
    let greedy = Sampling { top_k: 3, ..sampling() };
    let error = server.sample(&prompts, 1, &greedy, Seed(1).at(0), &[], &mut |_| ()).expect_err("refused");
    assert!(error.to_string().contains("no top_k"), "{error}");
}

#[test]
fn settings_of_a_server_are_checked() {
    let problem = |change: &dyn Fn(&mut ServerConfig)| {
        let mut config = config("http://127.0.0.1:1");
        change(&mut config);
        config.problem().expect("a problem")
    };
    assert!(problem(&|c| c.url = "127.0.0.1:8000".into()).contains("wanted http://"));
    assert!(problem(&|c| c.concurrency = 0).contains("concurrency is 0"));
    assert!(problem(&|c| c.request_seconds = 0.0).contains("request_seconds is 0"));
    assert!(problem(&|c| c.key_variable = Some("EVENKEEL_NO_SUCH".into())).contains("which is not set"));
    let error: RolloutError = ServerError::Weights("x".into()).into();
    assert!(error.arrived().is_empty());
}
