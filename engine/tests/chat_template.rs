//! Text, tokens and conversations come out as Hugging Face's own libraries give them, byte for byte.

use engine::model::{ChatMessage, ChatTemplate, ModelConfig, ModelError, Tokenizer};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

struct Model {
    tokenizer: Tokenizer,
    config: Vec<u8>,
    golden: Vec<Value>,
}

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path)
}

fn read(name: &str) -> Model {
    let dir = fixture("tokenizers").join(name);
    let packed = std::fs::read(dir.join("tokenizer.json.zst")).unwrap();
    let tokenizer = zstd::decode_all(packed.as_slice()).unwrap();
    let config = std::fs::read(dir.join("tokenizer_config.json")).unwrap();
    let golden = std::fs::read_to_string(dir.join("golden.jsonl")).unwrap();
    Model {
        tokenizer: Tokenizer::from_bytes("tokenizer.json", &tokenizer, Some(&config)).unwrap(),
        config,
        golden: golden.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
    }
}

static QWEN25: LazyLock<Model> = LazyLock::new(|| read("qwen2.5"));
static QWEN3: LazyLock<Model> = LazyLock::new(|| read("qwen3"));
static SMOLLM2: LazyLock<Model> = LazyLock::new(|| read("smollm2"));

fn all() -> [(&'static str, &'static Model); 3] {
    [("qwen2.5", &QWEN25), ("qwen3", &QWEN3), ("smollm2", &SMOLLM2)]
}

fn cases(model: &'static Model, kind: &'static str) -> impl Iterator<Item = &'static Value> {
    model.golden.iter().filter(move |case| case["kind"] == kind)
}

fn ids(case: &Value) -> Vec<u32> {
    serde_json::from_value(case["ids"].clone()).unwrap()
}

fn template(source: &str) -> Result<ChatTemplate, ModelError> {
    ChatTemplate::from_files(Some(source), None).map(|template| template.expect("a file was given"))
}

fn rendered(source: &str) -> Result<String, ModelError> {
    template(source)?.render(&[ChatMessage { role: "user", content: "<a & 'b'> \"é\"\n" }], true, None)
}

#[test]
fn encoding_and_decoding_agree_with_hugging_face() {
    for (name, model) in all() {
        let mut seen = 0;
        for case in cases(model, "encode") {
            let text = case["text"].as_str().unwrap();
            assert_eq!(model.tokenizer.encode(text).unwrap(), ids(case), "{name}: {text:?}");
            assert_eq!(
                model.tokenizer.decode(&ids(case), false).unwrap(),
                case["decoded"],
                "{name}: {text:?}"
            );
            seen += 1;
        }
        assert!(seen > 40, "{name} has {seen} cases");
    }
}

#[test]
fn chat_templates_agree_with_transformers() {
    for (name, model) in all() {
        let template = ChatTemplate::from_files(None, Some(&model.config)).unwrap().unwrap();
        let mut seen = 0;
        for case in cases(model, "chat") {
            let messages = case["messages"].as_array().unwrap();
            let prompt = case["add_generation_prompt"].as_bool().unwrap();
            let text = template.render(messages, prompt, case["enable_thinking"].as_bool()).unwrap();
            assert_eq!(text, case["text"], "{name}");
            assert_eq!(model.tokenizer.encode(&text).unwrap(), ids(case), "{name}: {text:?}");
            seen += 1;
        }
        assert!(seen >= 14, "{name} has {seen} cases");
    }
}

#[test]
fn special_tokens_are_recognised_and_left_out_on_request() {
    let tokenizer = &QWEN3.tokenizer;
    let tokens = tokenizer.encode("a<|im_end|>b").unwrap();
    assert_eq!(tokens[1], 151645);
    assert_eq!(tokenizer.decode(&tokens, false).unwrap(), "a<|im_end|>b");
    assert_eq!(tokenizer.decode(&tokens, true).unwrap(), "ab");
    assert_eq!((tokenizer.eos(), tokenizer.pad()), (Some(151645), Some(151643)));
    assert_eq!(tokenizer.vocab_size(), 151669);
    assert_eq!(tokenizer.token_to_id("<think>"), Some(151667));
    assert_eq!(tokenizer.id_to_token(151667).as_deref(), Some("<think>"));
    assert_eq!((tokenizer.token_to_id("<nothing>"), tokenizer.id_to_token(151935)), (None, None));
    assert_eq!((SMOLLM2.tokenizer.eos(), SMOLLM2.tokenizer.pad()), (Some(2), Some(2)));
}

#[test]
fn half_a_character_decodes_to_the_replacement_character() {
    let tokenizer = &QWEN3.tokenizer;
    let tokens = tokenizer.encode("🜁").unwrap();
    assert!(tokens.len() > 1);
    assert_eq!(tokenizer.decode(&tokens, false).unwrap(), "🜁");
    assert!(tokenizer.decode(&tokens[..1], false).unwrap().contains('\u{fffd}'));
}

#[test]
fn ids_without_a_token_decode_to_nothing() {
    assert_eq!(QWEN3.tokenizer.decode(&[9707, 151900, 0], false).unwrap(), "Hello!");
}

#[test]
fn a_vocabulary_larger_than_the_embedding_is_refused() {
    let config = ModelConfig::read(&fixture("parity/qwen3-tiny")).unwrap();
    let text = SMOLLM2.tokenizer.check(&config).unwrap_err().to_string();
    assert!(text.contains("49151") && text.contains("`vocab_size` 128"), "{text}");
    let mut config = config;
    config.vocab_size = 49152;
    SMOLLM2.tokenizer.check(&config).unwrap();
}

#[test]
fn bad_tokenizer_files_are_named() {
    let refused = Tokenizer::from_bytes("here/tokenizer.json", b"{}", None).unwrap_err().to_string();
    assert!(refused.contains("here/tokenizer.json"), "{refused}");
    let tiny = json!({"version": "1.0", "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst",
        "stride": 0}, "padding": null, "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
        "post_processor": null, "decoder": null, "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}});
    let tiny = tiny.to_string();
    let read =
        |config: &str| Tokenizer::from_bytes("tokenizer.json", tiny.as_bytes(), Some(config.as_bytes()));
    let refused = read(r#"{"eos_token": {"content": "</s>"}}"#).unwrap_err().to_string();
    assert!(refused.contains("eos_token") && refused.contains("</s>"), "{refused}");
    assert!(read("[").unwrap_err().to_string().contains("tokenizer_config.json"));
    assert_eq!(read(r#"{"eos_token": {"content": "b"}}"#).unwrap().eos(), Some(1));
    // The truncation to two tokens that the file asks for is not done.
    assert_eq!(read("{}").unwrap().encode("abba").unwrap(), [0, 1, 1, 0]);
    let dir = tempfile::tempdir().unwrap();
    assert!(Tokenizer::read(dir.path()).unwrap_err().to_string().contains("tokenizer.json"));
}

#[test]
fn the_template_file_wins_and_a_list_gives_its_default() {
    let config =
        |template: Value| json!({"chat_template": template, "eos_token": "<e>"}).to_string().into_bytes();
    let render = |jinja: Option<&str>, template: Value| {
        let template = ChatTemplate::from_files(jinja, Some(&config(template)))?.expect("there is one");
        template.render(&[json!({"role": "user", "content": "x"})], false, None)
    };
    assert_eq!(render(Some("file {{ eos_token }}"), json!("config")).unwrap(), "file <e>");
    assert_eq!(render(None, json!("config {{ bos_token }}.")).unwrap(), "config .");
    let list = json!([{"name": "rag", "template": "rag"}, {"name": "default", "template": "default"}]);
    assert_eq!(render(None, list).unwrap(), "default");
    let text = render(None, json!([{"name": "rag", "template": "rag"}])).unwrap_err().to_string();
    assert!(text.contains("default") && text.contains("rag"), "{text}");
    assert!(render(None, json!(3)).unwrap_err().to_string().contains("list of named templates"));
    assert!(ChatTemplate::from_files(None, Some(b"{}")).unwrap().is_none());
    assert!(ChatTemplate::from_files(None, None).unwrap().is_none());
}

#[test]
fn blocks_are_trimmed_as_jinja_does_for_transformers() {
    let source = "{% for m in messages %}\n    {% if m.role == 'user' %}\n  {{ m.role }}\n    {% endif %}\n{% endfor %}\n";
    assert_eq!(rendered(source).unwrap(), "  user\n");
    assert_eq!(rendered("a\n\n").unwrap(), "a\n");
    assert_eq!(
        rendered("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}").unwrap(),
        "01"
    );
}

#[test]
fn values_are_printed_and_dumped_as_python_does() {
    assert_eq!(rendered("{{ add_generation_prompt }} {{ tools }} {{ nothing }}.").unwrap(), "True None .");
    let dumped = r#"[{"role": "user", "content": "<a & 'b'> \"é\"\n"}]"#;
    assert_eq!(rendered("{{ messages | tojson }}").unwrap(), dumped);
    assert_eq!(rendered("{{ messages | tojson(ensure_ascii=false) }}").unwrap(), dumped);
    assert_eq!(rendered("{{ [1, []] | tojson(indent=2) }}").unwrap(), "[\n  1,\n  []\n]");
    assert_eq!(rendered("{{ messages[0].content.strip().startswith('<a') }}").unwrap(), "True");
    assert_eq!(rendered("{{ messages[0].content }}").unwrap(), "<a & 'b'> \"é\"\n");
}

#[test]
fn thinking_is_told_to_the_template_only_if_given() {
    let template = template("{{ enable_thinking is defined }} {{ enable_thinking }}").unwrap();
    let render = |thinking| template.render::<ChatMessage<'_>>(&[], false, thinking).unwrap();
    assert_eq!(render(None), "False ");
    assert_eq!(render(Some(false)), "True False");
    assert_eq!(render(Some(true)), "True True");
}

#[test]
fn a_template_that_fails_says_why_and_where() {
    for (source, parts) in [
        ("\n{{ raise_exception('roles must alternate') }}", ["roles must alternate", "2"]),
        ("{{ strftime_now('%d %b %Y') }}", ["today's date", "%d %b %Y"]),
        ("{{ messages[0].nothing.more }}", ["chat_template.jinja", "undefined"]),
        ("{% if %}", ["chat_template.jinja", "syntax error"]),
        ("{{ messages | unheard_of }}", ["unheard_of", "chat_template.jinja"]),
    ] {
        let text = rendered(source).unwrap_err().to_string();
        assert!(parts.iter().all(|part| text.contains(part)), "{source}: {text}");
    }
}
