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
    ChatTemplate::from_files(Some(source), None, None).map(|template| template.expect("a file was given"))
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
        let template = ChatTemplate::from_files(None, Some(&model.config), None).unwrap().unwrap();
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
        let template = ChatTemplate::from_files(jinja, Some(&config(template)), None)?.expect("there is one");
        template.render(&[json!({"role": "user", "content": "x"})], false, None)
    };
    assert_eq!(render(Some("file {{ eos_token }}"), json!("config")).unwrap(), "file <e>");
    assert_eq!(render(None, json!("config {{ bos_token }}.")).unwrap(), "config .");
    let list = json!([{"name": "rag", "template": "rag"}, {"name": "default", "template": "default"}]);
    assert_eq!(render(None, list).unwrap(), "default");
    let text = render(None, json!([{"name": "rag", "template": "rag"}])).unwrap_err().to_string();
    assert!(text.contains("default") && text.contains("rag"), "{text}");
    assert!(render(None, json!(3)).unwrap_err().to_string().contains("list of named templates"));
    assert!(ChatTemplate::from_files(None, Some(b"{}"), None).unwrap().is_none());
    assert!(ChatTemplate::from_files(None, None, None).unwrap().is_none());
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

#[test]
fn what_transformers_adds_to_jinja_is_understood() {
    let source = "{% for m in messages %}{% generation %}\n{% set x = m.role %}{{ x }}{% endgeneration %}{% endfor %}{{ x }}.";
    assert_eq!(rendered(source).unwrap(), "user.");
    for (source, wanted) in [
        ("{{ '%s' % messages[0].role }}", "user"),
        ("{{ '%s is %d' % (messages[0].role, 3) ~ '!' }}", "user is 3!"),
        ("{{ '%05.1f|%s|%s' % (2, none, true) }}", "002.0|None|True"),
        ("{{ '100%%' % () }}{{ 7 % 4 }}", "100%3"),
        ("{% set t = '%s' % messages[0].role | upper %}{{ t }}", "USER"),
    ] {
        assert_eq!(rendered(source).unwrap(), wanted, "{source}");
    }
    assert!(rendered("{{ '%d' % 'x' }}").unwrap_err().to_string().contains("chat_template.jinja"));
}

#[test]
fn values_are_dumped_with_the_arguments_of_json_dumps() {
    for (arguments, wanted) in [
        ("", r#"{"b": [1, {}], "a": "é🜁"}"#),
        ("(sort_keys=true)", r#"{"a": "é🜁", "b": [1, {}]}"#),
        ("(separators=(',', ':'))", r#"{"b":[1,{}],"a":"é🜁"}"#),
        ("(ensure_ascii=true)", r#"{"b": [1, {}], "a": "\u00e9\ud83d\udf01"}"#),
        ("(indent=none)", r#"{"b": [1, {}], "a": "é🜁"}"#),
        ("(indent=1)", "{\n \"b\": [\n  1,\n  {}\n ],\n \"a\": \"é🜁\"\n}"),
        ("(indent=0)", "{\n\"b\": [\n1,\n{}\n],\n\"a\": \"é🜁\"\n}"),
    ] {
        let source = format!("{{{{ {{'b': [1, {{}}], 'a': 'é🜁'}} | tojson{arguments} }}}}");
        assert_eq!(rendered(&source).unwrap(), wanted, "{arguments}");
    }
    for bad in ["indent=1000000000", "separators=','", "default=3"] {
        assert!(rendered(&format!("{{{{ 1 | tojson({bad}) }}}}")).is_err(), "{bad}");
    }
}

#[test]
fn a_template_that_would_not_end_or_would_fill_memory_is_stopped() {
    let nested = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
    let doubling =
        "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}";
    let captured = "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set y %}{{ n.x }}{{ n.x }}{% endset %}{% set n.x = y %}{% endfor %}";
    let replaced = "{% set a = 'a' * 100000 %}{{ a.replace('a', a) }}";
    let recursive = "{% macro f(x) %}{{ f(x) }}{{ f(x) }}{% endmacro %}{{ f(1) }}";
    for source in [
        nested,
        doubling,
        captured,
        replaced,
        recursive,
        "{{ '%99999999999d' % 1 }}",
        "{{ 'a' * 1000000000 }}",
    ] {
        let text = rendered(source).unwrap_err().to_string();
        assert!(text.contains("chat_template.jinja") && text.len() < 600, "{source}: {text}");
    }
    let long =
        rendered("{% set a = 'a' * 1000000 %}{% for i in range(40) %}{{ a }}{% endfor %}").unwrap_err();
    assert!(long.to_string().contains("more than 16 MiB"), "{long}");
    let deep = format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(rendered(&deep).is_err());
}

#[test]
fn a_template_of_a_processor_is_found_last() {
    let json = |template: Value| json!({"chat_template": template}).to_string().into_bytes();
    let render = |config: &[u8], own: &[u8]| {
        let template = ChatTemplate::from_files(None, Some(config), Some(own)).unwrap().unwrap();
        template.render::<ChatMessage<'_>>(&[], false, None).unwrap()
    };
    assert_eq!(render(b"{}", &json(json!("own"))), "own");
    assert_eq!(render(b"{}", &json(json!({"default": "one", "tools": "two"}))), "one");
    assert_eq!(render(&json(json!("config")), &json(json!("own"))), "config");
}

fn with_parts(
    normalizer: Value,
    pre_tokenizer: Value,
    more: &[(&str, Value)],
) -> Result<Tokenizer, ModelError> {
    let vocab: serde_json::Map<String, Value> =
        ('a'..='z').enumerate().map(|(id, c)| (c.to_string(), json!(id))).collect();
    let mut file = json!({"version": "1.0", "added_tokens": [], "normalizer": normalizer, "pre_tokenizer": pre_tokenizer,
        "decoder": null, "model": {"type": "BPE", "vocab": vocab, "merges": []}});
    for (pointer, value) in more {
        match file.pointer_mut(pointer) {
            Some(place) => *place = value.clone(),
            None => drop(file["model"].as_object_mut().unwrap().insert((*pointer).to_owned(), value.clone())),
        }
    }
    Tokenizer::from_bytes("here/tokenizer.json", file.to_string().as_bytes(), None)
}

#[test]
fn a_tokenizer_file_damaged_anywhere_is_an_error_that_names_it() {
    let split = json!({"type": "Split", "pattern": {"Regex": "a+"}, "behavior": "Isolated", "invert": false});
    let vocab: serde_json::Map<String, Value> = [("a".to_owned(), json!(0))].into_iter().collect();
    let whole = json!({"version": "1.0", "added_tokens": [{"id": 1, "content": "<e>", "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": true}], "normalizer": {"type": "NFC"}, "pre_tokenizer": split,
        "post_processor": null, "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
        "use_regex": true}, "model": {"type": "BPE", "vocab": vocab, "merges": []}})
    .to_string();
    assert_eq!(
        Tokenizer::from_bytes("t", whole.as_bytes(), None).unwrap().encode("aa<e>").unwrap(),
        [0, 0, 1]
    );
    for end in 0..whole.len() {
        let text = Tokenizer::from_bytes("t.json", &whole.as_bytes()[..end], None).unwrap_err().to_string();
        assert!(text.contains("`t.json`") && text.len() < 400, "{end}: {text}");
    }
    for decoder in [json!({"type": null}), json!({"type": "Nothing"}), json!(7), json!([])] {
        let text = with_parts(Value::Null, Value::Null, &[("/decoder", decoder)]).unwrap_err().to_string();
        assert!(text.contains("here/tokenizer.json"), "{text}");
    }
}

#[test]
fn a_regular_expression_that_backtracks_without_end_is_an_error() {
    let text = format!("{}b", "a".repeat(60));
    let regex = json!({"Regex": "(a+)+$"});
    let split = json!({"type": "Split", "pattern": regex, "behavior": "Isolated", "invert": false});
    let replace = json!({"type": "Replace", "pattern": regex, "content": "x"});
    for tokenizer in [with_parts(Value::Null, split, &[]), with_parts(replace, Value::Null, &[])] {
        let tokenizer = tokenizer.unwrap();
        let error = tokenizer.encode(&text).unwrap_err().to_string();
        assert!(error.contains("here/tokenizer.json") && error.contains("backtracks"), "{error}");
        assert!(tokenizer.encode("b").is_ok());
    }
}

#[test]
fn a_tokenizer_that_grows_text_without_bound_or_draws_lots_is_refused() {
    let double = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
    let many = |count: usize| json!({"type": "Sequence", "normalizers": vec![double.clone(); count]});
    assert_eq!(with_parts(many(3), Value::Null, &[]).unwrap().encode("a").unwrap(), [0; 8]);
    for error in [
        with_parts(many(30), Value::Null, &[]),
        with_parts(json!({"type": "Prepend", "prepend": "a".repeat(5000)}), Value::Null, &[]),
        with_parts(
            Value::Null,
            Value::Null,
            &[("/decoder", json!({"type": "Sequence", "decoders": vec![double.clone(); 40]}))],
        ),
    ] {
        let error = error.unwrap_err().to_string();
        assert!(error.contains("here/tokenizer.json") && error.contains("times as long"), "{error}");
    }
    let error = with_parts(Value::Null, Value::Null, &[("dropout", json!(0.1))]).unwrap_err().to_string();
    assert!(error.contains("model.dropout"), "{error}");
}

#[test]
fn special_tokens_of_the_wrong_kind_are_refused() {
    let tiny = json!({"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {"a": 0, "b": 7}, "merges": []}});
    let read =
        |config: &str| Tokenizer::from_bytes("t", tiny.to_string().as_bytes(), Some(config.as_bytes()));
    let text = read(r#"{"eos_token": 5}"#).unwrap_err().to_string();
    assert!(text.contains("eos_token of tokenizer_config.json") && text.contains('5'), "{text}");
    assert_eq!(read(r#"{"eos_token": null}"#).unwrap().eos(), None);
    // ids with a hole need rows for it
    let tokenizer = read("{}").unwrap();
    assert_eq!((tokenizer.vocab_size(), tokenizer.rows()), (2, 8));
}

#[test]
fn tokens_that_only_tokenizer_config_knows_are_added_as_transformers_does() {
    let tiny = json!({"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}});
    let read = |config: Value| {
        Tokenizer::from_bytes("t", tiny.to_string().as_bytes(), Some(config.to_string().as_bytes()))
    };
    let tokenizer = read(json!({
        "added_tokens_decoder": {"3": {"content": "<y>", "special": false}, "2": {"content": "<x>", "special": true}},
        "additional_special_tokens": ["<x>", {"content": "<z>"}], "eos_token": {"content": "<z>"},
    }))
    .unwrap();
    assert_eq!(tokenizer.encode("a<x>b<y><z>").unwrap(), [0, 2, 1, 3, 4]);
    assert_eq!(tokenizer.decode(&[0, 2, 3, 4], true).unwrap().replace(' ', ""), "a<y>");
    assert_eq!((tokenizer.eos(), tokenizer.rows()), (Some(4), 5));
    for (config, part) in [
        (json!({"added_tokens_decoder": {"9": {"content": "<x>"}}}), "it would be 2"),
        (json!({"added_tokens_decoder": {"x": {"content": "<x>"}}}), "added_tokens_decoder"),
        (json!({"added_tokens_decoder": [1]}), "added_tokens_decoder"),
        (json!({"additional_special_tokens": "<x>"}), "additional_special_tokens"),
        (json!({"additional_special_tokens": [7]}), "additional_special_tokens"),
    ] {
        let text = read(config).unwrap_err().to_string();
        assert!(text.contains(part), "{text}");
    }
}
