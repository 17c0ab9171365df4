use std::sync::Arc;
use std::time::{Duration, Instant};

use data::{Dataset, PromptTemplate, Seed};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::testing::rollout;

fn verdict(text: &str, fields: Value) -> Verdict {
    let mut rollout = rollout(text, None);
    let prompt = Prompt { fields: fields.as_object().unwrap().clone(), ..(*rollout.prompt).clone() };
    rollout.prompt = Arc::new(prompt);
    CountdownReward::default().score(&rollout)
}

/// What stands against the text as an answer, or nothing.
fn why(text: &str, numbers: &[i64], target: i64) -> String {
    let verdict = verdict(text, json!({"numbers": numbers, "target": target}));
    assert_eq!(verdict.value, Some(f32::from(u8::from(verdict.reason.is_none()))), "{text}");
    verdict.reason.unwrap_or_default()
}

#[test]
fn an_expression_is_right_in_any_common_notation() {
    for (text, numbers, target) in [
        ("8 + 3", &[3, 8][..], 11),
        ("81 - (53 - 46)", &[53, 46, 81], 74),
        ("81 - [53 - 46] = 74", &[53, 46, 81], 74),
        (r"$81 - \left(53 - 46\right)$.", &[53, 46, 81], 74),
        (r"\frac{8}{2} \times (3 + 4) = 28", &[8, 2, 3, 4], 28),
        (r"\[ \dfrac{8 \cdot 3}{2} \]", &[8, 2, 3], 12),
        (r"\frac82", &[8, 2], 4),
        ("8 ÷ 2 × 3 − 1", &[8, 2, 3, 1], 11),
        ("8/(3 - 8/3)", &[8, 3, 8, 3], 24),
        ("**8 x 3**", &[3, 8], 24),
        ("-3 + 8", &[3, 8], 5),
        ("2(3 + 4)", &[2, 3, 4], 14),
        ("(1 + 1)(1 + 1)", &[1, 1, 1, 1], 4),
        ("3 - 08", &[-8, 3], -5),
    ] {
        assert_eq!(why(text, numbers, target), "", "{text}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    for (text, reason) in [
        ("7 + 7 + 9", "it does not use 3; given were 3, 7, 9"),
        ("3 + 7 + 7 + 9", "it uses 7 twice; given were 3, 7, 9"),
        ("3 + 7 + 9 + 5", "it uses 5, which was not given; given were 3, 7, 9"),
        ("3 + 7 + 9", "it comes to 19, wanted 30"),
        ("3 / 7 + 9", "it comes to 66/7, wanted 30"),
        ("3 * 7 + 9 = 31", "it says that it comes to 31, wanted 30"),
        ("3 * 7 = 21 + 9 = 30", "it does not use 9; given were 3, 7, 9"),
        ("3 * 7 + 9 = 30 = 30", "behind the `=`: `=` stands where an operator should"),
        ("3 * 7 + 9 =", "behind the `=`: it ends where a number should stand"),
        ("3 ** 7 + 9", "`*` stands where a number should"),
        ("3 * 7 9", "9 stands where an operator should"),
        ("(3 * 7 + 9", "a parenthesis is not closed by `)`"),
        ("3 * 7 + 9)", "`)` stands where an operator should"),
        ("(3 * 7] + 9", "a parenthesis is not closed by `)`"),
        ("3 / (7 - 7) + 9", "it uses 7 twice; given were 3, 7, 9"),
        ("3 * 7 + 9 apples", "cannot read `apples`"),
        ("3 ^ 7 + 9", "cannot read `^ 7 + 9`"),
        ("I cannot.", "cannot read `I cannot`"),
        ("", "there is no expression"),
    ] {
        assert_eq!(why(text, &[3, 7, 9], 30), reason, "{text}");
    }
    assert_eq!(why("1 / (7 - 7)", &[1, 7, 7], 1), "it divides by 0");
    assert_eq!(why("7", &[7, 7], 7), "it uses 7 once, though it was given twice; given were 7, 7");
    assert_eq!(why("1", &[1, 7, 7], 1), "it does not use 7, which was given twice; given were 1, 7, 7");
}

#[test]
fn the_expression_stands_where_answers_do_or_in_the_last_line() {
    for text in [
        "<answer>3 * 7 + 9</answer>",
        "<think>7 + 7</think>\n<answer>\n 3 * 7 + 9 = 30 </answer> 5",
        r"So 3 + 7 fails. \boxed{3 \times 7 + 9}",
        "#### 3 * 7 + 9\nor so",
        "First 3 + 9.\nThe answer is 3 * 7 + 9.",
        "The answer is $3 \\times 7 + 9 = 30$, as wanted.",
        "I try 7 + 9 first.\n3 * 7 + 9 = 30\n\n",
    ] {
        assert_eq!(why(text, &[3, 7, 9], 30), "", "{text}");
    }
    for text in ["<answer>3 * 7 + 9", "<think>3 * 7 + 9", r"3 * 7 + 9 = \boxed{30}", "3 * 7 + 9\n#### 30"] {
        assert_ne!(why(text, &[3, 7, 9], 30), "", "{text}");
    }
    let cut = verdict("<think>3 * 7 + 9", json!({"numbers": [3, 7, 9], "target": 30}));
    assert!(cut.unanswered && cut.value == Some(0.0));
    let boxed: CountdownReward = serde_json::from_str(r#"{"extract": "boxed"}"#).unwrap();
    assert_eq!(boxed.extract.extract("3 * 7 + 9"), None);
    assert_eq!(serde_json::to_string(&CountdownReward::default()).unwrap(), r#"{"extract":"auto"}"#);
}

#[test]
fn a_prompt_without_a_problem_is_a_failure_and_no_zero() {
    for (fields, why) in [
        (json!({"target": 3}), "the prompt has no column `numbers`, wanted a list of whole numbers"),
        (json!({"numbers": [1, 2]}), "the prompt has no column `target`, wanted a whole number"),
        (
            json!({"numbers": [1, 2.5], "target": 3}),
            "the prompt's column `numbers` is [1,2.5], wanted a list of whole numbers",
        ),
        (
            json!({"numbers": [], "target": 3}),
            "the prompt's column `numbers` is [], wanted a list of whole numbers",
        ),
        (
            json!({"numbers": [1, 2], "target": null}),
            "the prompt's column `target` is null, wanted a whole number",
        ),
    ] {
        let verdict = verdict("1 + 2", fields);
        assert_eq!((verdict.value, verdict.failure.as_deref()), (None, Some(why)));
    }
    let right = verdict("1 + 2", json!({"numbers": [1.0, "2"], "target": "3"}));
    assert_eq!(right.value, Some(1.0));
}

#[test]
fn what_the_generator_gives_as_an_answer_is_right_and_any_other_target_wrong() {
    let set = Dataset::countdown(&data::Countdown::default(), Seed(7), &PromptTemplate::default());
    for prompt in set.unwrap().take(500).prompts() {
        let answer = prompt.answer.clone().unwrap();
        let mut fields = Value::Object(prompt.fields.clone());
        assert_eq!(verdict(&answer, fields.clone()).value, Some(1.0), "{prompt:?}");
        fields["target"] = json!(fields["target"].as_i64().unwrap() + 1);
        assert_eq!(verdict(&answer, fields).value, Some(0.0));
    }
}

proptest! {
    #[test]
    fn any_text_is_judged(pieces in prop::collection::vec(prop_oneof![
        6 => prop::sample::select(vec![
            "3", "7", "9", "0", "30", "+", "-", "−", "*", "×", "/", "÷", "(", ")", "[", "]", "{", "}", "=", " ", "$", "x",
            ".", r"\frac", r"\frac{", r"\times", r"\cdot", r"\left", r"\(", "\\", r"\boxed{", "####", "answer is ",
            "<answer>", "</answer>", "</think>", "\n", "é", "99999999999999999999999999",
        ]).prop_map(str::to_owned),
        1 => any::<String>(),
    ], 0..30)) {
        let text = pieces.concat();
        let verdict = verdict(&text, json!({"numbers": [3, 7, 9], "target": 30}));
        prop_assert!(matches!(verdict.value, Some(0.0 | 1.0)));
        prop_assert_eq!(verdict.value == Some(0.0), verdict.reason.is_some());
    }

    #[test]
    fn signs_and_parentheses_are_as_in_rust(a in 1..99_i64, b in 1..99_i64, c in 1..99_i64) {
        for (text, value) in [
            (format!("{a} - {b} - {c}"), a - b - c),
            (format!("{a} - ({b} - {c})"), a - (b - c)),
            (format!("{a} - {b} * -{c}"), a - b * -c),
            (format!("-({a} + {b}) * {c}"), -(a + b) * c),
            (format!("{a} * {b} / {b} + {c}"), a + c),
        ] {
            let numbers: Vec<i64> =
                text.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
            prop_assert_eq!(why(&text, &numbers, value), "", "{}", text);
        }
    }
}

#[test]
fn time_is_bounded_whatever_the_text_says() {
    let start = Instant::now();
    for piece in
        ["(", "-", "9", "9*", r"\frac", r"\boxed{", "<answer>", "####", "answer is 9 ", "((9)", "\n", "$"]
    {
        for length in [1990, 1_000_000] {
            let text = piece.repeat(length / piece.len());
            assert_ne!(why(&text, &[3, 7, 9], 30), "");
            assert_ne!(why(&format!("<answer>{text}</answer>"), &[3, 7, 9], 30), "");
        }
    }
    // the numbers themselves may be many
    let many = vec![999_999_999_999; 140];
    let text = many.iter().map(i64::to_string).collect::<Vec<_>>();
    assert!(why(&text.join("*"), &many, 30).starts_with("it comes to 999999999"));
    assert!(why(&text.join("/"), &many, 30).starts_with("it comes to 1/99999"));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}
