//! The grader on labelled cases, and on what would break it.

use proptest::prelude::*;
use rewards::math::{equal, readable};
use rewards::{Extract, Place};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    id: String,
    form: String,
    gold: String,
    prediction: String,
    equivalent: bool,
}

impl Case {
    fn judged(&self) -> bool {
        let found = match self.form.as_str() {
            "response" => Extract::default().extract(&self.prediction),
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
fn nothing_is_never_right() {
    for (answer, found) in
        [("", ""), (" ", " "), ("", "5"), ("5", ""), ("$$", "$$"), ("\\text{}", "\\text{}")]
    {
        let blank = answer.trim().is_empty() || found.trim().is_empty();
        assert!(!equal(answer, found) || !blank, "{answer:?} {found:?}");
    }
    assert_eq!(Extract::default().extract(""), None);
}

/// Answers that make graders hang, overflow their stack or their memory.
fn hostile() -> Vec<String> {
    let nested = |open: &str, close: &str, depth: usize| open.repeat(depth) + "1" + &close.repeat(depth);
    vec![
        "9".repeat(1_000_000),
        format!("0.{}", "9".repeat(100_000)),
        "2^(2^(2^64))".into(),
        "2^{2^{2^{64}}}".into(),
        "9^{9^{9^{9}}}".into(),
        "10^{10^{10}}".into(),
        "1e999999999".into(),
        "1e999".into(),
        "x^{999999999999999999999}".into(),
        "(1+x)^{1000000}".into(),
        "(a+b+c+d+e+f)^{60}".into(),
        "(a+b)^{60}(c+d)^{60}(u+v)^{60}".into(),
        "\\sqrt[60]{(a+b)^{59}}^{60}".into(),
        "100000!".into(),
        "((400!)!)!".into(),
        "\\binom{1000000}{500000}".into(),
        "\\binom{400}{200}^{60}".into(),
        "(\\frac{123456789}{987654321})^{4000}".into(),
        format!("{}", (1..200).map(|n| format!("\\frac{{1}}{{x+{n}}}")).collect::<Vec<_>>().join("+")),
        format!("{}", (1..200).map(|n| format!("\\sqrt{{{n}}}")).collect::<Vec<_>>().join("+")),
        format!("({})^{{9}}", (1..90).map(|n| format!("\\sqrt{{{n}}}")).collect::<Vec<_>>().join("+")),
        format!("({})", (1..400).map(|n| n.to_string()).collect::<Vec<_>>().join(", ")),
        nested("{", "}", 10_000),
        nested("(", ")", 10_000),
        nested("(", ")", 900),
        nested("\\sqrt{", "}", 250),
        nested("\\frac{1}{1+", "}", 150),
        nested("|", "|", 900),
        nested("-", "", 1900),
        nested("\\left(", "\\right)", 150),
        nested("[1,", "]", 400),
        "2^".repeat(900) + "2",
        "x_".repeat(900) + "2",
        "1 ".repeat(900),
        "\\frac".repeat(300),
        "\\text{".repeat(300),
        "\\mathrm{\\text{\\mathbf{".repeat(80),
        "\\overline{".repeat(180),
        "\\begin{pmatrix}".repeat(100),
        "1\\pm".repeat(300) + "1",
        "\\pm1,".repeat(300) + "1",
        "x=".repeat(900) + "1",
        "1<".repeat(900) + "x",
        "(0,1)\\cup".repeat(200) + "(0,1)",
        "\\sin".repeat(400) + "x",
        "\\sin ".repeat(400) + "x",
        "\\lfloor".repeat(200),
        "1,".repeat(999),
        "1,234".repeat(300),
        "a".repeat(2000),
        "ab ".repeat(600),
        "\u{0}\u{1}\u{fffd}🦀√∞".repeat(60),
        "\\boxed{".repeat(200),
        "5\\text{ m}^{999999999999}".into(),
        "5 \\text{ m}^{9}/\\text{s}^{9}".into(),
        "x+".repeat(900) + "y",
        "(x+1)".repeat(350),
        "(x+y+z+1)".repeat(200),
        "(\\sin x+1)".repeat(150),
        "\\frac{x+1}{y+2}+".repeat(100) + "1",
    ]
}

#[test]
fn hostile_answers_are_compared_with_themselves_and_each_other() {
    let all = hostile();
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
        for place in [Place::Boxed, Place::Hash, Place::Phrase, Place::Choice, Place::LastNumber, Place::Whole] {
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
