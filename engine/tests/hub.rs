//! Models of the hub: fetched whole or refused with a reason, taken from the cache without a network, never waited for
//! without end. The hub is a thread of this test that speaks just enough HTTP.

use engine::model::weights::{self, INDEX_FILE, SINGLE_FILE};
use engine::model::{Checkpoint, Hub, ModelError, WeightDtype};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const REPO: &str = "tiny/qwen3-tiny";

type Files = BTreeMap<String, Vec<u8>>;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity/qwen3-tiny")
}

/// A complete repository in one file of weights. Nothing here reads its tokenizer.
fn files() -> Files {
    let read = |name: &str| std::fs::read(fixture().join(name)).unwrap();
    Files::from([
        ("config.json".to_string(), read("config.json")),
        ("tokenizer.json".to_string(), b"{}".to_vec()),
        ("tokenizer_config.json".to_string(), b"{\"chat_template\": \"old\"}".to_vec()),
        ("chat_template.jinja".to_string(), b"new".to_vec()),
        (SINGLE_FILE.to_string(), read(SINGLE_FILE)),
    ])
}

/// What the server does wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// Sends half of every file of weights, then closes the connection.
    Truncate,
    /// Says that half of the file is all that was asked for.
    Short,
    /// Accepts the connection and stays silent.
    Silent,
    /// Answers every request with this status.
    Status(u16),
}

struct Server {
    endpoint: String,
    /// Paths asked for, in order, with the header of authorization.
    asked: Arc<Mutex<Vec<(String, String)>>>,
    fault: Arc<Mutex<Fault>>,
}

fn serve(files: Files, fault: Fault) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let fault = Arc::new(Mutex::new(fault));
    let (log, faults, files) = (asked.clone(), fault.clone(), Arc::new(files));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (log, faults, files) = (log.clone(), faults.clone(), files.clone());
            std::thread::spawn(move || answer(stream, &files, &faults, &log));
        }
    });
    Server { endpoint, asked, fault }
}

fn answer(stream: TcpStream, files: &Files, fault: &Mutex<Fault>, log: &Mutex<Vec<(String, String)>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    let headers: BTreeMap<String, String> = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_string()))
        })
        .collect();
    let path = request.split(' ').nth(1).unwrap_or_default().to_string();
    log.lock().unwrap().push((path.clone(), headers.get("authorization").cloned().unwrap_or_default()));
    let fault = *fault.lock().unwrap();
    let mut stream = stream;
    let mut send = |status: &str, headers: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n");
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    };
    if fault == Fault::Silent {
        return std::thread::sleep(Duration::from_secs(20));
    }
    if let Fault::Status(status) = fault {
        return send(&format!("{status} No"), "Content-Length: 0\r\n", b"");
    }
    if path.starts_with("/api/models/") {
        let siblings: Vec<_> = files.keys().map(|name| json!({"rfilename": name})).collect();
        let body = json!({"sha": COMMIT, "siblings": siblings}).to_string();
        return send("200 OK", &format!("Content-Length: {}\r\n", body.len()), body.as_bytes());
    }
    let name = path.strip_prefix(&format!("/{REPO}/resolve/{COMMIT}/")).unwrap_or_default();
    let Some(bytes) = files.get(name) else { return send("404 Not Found", "Content-Length: 0\r\n", b"") };
    let range = headers["range"].strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let (start, metadata) = (range.0.parse::<usize>().unwrap(), range.1 == "0");
    let mut body = &bytes[start.min(bytes.len())..];
    if metadata {
        body = &body[..1.min(body.len())];
    }
    let mut length = body.len();
    if !metadata && name.ends_with(".safetensors") && matches!(fault, Fault::Truncate | Fault::Short) {
        body = &body[..body.len() / 2];
        length = if fault == Fault::Short { body.len() } else { length };
    }
    let headers = format!(
        "Content-Length: {length}\r\nETag: \"{name}-tag\"\r\nX-Repo-Commit: {COMMIT}\r\n\
         Content-Range: bytes {start}-{}/{}\r\n",
        start + length.max(1) - 1,
        bytes.len()
    );
    send("206 Partial Content", &headers, body);
}

fn hub(endpoint: &str, cache: &Path) -> Hub {
    Hub {
        cache: cache.to_path_buf(),
        endpoint: endpoint.to_string(),
        token: None,
        offline: false,
        timeout: Duration::from_millis(1500),
    }
}

fn refusal(result: Result<impl Sized, ModelError>, parts: &[&str]) {
    let text = result.err().expect("should have been refused").to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[test]
fn a_repository_is_fetched_once_and_then_read_without_a_network() {
    let server = serve(files(), Fault::None);
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub { token: Some("hf_secret".to_string()), ..hub(&server.endpoint, cache.path()) };
    let dir = hub.fetch(REPO, "main").unwrap();
    for (name, bytes) in files() {
        assert_eq!(std::fs::read(dir.join(name)).unwrap(), bytes);
    }
    let asked = std::mem::take(&mut *server.asked.lock().unwrap());
    assert_eq!(asked[0].0, format!("/api/models/{REPO}/revision/main"));
    assert!(asked.iter().all(|(_, token)| token == "Bearer hf_secret"));
    assert!(
        asked.last().unwrap().0.ends_with(SINGLE_FILE),
        "weights come last, so that a cache with them is whole"
    );

    // By branch and by commit, with the network switched off.
    let offline = Hub { offline: true, ..hub.clone() };
    assert_eq!(offline.fetch(REPO, "main").unwrap(), dir);
    assert_eq!(offline.fetch(REPO, COMMIT).unwrap(), dir);
    assert_eq!(hub.fetch(REPO, "main").unwrap(), dir);
    assert!(server.asked.lock().unwrap().is_empty());

    let checkpoint = Checkpoint::open_with(REPO, None, || Ok(offline)).unwrap();
    assert_eq!(checkpoint.source(), format!("{REPO}@main"));
    let config = checkpoint.config().unwrap();
    let tensors = checkpoint.weights(&candle_core::Device::Cpu).unwrap();
    assert_eq!(tensors.len(), config.parameters().len());
    let rendered = checkpoint.template().unwrap().unwrap().render::<()>(&[], false, None).unwrap();
    assert_eq!(rendered, "new");
}

#[test]
fn every_shard_of_the_index_is_fetched() {
    let checkpoint = Checkpoint::open(fixture().to_str().unwrap(), None).unwrap();
    let (config, tensors) =
        (checkpoint.config().unwrap(), checkpoint.weights(&candle_core::Device::Cpu).unwrap());
    let sharded = tempfile::tempdir().unwrap();
    let written = weights::save(sharded.path(), &config, &tensors, WeightDtype::F32, 100_000).unwrap();
    let mut all = files();
    all.remove(SINGLE_FILE);
    for path in &written {
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        all.insert(name, std::fs::read(path).unwrap());
    }
    let cache = tempfile::tempdir().unwrap();
    let dir = hub(&serve(all.clone(), Fault::None).endpoint, cache.path()).fetch(REPO, "main").unwrap();
    assert_eq!(weights::load(&dir, &config, &candle_core::Device::Cpu).unwrap().len(), tensors.len());

    // A cache that has lost a shard is not whole.
    std::fs::remove_file(dir.join(written[0].file_name().unwrap())).unwrap();
    let offline = Hub { offline: true, ..hub("http://127.0.0.1:9", cache.path()) };
    refusal(offline.fetch(REPO, "main"), &[REPO, "not complete", "HF_HUB_OFFLINE"]);

    let shard = written[1].file_name().unwrap().to_str().unwrap();
    all.remove(shard);
    let cache = tempfile::tempdir().unwrap();
    refusal(
        hub(&serve(all, Fault::None).endpoint, cache.path()).fetch(REPO, "main"),
        &[REPO, shard, "index"],
    );
}

#[test]
fn a_body_cut_off_is_refused_and_completed_by_the_next_call() {
    let server = serve(files(), Fault::Truncate);
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(&server.endpoint, cache.path());
    refusal(hub.fetch(REPO, "main"), &[REPO, "main", SINGLE_FILE, &server.endpoint]);
    refusal(Hub { offline: true, ..hub.clone() }.fetch(REPO, "main"), &["not complete"]);
    *server.fault.lock().unwrap() = Fault::None;
    let dir = hub.fetch(REPO, "main").unwrap();
    assert_eq!(std::fs::read(dir.join(SINGLE_FILE)).unwrap(), files()[SINGLE_FILE]);
}

#[test]
fn a_file_shorter_than_announced_is_thrown_away() {
    let server = serve(files(), Fault::Short);
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(&server.endpoint, cache.path());
    let whole = files()[SINGLE_FILE].len();
    refusal(hub.fetch(REPO, "main"), &[SINGLE_FILE, &format!("{} bytes", whole / 2), &whole.to_string()]);
    refusal(Hub { offline: true, ..hub.clone() }.fetch(REPO, "main"), &["not complete"]);
    *server.fault.lock().unwrap() = Fault::None;
    let dir = hub.fetch(REPO, "main").unwrap();
    assert_eq!(std::fs::read(dir.join(SINGLE_FILE)).unwrap(), files()[SINGLE_FILE]);
}

#[test]
fn a_silent_hub_is_given_up_after_the_timeout() {
    let server = serve(files(), Fault::Silent);
    let cache = tempfile::tempdir().unwrap();
    let start = Instant::now();
    refusal(
        hub(&server.endpoint, cache.path()).fetch(REPO, "v1"),
        &[REPO, "v1", "nothing was heard for 1.5s"],
    );
    assert!(start.elapsed() < Duration::from_secs(18));
}

#[test]
fn without_a_network_the_repository_the_cache_and_the_failure_are_named() {
    let cache = tempfile::tempdir().unwrap();
    let place = cache.path().display().to_string();
    // A port that was free a moment ago refuses connections.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let unreachable = hub(&format!("http://127.0.0.1:{port}"), cache.path());
    refusal(
        unreachable.fetch(REPO, "main"),
        &[REPO, "`main`", &place, "127.0.0.1", "list of files", "refused"],
    );
    let offline = || Ok(Hub { offline: true, ..hub("http://127.0.0.1:9", cache.path()) });
    refusal(
        Checkpoint::open_with(REPO, Some("v2"), offline),
        &["no such folder", REPO, "v2", &place, "HF_HUB_OFFLINE"],
    );
}

#[test]
fn a_refusal_of_the_hub_comes_with_advice() {
    let cache = tempfile::tempdir().unwrap();
    for (status, advice) in [(401, "HF_TOKEN"), (403, "HF_TOKEN"), (404, "no such repository"), (500, "500")]
    {
        let server = serve(files(), Fault::Status(status));
        refusal(
            hub(&server.endpoint, cache.path()).fetch(REPO, "main"),
            &[REPO, &status.to_string(), advice],
        );
    }
}

#[test]
fn a_repository_that_is_no_model_is_refused_before_its_weights_are_fetched() {
    for missing in ["config.json", "tokenizer.json", "tokenizer_config.json", SINGLE_FILE] {
        let mut all = files();
        all.remove(missing);
        let server = serve(all, Fault::None);
        let cache = tempfile::tempdir().unwrap();
        refusal(hub(&server.endpoint, cache.path()).fetch(REPO, "main"), &[REPO, missing]);
        assert!(server.asked.lock().unwrap().iter().all(|(path, _)| !path.ends_with(SINGLE_FILE)));
    }
    let mut all = files();
    all.remove(SINGLE_FILE);
    all.insert(INDEX_FILE.to_string(), br#"{"weight_map": {"x": "../../evil"}}"#.to_vec());
    let cache = tempfile::tempdir().unwrap();
    refusal(
        hub(&serve(all, Fault::None).endpoint, cache.path()).fetch(REPO, "main"),
        &["../../evil", "beside"],
    );
}
