use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

const PLACES: [Place; 7] = [
    Place::Boxed,
    Place::Hash,
    Place::Phrase,
    Place::Choice,
    Place::LastExpression,
    Place::LastNumber,
    Place::Whole,
];

fn all() -> Vec<Extract> {
    PLACES.into_iter().map(Extract::from).chain([Extract::default()]).collect()
}

fn check(extract: impl Into<Extract>, cases: &[(&str, Option<&str>)]) {
    let extract = extract.into();
    for (text, wanted) in cases {
        assert_eq!(extract.extract(text).as_deref(), *wanted, "{text}");
    }
}

#[test]
fn the_last_box_counts_with_balanced_braces() {
    check(
        Place::Boxed,
        &[
            (r"So the total is \boxed{42}.", Some("42")),
            (r"First \boxed{5}. No, \boxed{6}.", Some("6")),
            (r"$\boxed{\frac{1}{2}}$", Some(r"\frac{1}{2}")),
            (r"\boxed{\sqrt{a_{1}^{2}+b}}", Some(r"\sqrt{a_{1}^{2}+b}")),
            (r"\fbox{18}", Some("18")),
            (r"\boxed{1} or \fbox{2}", Some("2")),
            (r"$\boxed{1}$ and $\boxed{2}$", Some("1, 2")),
            (r"\boxed{1}, \boxed{1}", Some("1")),
            (r"\boxed {7}", Some("7")),
            (r"\boxed{\{1,2\}}", Some(r"\{1,2\}")),
            (r"\boxed{\}}", Some(r"\}")),
            (r"\boxed{a\\}", Some(r"a\\")),
            (r"\boxed{\boxed{5}}", Some("5")),
            (r"\boxed{é ∞}", Some("é ∞")),
            (r"\boxed{}", None),
            (r"\boxed{ }", None),
            (r"\boxed{4", None),
            (r"\boxed{5} and \boxed{4", None),
            (r"\boxed{\boxed{\boxed{", None),
            (r"$\boxed 5$", Some("5")),
            (r"\boxed x", None),
            ("5", None),
            ("", None),
        ],
    );
}

#[test]
fn the_last_hash_counts_up_to_the_end_of_its_line() {
    check(
        Place::Hash,
        &[
            ("6 times 7 is 42.\n#### 42", Some("42")),
            ("#### 41\n#### 42\nand so on", Some("42")),
            ("####42\r\nmore", Some("42")),
            ("#### a b ", Some("a b")),
            ("#### ", None),
            ("####\n42", None),
            ("#### Final Answer\n42", None),
            ("#### 42\n#### Check\n6 times 7", Some("42")),
            ("#### 42 (forty-two)", Some("42")),
            ("##### 42", None),
            ("### 42", None),
            ("42", None),
        ],
    );
}

#[test]
fn the_last_number_is_whole() {
    check(
        Place::LastNumber,
        &[
            ("The answer is 5.", Some("5")),
            ("The final answer is: $5$", Some("5")),
            ("Answer: -3", Some("-3")),
            ("Answer: −3", Some("−3")),
            ("So the answer is 1/2.", Some("1/2")),
            ("48 in April and 24 in May, so the answer is $72$ clips.", Some("72")),
            ("it costs $1,250.50!", Some("1,250.50")),
            ("it loses -$5", Some("-$5")),
            ("10-3", Some("3")),
            ("(1)-3", Some("3")),
            ("x^{2}-3", Some("3")),
            ("pages 10 - 12", Some("12")),
            ("5 -3", Some("-3")),
            (r"x = -\frac{3}{4}$", Some(r"-\frac{3}{4}")),
            (r"1-\frac34 x", Some(r"\frac34")),
            (r"about 2.5 \times 10^{3} m", Some(r"2.5 \times 10^{3}")),
            ("about 6.02e23 of them", Some("6.02e23")),
            ("the list 1, 2,3", Some("3")),
            ("1,2345", Some("2345")),
            ("half is .5", Some(".5")),
            ("wait... 7...", Some("7")),
            (r"7 \frac{x}{y}", Some("7")),
            (r"\frac{5", Some("5")),
            ("2 + 2 =", Some("2")),
            ("no number", None),
            ("-", None),
            ("", None),
        ],
    );
}

#[test]
fn the_last_expression_is_whole_and_more_than_a_name() {
    check(
        Place::LastExpression,
        &[
            (r"The side is $\sqrt{2}$.", Some(r"\sqrt{2}")),
            ("The area is 12 cm^2.", Some("12 cm^2")),
            ("It simplifies to 5x + 2, of course.", Some("5x + 2")),
            ("The point is (3, 4).", Some("(3, 4)")),
            ("The largest $n$ is 34", Some("34")),
            ("So 34 is the value of $n$.", Some("34")),
            ("It costs $5 and $7.", Some("$7")),
            ("It is 34.\n\nThat is all.\nBye", Some("34")),
            ("nothing\n\nhere\n", None),
            ("So\n\\[\nx = 2\n\\]", Some("x = 2")),
            ("in 2020, 12 people", Some("12")),
            ("the roots are 1, 2, 3.", Some("1, 2, 3")),
            ("3 hours and 30 minutes", Some("3 hours and 30 minutes")),
            ("2 + 2 =", None),
            ("no number", None),
            ("", None),
        ],
    );
}

#[test]
fn of_a_completion_that_was_cut_off_only_what_is_complete_counts() {
    let of = |extract: Extract, text: &str| {
        let cut_off = Rollout { stop: data::StopReason::Length, ..crate::testing::rollout(text, None) };
        (extract.extract(text), extract.of(&cut_off))
    };
    let some = |text: &str| Some(text.to_owned());
    let auto = || Extract::default();
    assert_eq!(of(auto(), "First, 2 + 2 = 4. Then 12"), (some("12"), None));
    assert_eq!(of(auto(), "#### 12"), (some("12"), None));
    assert_eq!(of(auto(), "#### 12\nCheck:"), (some("12"), some("12")));
    assert_eq!(of(auto(), "The answer is 12"), (some("12"), None));
    assert_eq!(of(auto(), "The answer is 12. I"), (some("12"), some("12")));
    assert_eq!(of(auto(), r"\boxed{12} and"), (some("12"), some("12")));
    assert_eq!(of(Place::LastExpression.into(), "we get 12"), (some("12"), None));
    // asked for by name
    assert_eq!(of(Place::LastNumber.into(), "we get 12"), (some("12"), some("12")));
    let both = Extract(vec![Place::Boxed, Place::LastNumber]);
    assert_eq!(of(both, "we get 12"), (some("12"), some("12")));
}

#[test]
fn a_final_answer_behind_the_last_box_goes_before_it() {
    let revised = "\\boxed{10,000}. But wait.\n\nThe final answer is 10,455.";
    check(Extract::default(), &[(revised, Some("10,455")), (r"\boxed{7}. The answer is 8.", Some("7"))]);
    check(Place::Boxed, &[(revised, Some("10,000"))]);
}

#[test]
fn auto_asks_for_a_box_then_a_hash_then_an_expression() {
    check(
        Extract::default(),
        &[
            ("#### 1\n\\boxed{2} 3", Some("2")),
            ("#### 1\n3", Some("1")),
            ("1 3", Some("3")),
            (r"The answer is \boxed{4", None),
            (r"4 \boxed{}", None),
            ("4 ####", None),
            ("I cannot solve this problem.", None),
        ],
    );
}

#[test]
fn whole_is_all_but_the_blanks_around_it() {
    check(Place::Whole, &[(" a b\n", Some("a b")), (" \n", None), ("-77", Some("-77"))]);
}

#[test]
fn thinking_never_counts() {
    check(
        Place::Whole,
        &[
            ("<think>a</think>b", Some("b")),
            ("a<think>b</think>c<think>d</think>e", Some("ace")),
            ("<think>a<think>b</think>c", Some("c")),
            ("a</think>b", Some("b")),
            ("a</think>b<think>c</think>d", Some("bd")),
            ("a</think>b</think>c", Some("c")),
            ("<think>a", None),
            ("<think>a</think>b<think>c", None),
            ("<think>a</think>", None),
            ("a < b <thin", Some("a < b <thin")),
        ],
    );
    let cut_off = r"<think> Maybe \boxed{6}, #### 6, I should go on and";
    for extract in all() {
        assert_eq!(extract.extract(cut_off), None);
    }
    check(Extract::default(), &[("<think>\n\\boxed{5}? No.\n</think>\n\nIt is \\boxed{6}.", Some("6"))]);
}

fn pieces() -> impl Strategy<Value = String> {
    let pieces = [
        r"\boxed{",
        r"\fbox",
        "{",
        "}",
        "\\",
        "<think>",
        "</think>",
        "<",
        "####",
        "\n",
        " ",
        "-",
        "−",
        "+",
        "$",
        r"\$",
        ".",
        ",",
        "{,}",
        r"\,",
        "/",
        "e",
        "^",
        r"\times 10^{",
        r"\frac",
        r"\frac{",
        r"\tfrac12",
        r"\text{",
        "0",
        "7",
        "12",
        "234",
        "99999999999999999999999999999999999999999",
        "%",
        "é",
        "∞",
        "½",
        "٣",
    ];
    let piece =
        prop_oneof![4 => prop::sample::select(pieces.to_vec()).prop_map(str::to_owned), 1 => any::<String>()];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_text_gives_a_trimmed_piece_of_itself_or_nothing(text in pieces()) {
        for extract in all() {
            let Some(answer) = extract.extract(&text) else { continue };
            prop_assert!(!answer.is_empty());
            prop_assert_eq!(answer.trim(), &answer);
            prop_assert!(text.contains("</think>") || text.contains(&answer));
        }
        crate::math::equal("7", &text);
    }

    #[test]
    fn a_number_that_was_found_is_found_again_whole(text in pieces()) {
        if let Some(found) = Extract::from(Place::LastNumber).extract(&text) {
            prop_assert_eq!(Extract::from(Place::LastNumber).extract(&found), Some(found));
        }
    }
}

#[test]
fn phrases_and_choices_are_found() {
    check(
        Place::Phrase,
        &[
            ("The answer is 5.", Some("5")),
            ("The final answer is: $x^2$. I hope it is correct.", Some("x^2")),
            ("So the answer is $72$ clips.", Some("72")),
            ("The answers are $x=2$ and $x=3$.", Some("x=2$ and $x=3")),
            ("Answer: **B**", Some("B")),
            ("the answer is that he has 5 of them left", Some("5")),
            ("The answer is 5 because 2+3=5", Some("5")),
            ("The answer is\n42", Some("42")),
            ("The answer is 6. No, the answer is 7.", Some("7")),
            ("The answer is no solution.", Some("no solution")),
            ("The answer is 84, in total.", Some("84")),
            ("The answer is 84 (even).", Some("84")),
            ("The answer: the largest $n$ is 34.", Some("34")),
            ("**Final Answer**\n84", Some("84")),
            ("The answer is _7_.", Some("7")),
            ("I have no answer", None),
            ("answer is", None),
        ],
    );
    check(
        Place::Choice,
        &[
            ("So (C) is right.", Some("C")),
            ("Not A, but B.", Some("B")),
            ("A bus has 4 wheels, I think", None),
            ("x_A = B'", None),
        ],
    );
}

#[test]
fn places_are_written_as_one_or_several() {
    let read = |json: &str| serde_json::from_str::<Extract>(json);
    assert_eq!(read(r#""auto""#).unwrap(), Extract::default());
    assert_eq!(read(r#""boxed""#).unwrap(), Place::Boxed.into());
    assert_eq!(read(r#"["boxed", "choice"]"#).unwrap(), Extract(vec![Place::Boxed, Place::Choice]));
    for text in [r#""auto""#, r#""last_number""#, r#"["choice","whole"]"#] {
        assert_eq!(serde_json::to_string(&read(text).unwrap()).unwrap(), text);
    }
    let error = read(r#""box""#).unwrap_err().to_string();
    assert!(error.contains("unknown variant `box`, wanted `auto` or one of"), "{error}");
    assert!(read("[]").unwrap_err().to_string().contains("wanted one"));
}

#[test]
fn time_is_linear_in_the_text() {
    let start = Instant::now();
    for (begin, piece) in [
        ("", r"\boxed{"),
        ("", r"\boxed "),
        ("", r"\boxed{}"),
        (r"\boxed{", r"\{"),
        ("", "<think>"),
        ("", "</think>"),
        ("", "<"),
        ("", "####"),
        ("", "answer is "),
        ("", "answer: 5. "),
        ("the answer is ", "$1$, "),
        ("the answer is ", "a. "),
        ("", "(A) "),
        ("", r"\frac{"),
        ("", r"\frac{1"),
        ("", r"1\frac{1"),
        (r"\frac{1", "1"),
        (r"1\frac{1}{", " "),
        (r"1\times 10^{", "1"),
        ("", "1"),
        ("", "1,"),
        ("", "1,000"),
        ("", "1/"),
        ("1/", " "),
        ("", "1 "),
        ("", "1e"),
        ("", "-"),
        ("", "$"),
        ("", "."),
        (r"5\text{", "a"),
    ] {
        let text = begin.to_owned() + &piece.repeat(400_000 / piece.len()) + " }";
        for extract in all() {
            extract.extract(&text);
        }
        crate::math::equal("7", &text);
    }
    // 240 passes over 400 kB, a second or two; a single quadratic one takes minutes.
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}
