//! What a benchmark's rewards say of some fixed completions: a name for the grader that changes when its verdicts do.
//!
//! Before: the rewards of a benchmark. After: [`crate::Protocol`] has it, so that figures of two graders are not compared by
//! mistake, and figures of two versions of the program with the same verdicts are.

use std::sync::Arc;

use data::{Body, Prompt, Rollout};
use rewards::Rewards;
use serde_json::json;

use crate::protocol::sha256;

/// Reference answers, each with completions: plain ones, near misses, and ways of writing that graders differ on.
const PAIRS: &[(&str, &[&str])] = &[
    (
        "42",
        &[
            "42",
            r"\boxed{42}",
            "#### 42",
            "The answer is 42.",
            "The answer is 42, in total.",
            "So it is 42 (even).",
            "41",
            r"\boxed{42.0}",
            r"\boxed{42\%}",
            r"\boxed{042}",
            "First 41.\nThe final answer is 42.",
            r"\boxed{41} and \boxed{42}",
            r"\boxed{42} and \boxed{41}",
            "<think>7</think>\n<answer>42</answer>",
            "It is forty-two.",
            "42 apples",
            "$42$",
            "**42**",
            "The answer is not 42.",
            "42 or 43",
            r"\boxed{x = 42}",
            "no number",
            "",
            r"\boxed{}",
            r"\boxed{42",
            "4 2",
            "42.",
        ],
    ),
    (
        "1/2",
        &[
            r"\boxed{\frac{1}{2}}",
            r"\boxed{\frac12}",
            r"\boxed{0.5}",
            r"\boxed{.5}",
            r"\boxed{50\%}",
            r"\boxed{1/2}",
            "one half",
            r"\boxed{\dfrac{2}{4}}",
            r"\boxed{0.50}",
            r"\boxed{0{,}5}",
            r"\boxed{2^{-1}}",
            r"\boxed{0.5000001}",
            r"\boxed{1:2}",
        ],
    ),
    (
        r"\sqrt{2}",
        &[
            r"\boxed{\sqrt{2}}",
            r"\boxed{\sqrt2}",
            r"\boxed{2^{1/2}}",
            r"\boxed{1.41421356}",
            r"\boxed{\frac{2}{\sqrt{2}}}",
            r"The side is $\sqrt{2}$.",
            r"\boxed{-\sqrt{2}}",
            "√2",
            r"\boxed{\pm\sqrt{2}}",
        ],
    ),
    (
        "(3, 5)",
        &[
            r"\boxed{(3,5)}",
            r"\boxed{(5,3)}",
            r"\boxed{3,5}",
            r"\boxed{\left(3, 5\right)}",
            r"\boxed{[3,5]}",
            r"\boxed{x=3, y=5}",
            r"\boxed{x=5,p=3}",
            r"\boxed{\{3,5\}}",
        ],
    ),
    (
        "1000000",
        &[
            "1,000,000",
            r"\boxed{10^6}",
            "1 million",
            r"\boxed{1\,000\,000}",
            "1.000.000",
            r"\boxed{1{,}000{,}000}",
            "1e6",
        ],
    ),
    (
        "x^2+2x+1",
        &[
            r"\boxed{(x+1)^2}",
            r"\boxed{1+2x+x^2}",
            r"\boxed{x^2+2x}",
            r"\boxed{f(x)=x^2+2x+1}",
            r"\boxed{y^2+2y+1}",
            r"\boxed{x(x+2)+1}",
        ],
    ),
    (
        r"\{1,2,3\}",
        &[r"\boxed{\{3,2,1\}}", r"\boxed{1,2,3}", r"\boxed{\{1,2\}}", "1, 2 and 3", r"\boxed{\{1,2,3,3\}}"],
    ),
    (
        r"\frac{\pi}{4}",
        &[
            r"\boxed{\pi/4}",
            r"\boxed{45^\circ}",
            r"\boxed{0.785398}",
            r"\boxed{\arctan 1}",
            r"\boxed{\tfrac{1}{4}\pi}",
        ],
    ),
    (
        "12 cm^2",
        &[
            "12 cm^2.",
            r"\boxed{12}",
            r"\boxed{12\text{ cm}^2}",
            r"\boxed{12\,\mathrm{cm}}",
            "12 square centimetres",
        ],
    ),
    (
        "[0,1)",
        &[
            r"\boxed{[0,1)}",
            r"\boxed{0 \le x < 1}",
            r"\boxed{(0,1)}",
            r"\boxed{[0,1]}",
            r"\boxed{\left[0,1\right)}",
        ],
    ),
    ("B", &[r"\boxed{B}", r"\boxed{\text{(B)}}", "(B)", "b", "The answer is B.", r"\boxed{C}"]),
    (
        r"\begin{pmatrix}1&2\\3&4\end{pmatrix}",
        &[
            r"\boxed{\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}}",
            r"\boxed{\begin{bmatrix}1&2\\3&4\end{bmatrix}}",
            r"\boxed{\begin{pmatrix}1&3\\2&4\end{pmatrix}}",
        ],
    ),
    (
        "-3",
        &[r"\boxed{-3}", r"\boxed{−3}", r"\boxed{(-3)}", r"\boxed{3}", "minus 3", r"\boxed{\frac{-6}{2}}"],
    ),
    ("$18.50", &["18.5", "$18.50", r"\boxed{\$18.50}", "18.50 dollars", "1850 cents", "19"]),
    (r"2\frac{1}{3}", &[r"\boxed{7/3}", r"\boxed{2\frac13}", r"\boxed{2.333}", r"\boxed{\frac{2}{3}}"]),
    (r"\binom{5}{2}", &[r"\boxed{10}", r"\boxed{C_5^2}", r"\boxed{\frac{5!}{3!2!}}"]),
    (r"\log_2 8", &[r"\boxed{3}", r"\boxed{\frac{\ln 8}{\ln 2}}"]),
    ("3 + 4i", &[r"\boxed{3+4i}", r"\boxed{4i+3}", r"\boxed{3-4i}", r"\boxed{5}"]),
    ("yes", &["yes", "Yes", "YES.", " yes ", r"\boxed{\text{yes}}", "no"]),
    (
        "24",
        &[
            "<answer>(3 + 5) * 3</answer>",
            "<answer>3 * 5 + 3 * 3</answer>",
            r"\boxed{3*(3+5)}",
            "(3+5)*3 = 24",
            "<answer>24</answer>",
        ],
    ),
];

/// What these rewards say, in twelve hexadecimal digits: the SHA-256 of values and answers that they find in the pairs above,
/// with "numbers" `[3, 3, 5]` and "target" 24 beside each answer. They must judge by text alone.
pub fn grader(rewards: &Rewards) -> String {
    let fields = json!({ "numbers": [3, 3, 5], "target": 24 });
    let fields = fields.as_object().cloned().unwrap_or_default();
    let prompt = |answer: &str| {
        Arc::new(Prompt {
            id: format!("battery {answer}"),
            body: Body::Text("What is it?".into()),
            answer: Some(answer.into()),
            fields: fields.clone(),
        })
    };
    let pairs = PAIRS.iter().flat_map(|(answer, texts)| {
        let prompt = prompt(answer);
        texts.iter().map(move |text| Rollout::of_text(prompt.clone(), *text))
    });
    let said = match rewards.score(pairs.collect()) {
        Ok(scored) => scored
            .iter()
            .flat_map(|scored| &scored.score.parts)
            .map(|part| json!([part.name, part.verdict.value, part.verdict.answer]).to_string())
            .collect(),
        // rewards that cannot judge these are told apart by why
        Err(error) => vec![error.error.to_string()],
    };
    let mut hash = sha256(said);
    hash.truncate(12);
    hash
}

#[cfg(test)]
mod tests {
    use rewards::{ExactMatch, Math, PartSettings};

    use super::*;

    fn of(tolerance: f64) -> String {
        let reward = Math { tolerance, ..Math::default() }.build().unwrap();
        grader(&Rewards::new().with("math", PartSettings::weight(1.0), Box::new(reward)).unwrap())
    }

    #[test]
    fn a_grader_is_known_by_its_verdicts() {
        assert_eq!(of(0.0), of(0.0));
        assert_eq!(of(0.0), of(1e-12), "no verdict of the pairs changes");
        assert_ne!(of(0.0), of(0.1), "19 is within a tenth of 18.50");
        let exact = Rewards::new().with("math", PartSettings::weight(1.0), Box::new(ExactMatch::default()));
        assert_ne!(of(0.0), grader(&exact.unwrap()));
    }

    #[test]
    fn one_verdict_that_changes_is_another_grader() {
        let with = |wrong: &'static str| {
            let reward = move |rollout: &Rollout| data::Verdict::right(rollout.text != wrong);
            grader(&Rewards::new().with("mine", PartSettings::weight(1.0), Box::new(reward)).unwrap())
        };
        let all = with("not in the pairs");
        for wrong in [r"\boxed{042}", "1.000.000", r"\boxed{3-4i}"] {
            assert_ne!(with(wrong), all, "{wrong}");
        }
        assert_eq!(with("not in the pairs"), all);
    }
}
