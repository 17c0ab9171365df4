//! Training whose rollouts come from a server.

use std::path::Path;

use candle_core::Device;
use engine::model::{Checkpoint, Policy};

use crate::fake::{Fake, Fault};
use crate::{evenkeel, fail, metrics, succeed};

fn server(fault: Fault, port: u16) -> Fake {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("tiny");
    let checkpoint = Checkpoint::open(&place.display().to_string(), None).expect("checkpoint");
    let config = checkpoint.config().expect("config");
    let stop_tokens = config.eos_token_ids.clone();
    let weights = checkpoint.weights(&Device::Cpu).expect("weights");
    let policy = Policy::new(config, weights, &Device::Cpu).expect("policy");
    Fake::start(policy, checkpoint.tokenizer().expect("tokenizer"), stop_tokens, fault, port)
}

const STEPS: usize = 4;
const ROLLOUTS: usize = 8 * 4;

fn arguments(out: &str, kind: &str, fake: &Fake) -> Vec<String> {
    let backend = format!(
        "rollout.backend={{ {kind} = {{ url = \"{}\", request_seconds = 20.0, attempts = 3, concurrency = 4 }} }}",
        fake.url
    );
    let mut all =
        vec!["train".to_owned(), "tiny".into(), "--out".into(), out.into(), "--set".into(), backend];
    let sets = ["rl.steps=4", "rl.prompts_per_step=8", "rl.group_size=4", "rl.correction={}"];
    for set in sets.into_iter().chain(["eval.every=2", "eval.prompts=6", "save.every=2"]) {
        all.extend(["--set".into(), set.into()]);
    }
    all
}

fn borrowed(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[test]
fn a_run_trains_on_rollouts_of_a_server_that_is_handed_its_weights() {
    for kind in ["vllm", "sglang"] {
        let folder = tempfile::tempdir().expect("folder");
        let fake = server(Fault::None, 0);
        succeed(folder.path(), &borrowed(&arguments("run", kind, &fake)));
        let lines = metrics(&folder.path().join("run"));
        let steps: Vec<_> = lines.iter().filter(|line| line["step"] != 0).collect();
        assert_eq!(steps.len(), STEPS);
        for line in steps {
            // the server's weights are rounded to bf16, ours are not; those of the checkpoint are bf16 already
            let kl = line["mismatch_kl"].as_f64().expect("mismatch_kl");
            assert!(kl < 1e-3 && (kl > 0.0 || line["step"] == 1), "{kind}: {line}");
            assert!(line["correction_effective_share"].as_f64().expect("correction") > 0.99);
        }
        assert_eq!(fake.completions(), STEPS * ROLLOUTS + 3 * 6, "rollouts, and three evaluations");
        let updates = fake
            .controls()
            .iter()
            .filter(|p| p.contains("collective_rpc") || p.contains("from_disk"))
            .count();
        assert_eq!(updates, STEPS + 1, "{kind}: once for each version");
    }
}

#[test]
fn a_run_whose_server_dies_ends_with_an_error_and_goes_on_when_it_is_back() {
    let folder = tempfile::tempdir().expect("folder");
    // in the middle of the third step; one evaluation before the first and one after the second
    let last = 2 * ROLLOUTS + 2 * 6 + 10;
    let fake = server(Fault::DieAfter(last), 0);
    let error = fail(folder.path(), &borrowed(&arguments("run", "vllm", &fake)), 1);
    assert!(
        error.contains("rl step 3 failed; the run up to there is in `run/checkpoints/step-000002`"),
        "{error}"
    );
    assert!(error.contains("of 32 rollouts arrived, then: no answer from http://127.0.0.1:"), "{error}");
    assert_eq!(metrics(&folder.path().join("run")).len(), 1 + 2, "the steps before are there");

    let again = fail(folder.path(), &["train", "--resume", "run"], 1);
    assert!(again.contains("no answer from"), "it is still away: {again}");

    let back = server(Fault::None, fake.port());
    succeed(folder.path(), &["train", "--resume", "run"]);
    let lines = metrics(&folder.path().join("run"));
    let steps: Vec<u64> = lines.iter().map(|line| line["step"].as_u64().expect("step")).collect();
    assert_eq!(steps, [0, 1, 2, 3, 4]);
    let before = error.split(" of 32 rollouts arrived").next().and_then(|text| text.rsplit(' ').next());
    let arrived: usize = before.and_then(|number| number.parse().ok()).expect("a number");
    // four at a time: some were on their way when it died
    assert!((6..=14).contains(&arrived), "{arrived}");
    let wanted = 2 * ROLLOUTS - arrived + 6;
    assert_eq!(back.completions(), wanted, "what had arrived is not sampled again");

    // the same as if nothing had happened: completions are drawn with seeds of ours
    let calm = server(Fault::None, 0);
    succeed(folder.path(), &borrowed(&arguments("calm", "vllm", &calm)));
    assert_eq!(metrics(&folder.path().join("calm")), lines);
}

#[test]
fn a_server_that_dies_in_an_evaluation_loses_no_step() {
    let folder = tempfile::tempdir().expect("folder");
    let fake = server(Fault::DieAfter(6 + 2 * ROLLOUTS + 2), 0);
    let mut arguments = arguments("run", "sglang", &fake);
    // no checkpoint before the end but the one that the failure leaves
    arguments.extend(["--set".into(), "save.every=100".into()]);
    let error = fail(folder.path(), &borrowed(&arguments), 1);
    let wanted =
        "the evaluation after rl step 2 failed; the run up to there is in `run/checkpoints/step-000002`";
    assert!(error.contains(wanted), "{error}");
    let back = server(Fault::None, fake.port());
    succeed(folder.path(), &["train", "--resume", "run"]);
    let lines = metrics(&folder.path().join("run"));
    let steps: Vec<u64> = lines.iter().map(|line| line["step"].as_u64().expect("step")).collect();
    assert_eq!(steps, [0, 1, 2, 3, 4]);
    // the evaluation that failed is made up, and the last one follows
    assert_eq!(back.completions(), 2 * ROLLOUTS + 2 * 6, "steps 1 and 2 are not done again");
    let measured: Vec<u64> = lines
        .iter()
        .filter(|line| line.get("eval").is_some())
        .map(|line| line["step"].as_u64().expect("step"))
        .collect();
    assert_eq!(measured, [0, 2, 4]);
}

#[test]
fn a_run_that_samples_ahead_from_a_server_goes_on_with_what_had_arrived() {
    let folder = tempfile::tempdir().expect("folder");
    // the first order is of steps 1 and 2, the next of step 3, which dies
    let fake = server(Fault::DieAfter(6 + 2 * ROLLOUTS + 10), 0);
    let mut arguments = arguments("run", "vllm", &fake);
    for set in ["rl.overlap=1", "eval.every=4"] {
        arguments.extend(["--set".into(), set.into()]);
    }
    let error = fail(folder.path(), &borrowed(&arguments), 1);
    assert!(error.contains("rl step 3 failed"), "{error}");
    let before = error.split(" of 32 rollouts arrived").next().and_then(|text| text.rsplit(' ').next());
    let arrived: usize = before.and_then(|number| number.parse().ok()).expect("a number");
    assert!((6..=14).contains(&arrived), "{arrived}");
    let back = server(Fault::None, fake.port());
    succeed(folder.path(), &["train", "--resume", "run"]);
    assert_eq!(back.completions(), 2 * ROLLOUTS - arrived + 6);
    let lines = metrics(&folder.path().join("run"));
    let staleness = |step: usize| lines[step]["staleness"].as_f64().expect("staleness");
    assert_eq!([1, 2].map(staleness), [0.0, 1.0]);
    // those that arrived were sampled by the weights of step 2, the others by those of step 3
    assert_eq!(staleness(3), arrived as f64 / ROLLOUTS as f64);
    assert_eq!(staleness(4), 1.0);
}

#[test]
fn settings_that_cannot_be_sampled_are_refused_before_anything_is_done() {
    let folder = tempfile::tempdir().expect("folder");
    let refused = |sets: &[&str]| {
        let mut arguments = vec!["train", "tiny"];
        sets.iter().for_each(|set| arguments.extend(["--set", set]));
        let error = fail(folder.path(), &arguments, 2);
        assert!(!folder.path().join("runs").exists());
        error
    };
    let error = refused(&["rl.sampling.allowed_tokens=[3, 9999]"]);
    assert!(error.contains("[rl.sampling] allowed_tokens names token 9999"), "{error}");
    let error = refused(&["rl.sampling.thinking_budget=5"]);
    assert!(error.contains("wants `<think>` to be a token of its own"), "{error}");
    let server = "rollout.backend={ sglang = { url = \"http://127.0.0.1:1\" } }";
    let error = refused(&[server, "rl.sampling.top_p=0.9"]);
    assert!(error.contains("SGLang cannot sample with these settings"), "{error}");
}

#[test]
fn a_server_that_is_not_there_is_named_before_anything_is_done() {
    let folder = tempfile::tempdir().expect("folder");
    let fake = server(Fault::None, 0);
    let arguments = arguments("run", "sglang", &fake);
    fake.kill();
    let error = fail(folder.path(), &borrowed(&arguments), 1);
    assert!(error.contains("no answer from http://127.0.0.1:") && error.contains("/model_info"), "{error}");
    let bad = ["train", "tiny", "--set", "rollout.backend={ vllm = { url = \"localhost\" } }"];
    let error = fail(folder.path(), &bad, 2);
    assert!(error.contains("[rollout] url is \"localhost\"; wanted http://"), "{error}");
}

#[test]
fn prompts_of_a_file_are_sampled_from_a_server_of_openais_kind_and_resumed() {
    let folder = tempfile::tempdir().expect("folder");
    let rows: String = (0..6).map(|i| format!("{{\"question\": \"{i}+1=\", \"id\": \"q{i}\"}}\n")).collect();
    std::fs::write(folder.path().join("prompts.jsonl"), rows).expect("written");
    let dying = server(Fault::DieAfter(7), 0);
    let port = dying.port();
    let url = dying.url.clone();
    let arguments = |resume: bool| -> Vec<&str> {
        let mut all = vec!["sample", "tiny", "--server", &url, "--prompts", "prompts.jsonl", "-n", "2"];
        all.extend(["--max-tokens", "8", "--rows", "2", "--out", "out.jsonl"]);
        all.extend(resume.then_some("--resume"));
        all
    };
    let error = fail(folder.path(), &arguments(false), 1);
    assert!(error.contains("--resume goes on from there"), "{error}");
    let count = || std::fs::read_to_string(folder.path().join("out.jsonl")).expect("out").lines().count();
    assert!((7..12).contains(&count()), "{}", count());
    let error = fail(folder.path(), &arguments(false), 2);
    assert!(error.contains("`out.jsonl` exists; pass --resume"), "{error}");
    let missing = 12 - count();
    let back = server(Fault::None, port);
    succeed(folder.path(), &arguments(true));
    assert_eq!((count(), back.completions()), (12, missing));
}

#[test]
fn prompts_of_a_file_are_sampled_and_a_killed_call_goes_on_to_the_same_file() {
    let folder = tempfile::tempdir().expect("folder");
    let row = |i: usize| {
        format!("{{\"question\": \"{}+{}=\", \"id\": \"q{i}\", \"answer\": \"x\"}}\n", i % 90, i % 7)
    };
    std::fs::write(folder.path().join("prompts.jsonl"), (0..40).map(row).collect::<String>())
        .expect("written");
    let arguments = |out: &'static str| -> Vec<&str> {
        let all =
            ["sample", "tiny", "--prompts", "prompts.jsonl", "-n", "3", "--rows", "5", "--max-tokens", "10"];
        [&all[..], &["--answer-column", "answer", "--entropy", "--out", out]].concat()
    };
    succeed(folder.path(), &arguments("whole.jsonl"));
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("file");
    let whole = read("whole.jsonl");
    assert_eq!(whole.lines().count(), 120);
    let first: serde_json::Value = serde_json::from_str(whole.lines().next().expect("line")).expect("JSON");
    assert_eq!(first["prompt"]["answer"], "x");
    assert_eq!(
        first["entropy"].as_array().expect("entropy").len(),
        first["tokens"].as_array().expect("tokens").len()
    );
    // cut in the middle of a line, and in another order, as a kill leaves it
    let mut lines: Vec<&str> = whole.lines().take(50).collect();
    lines.reverse();
    std::fs::write(folder.path().join("cut.jsonl"), format!("{}\n{{\"prom", lines.join("\n")))
        .expect("written");
    std::fs::copy(
        folder.path().join("whole.jsonl.settings.json"),
        folder.path().join("cut.jsonl.settings.json"),
    )
    .expect("copied");
    succeed(folder.path(), &[&arguments("cut.jsonl")[..], &["--resume"]].concat());
    assert_eq!(read("cut.jsonl"), whole);
    // other settings are not mixed in
    let other = [&arguments("cut.jsonl")[..], &["--resume", "--seed", "9"]].concat();
    let error = fail(folder.path(), &other, 2);
    assert!(error.contains("was sampled with seed = 0, not 9"), "{error}");
    // guesses change nothing
    let guessing = [&arguments("guess.jsonl")[..], &["--speculate"]].concat();
    let output = evenkeel(folder.path()).args(guessing).output().expect("starts");
    assert!(output.status.success());
    assert_eq!(read("guess.jsonl"), whole);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("tok/s · slots busy 9") || told.contains("slots busy 100"), "{told}");
}

#[test]
fn a_model_behind_a_server_is_evaluated_and_an_evaluation_that_the_server_left_goes_on() {
    let folder = tempfile::tempdir().expect("folder");
    let questions = ["-b", "arithmetic", "--limit", "40"];
    let fake = server(Fault::DieAfter(20), 0);
    let (url, port) = (fake.url.clone(), fake.port());
    let there = ["--server", url.as_str(), "--request-seconds", "20", "--rows", "4"];
    let call = [&["eval", "tiny", "--out", "served"][..], &questions, &there].concat();
    let error = fail(folder.path(), &call, 1);
    assert!(error.contains("evenkeel eval --resume served"), "{error}");
    let samples = folder.path().join("served/samples/tiny/arithmetic.jsonl");
    let kept = std::fs::read_to_string(&samples).expect("samples").lines().count();
    assert!((10..=24).contains(&kept), "{kept} samples were kept");
    drop(fake);
    let fake = server(Fault::None, port);
    succeed(folder.path(), &["eval", "--resume", "served"]);
    assert_eq!(fake.completions(), 40 - kept, "only what is missing is asked for");
    // greedy answers are those of the same model in this process
    succeed(folder.path(), &[&["eval", "tiny", "--out", "local"][..], &questions].concat());
    let shown = succeed(folder.path(), &["compare", "served", "local", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(found[0]["paired"]["equal"], 40, "{found}");
    let error = fail(folder.path(), &[&["eval", "other"][..], &questions, &there].concat(), 1);
    assert!(error.contains("`other`") && error.contains("`tiny`"), "{error}");
    let error =
        fail(folder.path(), &[&call[..2], &["--set", "sampling.top_k=3"], &questions, &there].concat(), 2);
    assert!(error.contains("no top_k"), "{error}");
}
