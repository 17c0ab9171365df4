//! Whether a completion reaches the target of a countdown problem with just the numbers that were given.
//!
//! Before: the prompt has the columns `numbers` and `target`, see [`data::Countdown`]. After: a part of the rollout's
//! [`data::Score`]. Expressions are worked out in whole fractions; long and deep ones are refused, so time is bounded.

use std::collections::BTreeMap;

use data::{Prompt, Rollout, Verdict};
use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::Zero;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::extract::{said, shown};
use crate::{Extract, Place, Reward};

/// 1 if the completion's expression uses each of the prompt's `numbers` once and comes to its `target`, else 0 with the
/// reason. Fails if the prompt has no such columns.
///
/// Read are numbers, `+ - * / × ÷ · x`, parentheses, a sign in front, and of LaTeX `\times`, `\cdot`, `\div`, `\frac` and
/// dollar signs; behind the expression there may be `=` and the target.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CountdownReward {
    /// Where the expression stands. Here `"auto"` is the last `<answer>…</answer>`, else the last box, else what
    /// follows the last `####`, else what follows the last "answer is", else the last line.
    pub extract: Extract,
}

impl Reward for CountdownReward {
    fn score(&self, rollout: &Rollout) -> Verdict {
        let (numbers, target) = match problem(&rollout.prompt) {
            Ok(problem) => problem,
            Err(why) => return Verdict::failed(why),
        };
        let found = match self.extract == Extract::default() {
            true => expression(&rollout.text),
            false => self.extract.of(rollout),
        };
        let judged = match &found {
            Some(text) => judge(text, &numbers, &target),
            None => Err("there is no expression".to_owned()),
        };
        let verdict = Verdict::right(judged.is_ok()).with_answer(shown(found));
        match judged {
            Ok(()) => verdict,
            Err(why) => verdict.because(why),
        }
    }
}

/// The prompt's numbers and its target, in digits without signs, and the target as it is.
fn problem(prompt: &Prompt) -> Result<(Vec<String>, BigInt), String> {
    let column = |name: &str, wanted: &str| match prompt.fields.get(name) {
        Some(value) => Ok(value),
        None => Err(format!("the prompt has no column `{name}`, wanted {wanted}")),
    };
    let (list, one) = ("a list of whole numbers", "a whole number");
    let numbers = column("numbers", list)?;
    let whole = numbers.as_array().filter(|numbers| !numbers.is_empty());
    let whole = whole.and_then(|numbers| numbers.iter().map(whole_number).collect::<Option<Vec<_>>>());
    let Some(whole) = whole else {
        return Err(format!(
            "the prompt's column `numbers` is {}, wanted {list}",
            brief(&numbers.to_string())
        ));
    };
    let target = column("target", one)?;
    let Some(target_number) = whole_number(target) else {
        return Err(format!("the prompt's column `target` is {}, wanted {one}", brief(&target.to_string())));
    };
    Ok((whole.iter().map(|number| number.magnitude().to_string()).collect(), target_number))
}

/// A number, or a text with one; `3.0` is whole.
fn whole_number(value: &Value) -> Option<BigInt> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_owned(),
        _ => return None,
    };
    text.strip_suffix(".0").unwrap_or(&text).parse().ok()
}

/// The expression in a completion.
fn expression(completion: &str) -> Option<String> {
    let text = said(completion)?;
    let filled = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    if let Some((_, inside)) = text.rsplit_once("<answer>") {
        let (answer, _) = inside.split_once("</answer>")?;
        return Place::Boxed.extract(answer).or_else(|| filled(answer));
    }
    if text.contains(r"\boxed") || text.contains(r"\fbox") {
        return Place::Boxed.extract(&text);
    }
    if text.contains("####") {
        return Place::Hash.extract(&text);
    }
    Place::Phrase.extract(&text).or_else(|| filled(text.trim_end().lines().next_back()?))
}

/// Whether the expression uses just these numbers and comes to the target, or else why not.
fn judge(text: &str, numbers: &[String], target: &BigInt) -> Result<(), String> {
    /// Bytes. A problem with four numbers needs some 20.
    const LONGEST: usize = 2000;
    if text.len() > LONGEST {
        return Err(format!("the expression has {} bytes, wanted at most {LONGEST}", text.len()));
    }
    let tokens = tokens(text)?;
    let (left, right) = match tokens.iter().position(|token| *token == Token::Equals) {
        Some(at) => (&tokens[..at], Some(&tokens[at + 1..])),
        None => (tokens.as_slice(), None),
    };
    uses(left, numbers)?;
    let wanted = BigRational::from(target.clone());
    let value = Parser::value(left)?;
    if value != wanted {
        return Err(format!("it comes to {}, wanted {target}", brief(&value.to_string())));
    }
    match right.map(Parser::value) {
        None => Ok(()),
        Some(Ok(said)) if said == wanted => Ok(()),
        Some(Ok(said)) => {
            Err(format!("it says that it comes to {}, wanted {target}", brief(&said.to_string())))
        }
        Some(Err(why)) => Err(format!("behind the `=`: {why}")),
    }
}

/// Whether the numbers are those that were given, each as often.
fn uses(tokens: &[Token], given: &[String]) -> Result<(), String> {
    let mut counts = BTreeMap::<&str, (usize, usize)>::new();
    let used = tokens.iter().filter_map(|token| match token {
        Token::Number(digits) => Some(digits.as_str()),
        _ => None,
    });
    used.for_each(|digits| counts.entry(digits).or_default().0 += 1);
    given.iter().for_each(|digits| counts.entry(digits).or_default().1 += 1);
    let Some((digits, (used, there))) = counts.into_iter().find(|(_, (used, there))| used != there) else {
        return Ok(());
    };
    let times = |count| match count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        _ => format!("{count} times"),
    };
    let digits = brief(digits);
    let what = match (used, there) {
        (_, 0) => format!("it uses {digits}, which was not given"),
        (0, 1) => format!("it does not use {digits}"),
        (0, _) => format!("it does not use {digits}, which was given {}", times(there)),
        (_, 1) => format!("it uses {digits} {}", times(used)),
        _ => format!("it uses {digits} {}, though it was given {}", times(used), times(there)),
    };
    Err(format!("{what}; given were {}", brief(&given.join(", "))))
}

/// The text, or the beginning of a long one.
fn brief(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// Digits, without zeros in front.
    Number(String),
    /// One of `+ - * /`.
    Operator(char),
    /// With the character that closes it.
    Open(char),
    Close(char),
    /// `\frac`, whose two arguments follow.
    Fraction,
    Equals,
}

/// Words of LaTeX, those first that others begin with; those without a token are skipped.
const WORDS: [(&str, Option<Token>); 23] = [
    (r"\dfrac", Some(Token::Fraction)),
    (r"\tfrac", Some(Token::Fraction)),
    (r"\cfrac", Some(Token::Fraction)),
    (r"\frac", Some(Token::Fraction)),
    (r"\times", Some(Token::Operator('*'))),
    (r"\cdot", Some(Token::Operator('*'))),
    (r"\ast", Some(Token::Operator('*'))),
    (r"\div", Some(Token::Operator('/'))),
    (r"\left", None),
    (r"\right", None),
    (r"\bigl", None),
    (r"\bigr", None),
    (r"\big", None),
    (r"\displaystyle", None),
    (r"\(", None),
    (r"\)", None),
    (r"\[", None),
    (r"\]", None),
    (r"\,", None),
    (r"\;", None),
    (r"\:", None),
    (r"\!", None),
    (r"\ ", None),
];

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let around = |c: char| c.is_whitespace() || "*`".contains(c);
    let mut rest = text.trim_matches(around).trim_end_matches(['.', ',', '!']).trim_matches(around);
    let mut tokens = Vec::new();
    while let Some(c) = rest.chars().next() {
        if c.is_ascii_digit() {
            // \frac82 is 8/2: without braces an argument is one digit
            let argument =
                matches!(&tokens[..], [.., Token::Fraction] | [.., Token::Fraction, Token::Number(_)]);
            let all = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let end = if argument { 1 } else { all };
            let digits = rest[..end].trim_start_matches('0');
            tokens.push(Token::Number(if digits.is_empty() { "0" } else { digits }.to_owned()));
            rest = &rest[end..];
            continue;
        }
        if let Some((word, token)) = WORDS.iter().find(|(word, _)| rest.starts_with(word)) {
            tokens.extend(token.clone());
            rest = &rest[word.len()..];
            continue;
        }
        tokens.extend(match c {
            '+' => Some(Token::Operator('+')),
            '-' | '−' | '–' => Some(Token::Operator('-')),
            '*' | '×' | '·' | '⋅' | '∗' | 'x' | 'X' => Some(Token::Operator('*')),
            '/' | '÷' | '∕' | '⁄' => Some(Token::Operator('/')),
            '(' => Some(Token::Open(')')),
            '[' => Some(Token::Open(']')),
            '{' => Some(Token::Open('}')),
            ')' | ']' | '}' => Some(Token::Close(c)),
            '=' => Some(Token::Equals),
            '$' => None,
            c if c.is_whitespace() => None,
            _ => return Err(format!("cannot read `{}`", brief(rest))),
        });
        rest = &rest[c.len_utf8()..];
    }
    Ok(tokens)
}

/// An expression being worked out from left to right.
struct Parser<'a> {
    rest: &'a [Token],
    depth: usize,
}

impl Parser<'_> {
    fn value(tokens: &[Token]) -> Result<BigRational, String> {
        let mut parser = Parser { rest: tokens, depth: 0 };
        let value = parser.sum()?;
        match parser.rest.first() {
            None => Ok(value),
            Some(token) => Err(format!("{} stands where an operator should", token.text())),
        }
    }

    fn eat(&mut self, wanted: &Token) -> bool {
        let found = self.rest.first() == Some(wanted);
        self.rest = &self.rest[usize::from(found)..];
        found
    }

    fn sum(&mut self) -> Result<BigRational, String> {
        let mut value = self.product()?;
        loop {
            if self.eat(&Token::Operator('+')) {
                value += self.product()?;
            } else if self.eat(&Token::Operator('-')) {
                value -= self.product()?;
            } else {
                return Ok(value);
            }
        }
    }

    fn product(&mut self) -> Result<BigRational, String> {
        let mut value = self.factor()?;
        loop {
            if self.eat(&Token::Operator('*')) {
                value *= self.factor()?;
            } else if self.eat(&Token::Operator('/')) {
                value = quotient(value, self.factor()?)?;
            } else if matches!(self.rest.first(), Some(Token::Open(_))) {
                value *= self.factor()?; // as in 2(3 + 4)
            } else {
                return Ok(value);
            }
        }
    }

    fn factor(&mut self) -> Result<BigRational, String> {
        /// Parentheses and signs within each other.
        const DEEPEST: usize = 50;
        if self.depth == DEEPEST {
            return Err(format!("it is nested deeper than {DEEPEST} times"));
        }
        let Some((token, rest)) = self.rest.split_first() else {
            return Err("it ends where a number should stand".to_owned());
        };
        self.rest = rest;
        self.depth += 1;
        let value = match token {
            Token::Number(digits) => {
                digits.parse::<BigInt>().map(BigRational::from).map_err(|error| error.to_string())?
            }
            Token::Operator('-') => -self.factor()?,
            Token::Operator('+') => self.factor()?,
            Token::Open(close) => {
                let value = self.sum()?;
                if !self.eat(&Token::Close(*close)) {
                    return Err(format!("a parenthesis is not closed by `{close}`"));
                }
                value
            }
            Token::Fraction => quotient(self.factor()?, self.factor()?)?,
            other => return Err(format!("{} stands where a number should", other.text())),
        };
        self.depth -= 1;
        Ok(value)
    }
}

fn quotient(a: BigRational, b: BigRational) -> Result<BigRational, String> {
    if b.is_zero() { Err("it divides by 0".to_owned()) } else { Ok(a / b) }
}

impl Token {
    fn text(&self) -> String {
        match self {
            Self::Number(digits) => brief(digits),
            Self::Operator(c) | Self::Close(c) => format!("`{c}`"),
            Self::Open(close) => format!("the parenthesis that `{close}` closes"),
            Self::Fraction => r"`\frac`".to_owned(),
            Self::Equals => "`=`".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
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
        for text in ["<answer>3 * 7 + 9", "<think>3 * 7 + 9", r"3 * 7 + 9 = \boxed{30}", "3 * 7 + 9\n#### 30"]
        {
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
}
