//! Servers that judge, behind a fake one of this process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rewards::{Grade, Http, Judge, Reward, RewardError, Shape};
use serde_json::{Value, json};

use super::common::*;

/// What the fake server does with a request.
enum Reply {
    Json(Value),
    Status(u16),
    Redirect(u16, String),
    Bytes(Vec<u8>),
    /// A body that ends before its length.
    CutOff,
    /// Nothing, for long.
    Hang,
    /// A body that comes byte by byte, without end.
    Drip,
}

/// Serves until the test program ends. The answer may depend on how many requests came before, the headers, and the body.
fn serve(answer: impl Fn(usize, &str, Value) -> Reply + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = AtomicUsize::new(0);
    let state: &'static _ = Box::leak(Box::new((answer, served)));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                if let Some((head, body)) = request(&stream) {
                    reply(stream, state.0(state.1.fetch_add(1, Ordering::SeqCst), &head, body));
                }
            });
        }
    });
    url
}

fn request(stream: &TcpStream) -> Option<(String, Value)> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let head = head.to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1)?.lines().next()?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((head, serde_json::from_slice(&body).ok()?))
}

fn reply(mut stream: TcpStream, reply: Reply) {
    let mut location = String::new();
    let (status, bytes, more) = match reply {
        Reply::Redirect(status, to) => {
            location = format!("location: {to}\r\n");
            (status, vec![], 0)
        }
        Reply::Json(value) => (200, value.to_string().into_bytes(), 0),
        Reply::Status(status) => (status, b"no".to_vec(), 0),
        Reply::Bytes(bytes) => (200, bytes, 0),
        Reply::CutOff => (200, b"{\"rew".to_vec(), 100),
        Reply::Hang => return thread::sleep(Duration::from_secs(60)),
        Reply::Drip => (200, vec![], 100_000),
    };
    let length = bytes.len() + more;
    let head =
        format!("HTTP/1.1 {status} X\r\n{location}content-length: {length}\r\nconnection: close\r\n\r\n");
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&bytes));
    while more == 100_000 && stream.write_all(b" ").is_ok() {
        thread::sleep(Duration::from_millis(20));
    }
}

/// One value for each sample of a plain request: its length.
fn lengths(body: &Value) -> Value {
    let length = |sample: &Value| json!(sample["completion"].as_str().unwrap().len());
    json!({"rewards": body["samples"].as_array().unwrap().iter().map(length).collect::<Vec<_>>()})
}

fn http(url: String) -> Http {
    Http { url, deadline: 0.6, parallel: 2, ..Http::default() }
}

#[test]
fn a_plain_server_judges() {
    let reward = http(serve(|_, _, body| {
        assert_eq!(body["samples"][0]["answer"], "4");
        Reply::Json(lengths(&body))
    }));
    let texts: Vec<String> = (0..100).map(|i| "x".repeat(i)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let verdicts = Http { deadline: 5.0, ..reward }.build("r").unwrap().score_all(&rollouts(&texts)).unwrap();
    assert_eq!(values(&verdicts), (0..100).map(|i| Some(i as f32)).collect::<Vec<_>>());
}

#[test]
fn a_reward_model_of_openrlhf_judges() {
    for key in ["rewards", "scores"] {
        let url = serve(move |_, _, body| {
            assert_eq!((&body["prompts"][0], &body["labels"][0]), (&json!("2+2="), &json!("4")));
            let each = body["query"].as_array().unwrap().iter();
            Reply::Json(
                json!({key: each.map(|query| vec![query.as_str().unwrap().len()]).collect::<Vec<_>>()}),
            )
        });
        let reward = Http { shape: Shape::Openrlhf, ..http(url) }.build("r").unwrap();
        assert_eq!(values(&reward.score_all(&rollouts(&["4", "44"])).unwrap()), [Some(5.0), Some(6.0)]);
    }
}

#[test]
fn a_server_that_fails_at_first_is_asked_again() {
    let url = serve(|n, _, body| if n < 2 { Reply::Status(500) } else { Reply::Json(lengths(&body)) });
    let reward = Http { deadline: 5.0, parallel: 1, ..http(url) }.build("r").unwrap();
    assert_eq!(reward.score(&rollout(0, "abc")).value, Some(3.0));
    let cut = serve(|n, _, body| if n == 0 { Reply::CutOff } else { Reply::Json(lengths(&body)) });
    let reward = Http { deadline: 5.0, parallel: 1, ..http(cut) }.build("r").unwrap();
    assert_eq!(reward.score(&rollout(0, "abc")).value, Some(3.0));
}

#[test]
fn bad_answers_are_failures_that_say_so() {
    let mut garbage = vec![b'x'; 10 << 20];
    garbage[5] = 0xff;
    type Answer = Box<dyn Fn() -> Reply + Send + Sync>;
    let cases: [(Answer, &str); 8] = [
        (Box::new(|| Reply::Status(404)), "answers with status 404"),
        (Box::new(|| Reply::Status(503)), "answers with status 503: \"no\" (attempt 2)"),
        (Box::new(move || Reply::Bytes(garbage.clone())), "wanted JSON"),
        (Box::new(|| Reply::CutOff), "(attempt 2)"),
        (Box::new(|| Reply::Hang), "no answer within 0.6 s (deadline)"),
        (Box::new(|| Reply::Drip), "no answer within 0.6 s (deadline)"),
        (Box::new(|| Reply::Json(json!({"rewards": [1, 2]}))), "returned 2 values, wanted 1"),
        (Box::new(|| Reply::Json(json!({"result": 1}))), "wanted a list `rewards` in it"),
    ];
    for (answer, wanted) in cases {
        let reward = Http { retries: 1, ..http(serve(move |_, _, _| answer())) }.build("r").unwrap();
        let begun = Instant::now();
        let verdict = reward.score(&rollout(0, "abc"));
        assert!(failure(&verdict).contains(wanted), "{verdict:?}");
        assert!(begun.elapsed() < Duration::from_secs(30), "{wanted}");
    }
}

#[test]
fn redirects_are_not_followed_and_say_where_they_lead() {
    let asked: &'static AtomicUsize = Box::leak(Box::new(AtomicUsize::new(0)));
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("http://{}/secret", elsewhere.local_addr().unwrap());
    thread::spawn(move || {
        for _ in elsewhere.incoming() {
            asked.fetch_add(1, Ordering::SeqCst);
        }
    });
    for status in [301, 302, 303, 307, 308] {
        let wanted = format!("answers with status {status} to \"{to}\"; redirects are not followed");
        let (first, second) = (to.clone(), to.clone());
        let reward = http(serve(move |_, _, _| Reply::Redirect(status, first.clone()))).build("r").unwrap();
        let verdict = reward.score(&rollout(0, "x"));
        assert!(failure(&verdict).contains(&wanted), "{verdict:?}");
        let reward = judge(serve(move |_, _, _| Reply::Redirect(status, second.clone()))).build("r").unwrap();
        let verdict = reward.score(&rollout(0, "x"));
        assert!(failure(&verdict).contains(&wanted), "{verdict:?}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[test]
fn a_sample_that_a_server_fails_on_costs_only_itself() {
    let url = serve(|_, _, body| {
        let bad = body["samples"].as_array().unwrap().iter().any(|sample| sample["completion"] == "bad one");
        if bad { Reply::Status(400) } else { Reply::Json(lengths(&body)) }
    });
    let reward = Http { deadline: 5.0, ..http(url) }.build("r").unwrap();
    let verdicts = reward.score_all(&rollouts(&["a", "b", "c", "bad one", "e", "f"])).unwrap();
    assert_eq!(verdicts.iter().filter(|verdict| verdict.value == Some(1.0)).count(), 5);
    assert!(failure(&verdicts[3]).contains("status 400"));
}

#[test]
fn a_server_that_hangs_or_is_not_there_ends_the_step() {
    let many: Vec<_> = (0..300).map(|i| rollout(i / 8, "x")).collect();
    let begun = Instant::now();
    let reward = http(serve(|_, _, _| Reply::Hang)).build("r").unwrap();
    let Err(RewardError::Hangs { why, .. }) = reward.score_all(&many) else { panic!("it hangs") };
    assert!(why.contains("http://127.0.0.1:") && why.contains("within 0.6 s"), "{why}");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let reward = Http { retries: 0, ..http(format!("http://127.0.0.1:{port}")) }.build("r").unwrap();
    assert!(matches!(reward.score_all(&many), Err(RewardError::Hangs { .. })));
    assert!(begun.elapsed() < Duration::from_secs(30));
}

fn judge(url: String) -> Judge {
    Judge { url: url + "/v1", model: "m".into(), deadline: 5.0, parallel: 2, ..Judge::default() }
}

fn says(reply: &str) -> Reply {
    Reply::Json(json!({"choices": [{"message": {"role": "assistant", "content": reply}}]}))
}

#[test]
fn a_judge_grades_on_its_scale() {
    let url = serve(|_, head, body| {
        assert!(head.starts_with("post /v1/chat/completions "), "{head}");
        assert_eq!(
            (&body["model"], &body["temperature"], &body["max_tokens"]),
            (&json!("m"), &json!(0), &json!(1024))
        );
        let asked = body["messages"][0]["content"].as_str().unwrap();
        assert!(asked.contains("system: be brief\n\nuser: 2+2?") && asked.contains("\n4\n"), "{asked}");
        says(if asked.contains("\nfour\n</answer-") {
            "<think>Score: 1</think>Right.\n**Score:** 10"
        } else {
            "Score: 5.5"
        })
    });
    let reward = judge(url).build("r").unwrap();
    let verdicts = reward.score_all(&[chat(0, "four"), chat(0, "five")]).unwrap();
    assert_eq!(values(&verdicts), [Some(1.0), Some(0.5)]);
    assert!(verdicts[0].reason.as_ref().unwrap().ends_with("Score:** 10"));
}

#[test]
fn other_grades_scales_and_prompts_can_be_told() {
    let url = serve(|_, _, body| {
        assert_eq!(body["messages"][0]["content"].as_str().unwrap().split('<').next(), Some("4? "));
        says(r#"{"score": 0.25}"#)
    });
    let (grade, scale, prompt) = (Grade::Json, [0.0, 1.0], "{answer}? {completion}".to_owned());
    let reward = Judge { grade, scale, prompt, ..judge(url) }.build("r").unwrap();
    assert_eq!(reward.score(&rollout(0, "x")).value, Some(0.25));
}

#[test]
fn replies_without_a_grade_are_failures_that_quote_them() {
    for (reply, wanted) in [
        (
            "I like it.",
            "the judge's reply has no grade, wanted `Score:` and a number alone on its last line; it ends: \"I like it.\"",
        ),
        ("Score: 3</think>well", "it ends: \"Score: 3</think>well\""),
        ("Score: 11", "the judge gives 11, wanted a grade from 1 to 10"),
        ("Score: 1 … (the answer says Score: 10)", "the judge's reply has no grade"),
        ("Score: 1e1", "the judge's reply has no grade"),
    ] {
        let reward = judge(serve(move |_, _, _| says(reply))).build("r").unwrap();
        let verdict = reward.score(&rollout(0, "x"));
        assert!(failure(&verdict).contains(wanted), "{verdict:?}");
    }
    let quoting = json!({"message": {"content": "It ends with:\nScore: 10"}, "finish_reason": "length"});
    let reward = judge(serve(move |_, _, _| Reply::Json(json!({"choices": [quoting]})))).build("r").unwrap();
    assert!(
        failure(&reward.score(&rollout(0, "x"))).contains("is cut off, wanted it to end within 1024 tokens")
    );
    let reward = judge(serve(|_, _, _| Reply::Json(json!({"choices": []})))).build("r").unwrap();
    assert!(failure(&reward.score(&rollout(0, "x"))).contains("wanted `choices` with a message"));
}

#[test]
fn keys_and_settings_are_checked_before_anything_is_asked() {
    let url = "http://127.0.0.1:1".to_owned();
    let said = |error: Option<RewardError>| error.expect("an error").to_string();
    let settings = Http { key_variable: Some("EVENKEEL_NO_SUCH_KEY".into()), ..http(url.clone()) };
    assert!(said(settings.build("r").err()).contains("names EVENKEEL_NO_SUCH_KEY, which is not set"));
    assert!(said(Http::default().build("r").err()).contains("url is \"\", wanted http"));
    assert!(said(Http { parallel: 0, ..http(url.clone()) }.build("r").err()).contains("parallel is 0"));
    assert!(
        said(Judge { model: String::new(), ..judge(url.clone()) }.build("r").err())
            .contains("model is not set")
    );
    assert!(
        said(Judge { scale: [1.0, 1.0], ..judge(url.clone()) }.build("r").err()).contains("scale is [1, 1]")
    );
    assert!(said(Judge { prompt: "?".into(), ..judge(url) }.build("r").err()).contains("no {completion}"));
    let read = serde_json::from_str::<Http>(r#"{"url": "http://a", "shape": "openrlhf"}"#).unwrap();
    assert_eq!(read, Http { url: "http://a".into(), shape: Shape::Openrlhf, ..Http::default() });
    assert!(serde_json::from_str::<Judge>(r#"{"temperature": 1}"#).is_err());
    // PATH is set wherever there is python3
    let url = serve(|_, head, body| {
        assert!(head.contains("authorization: bearer "));
        Reply::Json(lengths(&body))
    });
    let reward = Http { key_variable: Some("PATH".into()), ..http(url) }.build("r").unwrap();
    assert_eq!(reward.score(&rollout(0, "x")).value, Some(1.0));
}
