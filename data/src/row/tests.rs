use serde_json::json;

use super::*;
use crate::Message;

/// Reads JSON rows as the file `rows.jsonl`. An error is its text, with the folder left out.
fn read_with(
    rows: &[Value],
    columns: &Columns,
    layout: Layout,
    template: &PromptTemplate,
) -> Result<Dataset, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    std::fs::write(&path, rows.iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
    Dataset::read(&path, columns, layout, template)
        .map_err(|error| error.to_string().replace(&path.display().to_string(), "rows.jsonl"))
}

fn read(rows: &[Value], layout: Layout) -> Result<Dataset, String> {
    read_with(rows, &Columns::default(), layout, &PromptTemplate::default())
}

/// The only row's prompt, and how it was read.
fn one(row: Value, layout: Layout) -> (Prompt, String) {
    let set = read(&[row], layout).unwrap();
    ((*set.prompts()[0]).clone(), set.reading().unwrap().to_string())
}

fn user(content: &str) -> Body {
    Body::Chat(vec![Message::user(content)])
}

fn references(prompt: &Prompt) -> Vec<&str> {
    prompt.references().collect()
}

#[test]
fn rows_of_verl_are_read_as_they_are() {
    let row = json!({
        "data_source": "openai/gsm8k", "prompt": [{"role": "user", "content": "1+1"}], "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "2"},
        "extra_info": {"split": "train", "index": 0, "answer": "1+1=2\n#### 2", "question": "1+1"},
    });
    for layout in [Layout::Auto, Layout::Verl] {
        let (prompt, reading) = one(row.clone(), layout);
        assert_eq!((&prompt.body, references(&prompt)), (&user("1+1"), vec!["2"]));
        let told = "layout verl: the question is `prompt`, a conversation; the answer is `reward_model.ground_truth`";
        assert_eq!(reading, told);
        for column in ["data_source", "prompt", "ability", "reward_model", "extra_info"] {
            assert_eq!(prompt.fields[column], row[column], "{column}");
        }
        assert_eq!(prompt.fields["question"], "1+1");
    }
}

#[test]
fn verls_ground_truth_may_be_a_list_a_number_an_object_or_json_within_a_text() {
    for (truth, wanted) in [
        (json!(["2", "two"]), vec!["2", "two"]),
        (json!(2.50), vec!["2.5"]),
        (json!(true), vec!["true"]),
        (json!(r#"["\\frac{1}{2}", "0.5"]"#), vec![r"\frac{1}{2}", "0.5"]),
        (json!("[1, 2]"), vec!["[1, 2]"]),
        (json!({"target": ["Paris", "paris"]}), vec!["Paris", "paris"]),
        (json!({"target": 24, "numbers": [4, 6]}), vec![r#"{"target":24,"numbers":[4,6]}"#]),
    ] {
        let row =
            json!({"prompt": [{"role": "user", "content": "q"}], "reward_model": {"ground_truth": truth}});
        let (prompt, _) = one(row, Layout::Auto);
        assert_eq!(references(&prompt), wanted, "{truth}");
        assert_eq!(prompt.fields["reward_model"]["ground_truth"], truth);
    }
}

#[test]
fn rows_of_trl_are_read_as_they_are() {
    let turn = |role: &str, content: &str| json!({"role": role, "content": content});
    let asked = json!([turn("system", "be brief"), turn("user", "1+1")]);
    let chat = Body::Chat(vec![Message::system("be brief"), Message::user("1+1")]);
    let with_last = json!([turn("system", "be brief"), turn("user", "1+1"), turn("assistant", "2")]);
    for (row, body, answer) in [
        (json!({"prompt": asked, "answer": "2"}), &chat, "2"),
        (json!({"prompt": asked, "ground_truth": 2}), &chat, "2"),
        (json!({"prompt": asked, "solution": "$2$"}), &chat, "$2$"),
        (json!({"prompt": asked, "solution": r"so $\boxed{2}$."}), &chat, "2"),
        (json!({"prompt": "1+1=", "completion": " 2"}), &Body::Text("1+1=".into()), "2"),
        (json!({"prompt": asked, "completion": [turn("assistant", "2")]}), &chat, "2"),
        (json!({"messages": with_last}), &chat, "2"),
        (json!({"messages": with_last, "ground_truth": "zwei", "dataset": "x"}), &chat, "zwei"),
        (json!({"messages": asked, "answer": "2"}), &chat, "2"),
    ] {
        for layout in [Layout::Auto, Layout::Trl] {
            let (prompt, reading) = one(row.clone(), layout);
            assert_eq!((&prompt.body, references(&prompt)), (body, vec![answer]), "{row}");
            assert!(reading.starts_with("layout trl: the question is `"), "{reading}");
            assert_eq!(prompt.fields.get("solution"), row.get("solution"));
        }
    }
}

#[test]
fn columns_that_others_use_are_found() {
    for (row, told) in [
        (json!({"input": "q", "label": "a"}), "layout plain: the question is `input`; the answer is `label`"),
        (
            json!({"problem": "q", "answer": "a", "solution": "s"}),
            "layout plain: the question is `problem`; the answer is `answer`",
        ),
        (
            json!({"question": "q", "answer": "a", "info": {"x": 1}, "prompt": [{"role": "user", "content": "p"}],
                "reward_model": {"ground_truth": "b"}}),
            "layout plain: the question is `question`; the answer is `answer`",
        ),
    ] {
        let (prompt, reading) = one(row, Layout::Auto);
        assert_eq!((prompt.body, prompt.answer.unwrap().to_string()), (Body::Text("q".into()), "a".into()));
        assert_eq!(reading, told);
    }
    let sharegpt = json!({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]});
    let (prompt, _) = one(sharegpt, Layout::Auto);
    assert_eq!((&prompt.body, references(&prompt)), (&user("q"), vec!["a"]));
    // a layout that is named looks for its own columns only
    let error = read(&[json!({"input": "q", "label": "a"})], Layout::Verl).unwrap_err();
    assert!(error.contains("the row has no column `prompt`"), "{error}");
    let error = read(&[json!({"prompt": "q", "reward_model": {"style": "rule"}})], Layout::Verl).unwrap_err();
    assert!(error.contains("no column `reward_model.ground_truth`; the columns are `prompt`, `reward_model`, `reward_model.style`"), "{error}");
}

#[test]
fn a_named_column_is_taken_in_every_layout_and_may_lead_into_an_object() {
    let row = json!({"prompt": "q", "task": [{"role": "user", "content": "p"}], "meta": {"gold": 1.5, "deep": {"id": 7}}});
    let columns = Columns {
        question: "task".into(),
        answer: Some("meta.gold".into()),
        id: Some("meta.deep.id".into()),
    };
    let template = PromptTemplate { template: "{question} {meta.gold}".into(), ..PromptTemplate::default() };
    for layout in [Layout::Auto, Layout::Plain, Layout::Verl, Layout::Trl] {
        let set = read_with(std::slice::from_ref(&row), &columns, layout, &template).unwrap();
        let prompt = &set.prompts()[0];
        assert_eq!(
            (&prompt.body, references(prompt), prompt.id.as_str()),
            (&user("p 1.5"), vec!["1.5"], "7")
        );
        assert_eq!(prompt.fields["meta"], row["meta"]);
    }
}

#[test]
fn answers_may_be_lists_booleans_and_numbers_with_their_digits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    let row = r#"{"question": "q", "answer": [1.50, "3/2", true]}"#;
    std::fs::write(&path, row).unwrap();
    let set = Dataset::read(&path, &Columns::default(), Layout::Auto, &PromptTemplate::default()).unwrap();
    assert_eq!(references(&set.prompts()[0]), ["1.50", "3/2", "true"]);
    let (prompt, _) = one(json!({"question": "q", "answer": false}), Layout::Plain);
    assert_eq!(references(&prompt), ["false"]);
}

#[test]
fn worked_solutions_give_their_answer_where_the_layout_says_so_or_their_form_does() {
    let gsm8k = json!({"question": "q", "answer": "1 #### 2\n3\n#### 1,234 "});
    for layout in [Layout::Auto, Layout::Gsm8k] {
        let (prompt, reading) = one(gsm8k.clone(), layout);
        assert_eq!((references(&prompt), &prompt.fields["solution"]), (vec!["1234"], &json!("1 #### 2\n3")));
        assert_eq!(
            reading,
            "layout gsm8k: the question is `question`; the answer stands in `answer` after ####"
        );
    }
    let own = json!({"question": "q", "answer": "x #### 5", "solution": "mine"});
    assert_eq!(one(own, Layout::Gsm8k).0.fields["solution"], "mine");
    let math =
        json!({"problem": "q", "solution": r"It is $\boxed{1}$, no: $\boxed{\frac{1}{2}}$.", "level": 3});
    for layout in [Layout::Auto, Layout::Math] {
        let (prompt, reading) = one(math.clone(), layout);
        assert_eq!(references(&prompt), [r"\frac{1}{2}"]);
        assert_eq!(
            reading,
            "layout math: the question is `problem`; the answer is the last box in `solution`"
        );
        assert_eq!(prompt.fields["solution"], math["solution"]);
    }
    // as it stands
    assert_eq!(references(&one(gsm8k, Layout::Plain).0), ["1 #### 2\n3\n#### 1,234"]);
    let inner = json!({"question": "q", "answer": " 1 #### 1,234 "});
    assert_eq!(one(inner, Layout::Auto).0.answer.unwrap().to_string(), " 1 #### 1,234 ");
}

#[test]
fn a_solution_without_its_mark_is_an_error_that_names_the_row() {
    let row = |answer: &str| json!({"question": "q", "answer": answer});
    let bare = "column `answer` has no `####`, by which the layout finds the answer of a worked solution; if the column \
                holds bare answers, set `layout = \"plain\"`";
    for (rows, line) in [
        (vec![row("so it is 5")], 1),
        (vec![row("5")], 1),
        (vec![row("so #### 1"), row("so #### 2"), row("3")], 3),
    ] {
        let error = read(&rows, Layout::Gsm8k).unwrap_err();
        assert_eq!(error, format!("`rows.jsonl`, line {line}: {bare}"));
    }
    let error = read(&[row("so\n#### 1"), row("2")], Layout::Auto).unwrap_err();
    assert_eq!(
        error,
        "`rows.jsonl`, line 2: column `answer` has no `####`, though that of line 1 has one: either all rows have it or \
         none has"
    );
    let error = read(&[row("1"), row("so\n#### 2")], Layout::Auto).unwrap_err();
    assert_eq!(
        error,
        "`rows.jsonl`, line 2: column `answer` has a worked solution with `####`, though that of line 1 has none: either \
         all rows have it or none has"
    );
    let error = read(&[row("so #### , ")], Layout::Gsm8k).unwrap_err();
    assert_eq!(
        error,
        "`rows.jsonl`, line 1: column `answer` has nothing after or in its last `####`, wanted an answer there"
    );
    let error = read(&[json!({"problem": "q", "solution": "five"})], Layout::Math).unwrap_err();
    assert!(
        error.starts_with(r"`rows.jsonl`, line 1: column `solution` has no `\boxed{…}`, by which"),
        "{error}"
    );
    let columns = Columns { answer: None, ..Columns::default() };
    for (layout, name) in [(Layout::Gsm8k, "gsm8k"), (Layout::Math, "math")] {
        let error = read_with(&[json!({})], &columns, layout, &PromptTemplate::default()).unwrap_err();
        let rest = "layout needs an answer column, but `answer` is empty, which means that there is none";
        assert_eq!(error, format!("the {name} {rest}"));
    }
}

#[test]
fn a_conversation_that_is_no_prompt_is_refused_by_name() {
    let turn = |role: &str| json!({"role": role, "content": "x"});
    let prompt = |turns: Value| json!({"prompt": turns, "answer": "a"});
    for (row, problem) in [
        (prompt(json!([])), "column `prompt` holds an empty list"),
        (
            prompt(json!([turn("user"), turn("assistant")])),
            "column `prompt` ends in a turn of the assistant, which the policy",
        ),
        (prompt(json!([turn("system")])), "column `prompt` has no turn of the user"),
        (
            prompt(json!([{"role": "user"}])),
            "column `prompt` holds messages of which number 1 has no `content`",
        ),
        (prompt(json!(["a"])), "column `prompt` holds messages of which number 1 is text"),
        (
            json!({"messages": [turn("user")]}),
            "column `messages` does not end in a turn of the assistant, which would be the answer",
        ),
        (
            json!({"messages": [turn("assistant")]}),
            "column `messages` has nothing before the assistant's turn",
        ),
        (
            json!({"prompt": [turn("user")], "answer": "a", "tools": [{"name": "f"}]}),
            "column `tools` holds tools",
        ),
    ] {
        let error = read(&[row], Layout::Auto).unwrap_err();
        assert!(error.starts_with(&format!("`rows.jsonl`, line 1: {problem}")), "{error}");
    }
    let tools = json!({"prompt": [turn("user")], "answer": "a", "tools": []});
    assert_eq!(one(tools, Layout::Auto).0.body, user("x"));
    let unanswered = Columns { answer: None, ..Columns::default() };
    let row = json!({"messages": [turn("user"), turn("assistant")]});
    let set = read_with(&[row], &unanswered, Layout::Auto, &PromptTemplate::default()).unwrap();
    assert_eq!((&set.prompts()[0].body, &set.prompts()[0].answer), (&user("x"), &None));
}

#[test]
fn a_template_and_a_system_message_go_around_the_last_question_of_a_conversation() {
    let template = PromptTemplate {
        system: Some("be brief".into()),
        template: "{question} Answer in a box.".into(),
        jinja: None,
        chat: true,
    };
    let assistant = Message { role: "assistant".into(), content: "b".into() };
    let turns = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]);
    let row = json!({"prompt": turns, "answer": "d"});
    let set = read_with(&[row], &Columns::default(), Layout::Auto, &template).unwrap();
    let wanted =
        vec![Message::system("be brief"), Message::user("a"), assistant, Message::user("c Answer in a box.")];
    assert_eq!(set.prompts()[0].body, Body::Chat(wanted));
    let own = json!({"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "c"}], "answer": "d"});
    let error = read_with(&[own], &Columns::default(), Layout::Auto, &template).unwrap_err();
    assert!(
        error.contains("column `prompt` has a system message, and the recipe's `system` is another"),
        "{error}"
    );
}

#[test]
fn latex_that_lost_its_backslash_is_named_in_questions_and_answers() {
    for (row, column) in [
        (json!({"question": "what is \u{c}rac{1}{2}?", "answer": "0.5"}), "question"),
        (json!({"question": "q", "answer": ["0.5", "\u{c}rac{1}{2}"]}), "answer"),
        (json!({"prompt": [{"role": "user", "content": "\u{8}oxed{}"}], "answer": "1"}), "prompt"),
    ] {
        let error = read(&[row], Layout::Auto).unwrap_err();
        assert!(error.starts_with(&format!("`rows.jsonl`, line 1: column `{column}` has a ")), "{error}");
        assert!(error.contains("with a single backslash"), "{error}");
    }
    // what no prompt and no answer has does no harm
    assert!(read(&[json!({"question": "q", "answer": "a", "note": "\u{c}rac{1}{2}"})], Layout::Auto).is_ok());
}

#[cfg(feature = "parquet")]
#[test]
fn nested_columns_of_parquet_are_read_as_those_of_json() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/verl.parquet");
    let set = Dataset::read(path, &Columns::default(), Layout::Auto, &PromptTemplate::default()).unwrap();
    assert_eq!(set.reading().unwrap().layout, Layout::Verl);
    let prompt = &set.prompts()[1];
    assert_eq!((prompt.id.as_str(), &prompt.body, references(prompt)), ("verl:2", &user("1+1"), vec!["2"]));
    let fields = json!({
        "data_source": "openai/gsm8k", "prompt": [{"role": "user", "content": "1+1"}], "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "2"}, "extra_info": {"index": 1, "split": "train"},
        "question": "1+1",
    });
    assert_eq!(prompt.fields, *fields.as_object().unwrap());
}
