//! The grader on labelled cases, and on what would break it.

use proptest::prelude::*;
use rewards::math::{equal, readable};
use rewards::{Extract, Place};
use serde::Deserialize;

#[path = "math/hostile.rs"]
mod hostile;

#[derive(Deserialize)]
struct Case {
    id: String,
    form: String,
    gold: String,
    #[serde(alias = "completion")]
    prediction: String,
    #[serde(alias = "expected")]
    equivalent: bool,
}

impl Case {
    fn judged(&self) -> bool {
        let found = match self.form.as_str() {
            "response" | "boxed" => Extract::default().extract(&self.prediction),
            _ => Some(self.prediction.clone()),
        };
        found.is_some_and(|found| equal(&self.gold, &found))
    }
}

fn all_as_labelled(file: &str) {
    let cases: Vec<Case> = file.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(cases.len() > 100);
    let wrong: Vec<String> = cases
        .iter()
        .filter(|case| case.judged() != case.equivalent)
        .map(|case| format!("{}: {} | {} is not {}", case.id, case.gold, case.prediction, case.equivalent))
        .collect();
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn common_forms_are_judged_as_labelled() {
    all_as_labelled(include_str!("math/cases.jsonl"));
}

#[test]
fn rarer_forms_are_judged_as_labelled() {
    all_as_labelled(include_str!("math/more.jsonl"));
}

#[test]
fn forms_that_other_graders_were_reported_for_are_judged_as_labelled() {
    all_as_labelled(include_str!("math/reports.jsonl"));
}

/// By kind: prose, headings, assignments, units, clocks, systems, sets, near misses and so on.
#[test]
fn kinds_of_forms_and_their_near_misses_are_judged_as_labelled() {
    all_as_labelled(include_str!("math/kinds.jsonl"));
}

/// The same kinds with other numbers and words, and worked answers with their usual slips.
#[test]
fn neighbours_of_these_kinds_are_judged_as_labelled() {
    all_as_labelled(include_str!("math/neighbours.jsonl"));
}

#[test]
fn nothing_is_never_right() {
    for (answer, found) in
        [("", ""), (" ", " "), ("", "5"), ("5", ""), ("$$", "$$"), ("\\text{}", "\\text{}")]
    {
        let blank = answer.trim().is_empty() || found.trim().is_empty();
        assert!(!equal(answer, found) || !blank, "{answer:?} {found:?}");
    }
    assert_eq!(Extract::default().extract(""), None);
}

#[test]
fn hostile_answers_are_compared_with_themselves_and_each_other() {
    let all = hostile::answers();
    for (at, answer) in all.iter().enumerate() {
        readable(answer);
        assert!(equal(answer, answer));
        assert!(!equal("17.25", answer) && !equal(answer, "17.25"), "{}", &answer[..answer.len().min(60)]);
        let other = &all[(at + 1) % all.len()];
        equal(answer, other);
        equal(&format!("{answer}+x"), &format!("x+{answer}"));
    }
}

fn pieces() -> impl Strategy<Value = String> {
    let pieces = [
        r"\frac",
        r"\frac{",
        "{",
        "}",
        r"\sqrt",
        r"\sqrt[3]{",
        r"\left(",
        r"\right)",
        "(",
        ")",
        "[",
        "]",
        r"\{",
        r"\}",
        "|",
        "^",
        "^{",
        "_",
        "_{",
        "-",
        "+",
        "*",
        "/",
        r"\cdot ",
        r"\times",
        r"\pm",
        "=",
        "<",
        r"\le",
        r"\in",
        r"\cup",
        r"\setminus",
        ",",
        ", ",
        ";",
        ":",
        "!",
        "%",
        r"\%",
        r"^\circ",
        r"\$",
        "$",
        ".",
        "x",
        "y",
        "a",
        "n",
        "i",
        "e",
        r"\pi",
        r"\alpha",
        r"\infty",
        r"\sin",
        r"\log_",
        r"\ln",
        r"\binom",
        r"\text{",
        r"\text{ cm}",
        r"\text{ and }",
        r"\mathrm{",
        r"\overline{",
        r"\begin{pmatrix}",
        r"\end{pmatrix}",
        "&",
        r"\\",
        "0",
        "1",
        "2",
        "7",
        "12",
        "3.5",
        "1,000",
        "999999999999",
        "e23",
        " cm",
        " or ",
        "apples",
        "é",
        "√",
        "½",
        "²",
        "°",
    ];
    let piece =
        prop_oneof![9 => prop::sample::select(pieces.to_vec()).prop_map(str::to_owned), 1 => any::<String>()];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_two_texts_have_a_verdict(answer in pieces(), found in pieces()) {
        let verdict = equal(&answer, &found);
        prop_assert!(!(verdict && (answer.trim().is_empty() || found.trim().is_empty())));
        for place in [
            Place::Boxed,
            Place::Hash,
            Place::Phrase,
            Place::Choice,
            Place::LastExpression,
            Place::LastNumber,
            Place::Whole,
        ] {
            place.extract(&found);
        }
        let bare = answer.trim_matches(|c: char| c.is_whitespace() || "*`\"".contains(c));
        let padded = format!(" {answer}\n");
        prop_assert_eq!(equal(&answer, &padded), !bare.is_empty());
    }

    #[test]
    fn an_integer_is_itself_and_no_other(a in any::<i64>(), b in any::<i64>()) {
        prop_assert_eq!(equal(&a.to_string(), &b.to_string()), a == b);
        let decimal = format!("{a}.000");
        let boxed = format!("\\frac{{{}}}{{2}}", i128::from(a) * 2);
        prop_assert!(equal(&a.to_string(), &decimal));
        prop_assert!(equal(&a.to_string(), &boxed));
    }

    #[test]
    fn a_polynomial_is_its_expanded_form(a in -50_i64..50, b in -50_i64..50, c in -50_i64..50) {
        let factors = format!("(x+({a}))(x+({b}))");
        let expanded = format!("x^2+({})x+({})", a + b, a * b);
        prop_assert!(equal(&factors, &expanded));
        let other = format!("x^2+({})x+({})", a + b, a * b + c);
        prop_assert_eq!(equal(&factors, &other), c == 0);
    }

    #[test]
    fn a_sum_of_roots_is_its_square_root_form(a in 1_u32..400, k in 1_u32..30) {
        let inside = format!("\\sqrt{{{}}}", a * k * k);
        let outside = format!("{k}\\sqrt{{{a}}}");
        prop_assert!(equal(&inside, &outside));
        let near = format!("{:.9}", f64::from(a * k * k).sqrt());
        let square = f64::from(a).sqrt().fract() == 0.0;
        prop_assert_eq!(equal(&inside, &near), square);
    }
}
