//! Worked examples in front of a question.
//!
//! Before: a benchmark asks for some. After: they stand in every prompt, which begins the same for all questions, so that its
//! keys and values are computed once. The examples were written for this project; none is of a benchmark.

use std::sync::Arc;

use data::{Body, DataError, Message, Prompt, PromptTemplate};
use serde::{Deserialize, Serialize};

use crate::benchmarks::Examples;
use crate::protocol::{Shots, sha256};

/// A question with a worked solution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shot {
    /// What is asked.
    pub question: String,
    /// How it is solved, ending in the answer as the benchmark wants it.
    pub solution: String,
}

/// Word problems with small whole answers.
const WORDS: &[(&str, &str)] = &[
    (
        "A baker fills 6 trays with 8 rolls each and sells 29 of the rolls before noon. How many rolls are left?",
        "The trays hold 6 × 8 = 48 rolls. After 29 are sold, 48 − 29 = 19 are left. The answer is \\boxed{19}.",
    ),
    (
        "Ines reads 14 pages on Monday and twice as many on Tuesday. Her book has 100 pages. How many pages has she still to read?",
        "On Tuesday she reads 2 × 14 = 28 pages. Together that is 14 + 28 = 42 pages. So 100 − 42 = 58 pages are left. The answer is \\boxed{58}.",
    ),
    (
        "Three friends share the cost of a tent for $126 and two sleeping mats for $27 each. How much does each of them pay?",
        "The mats cost 2 × 27 = 54 dollars. Everything costs 126 + 54 = 180 dollars. Each pays 180 / 3 = 60 dollars. The answer is \\boxed{60}.",
    ),
    (
        "A bus leaves with 45 people. At the first stop 17 get off and 9 get on, at the second a quarter of 36 get off. How many people are on the bus then, if nobody else gets on?",
        "After the first stop there are 45 − 17 + 9 = 37 people. A quarter of 36 is 9, so 37 − 9 = 28 people are left. The answer is \\boxed{28}.",
    ),
    (
        "Omar earns $15 an hour and $22 an hour after the eighth hour of a day. What does he earn on a day of 11 hours?",
        "The first 8 hours earn 8 × 15 = 120 dollars. The other 11 − 8 = 3 hours earn 3 × 22 = 66 dollars. Together that is 120 + 66 = 186 dollars. The answer is \\boxed{186}.",
    ),
    (
        "A tank holds 240 litres and is 35% full. How many litres are missing until it is three quarters full?",
        "It holds 0.35 × 240 = 84 litres. Three quarters are 0.75 × 240 = 180 litres. So 180 − 84 = 96 litres are missing. The answer is \\boxed{96}.",
    ),
    (
        "Lea is four times as old as her son. In six years she will be 46. How old is her son now?",
        "Lea is 46 − 6 = 40 years old now. Her son is 40 / 4 = 10 years old. The answer is \\boxed{10}.",
    ),
    (
        "A shop sells pens in packs of 12. A school needs 150 pens and has 18 already. How many packs must it buy?",
        "It needs 150 − 18 = 132 pens more. Those are 132 / 12 = 11 packs. The answer is \\boxed{11}.",
    ),
];

/// Problems of contests.
const CONTEST: &[(&str, &str)] = &[
    (
        "What is the sum of the solutions of $x^2 - 7x + 10 = 0$ that are larger than 3?",
        "The equation factors as $(x-2)(x-5) = 0$, so its solutions are 2 and 5. Only 5 is larger than 3. The answer is $\\boxed{5}$.",
    ),
    (
        "Two fair dice are thrown. What is the probability that the product of the two numbers is odd?",
        "The product is odd if both numbers are odd. Each is odd with probability $\\frac12$, and they are independent, so the probability is $\\frac12\\cdot\\frac12 = \\frac14$. The answer is $\\boxed{\\frac{1}{4}}$.",
    ),
    (
        "A right triangle has legs of length $3\\sqrt{2}$ and $\\sqrt{7}$. How long is its hypotenuse?",
        "By Pythagoras the square of the hypotenuse is $(3\\sqrt2)^2 + (\\sqrt7)^2 = 18 + 7 = 25$. So it is 5. The answer is $\\boxed{5}$.",
    ),
    (
        "What is the remainder when $7^{100}$ is divided by 5?",
        "Modulo 5 we have $7 \\equiv 2$, and $2^4 = 16 \\equiv 1$. Since $100 = 4\\cdot 25$, $2^{100} = (2^4)^{25} \\equiv 1$. The answer is $\\boxed{1}$.",
    ),
    (
        "For which values of $a$ does $x^2 + ax + 9$ have a double root? Give all of them, separated by commas.",
        "There is a double root if the discriminant is zero: $a^2 - 36 = 0$. So $a = 6$ or $a = -6$. The answer is $\\boxed{6, -6}$.",
    ),
    (
        "Simplify $\\frac{x^2-9}{x^2+5x+6}$.",
        "The numerator is $(x-3)(x+3)$ and the denominator $(x+2)(x+3)$. Cancelling $x+3$ leaves $\\frac{x-3}{x+2}$. The answer is $\\boxed{\\frac{x-3}{x+2}}$.",
    ),
    (
        "In how many ways can 5 different books stand on a shelf if two of them must stand side by side?",
        "Take the two books as one block, which can be ordered in 2 ways. The block and the 3 other books can be ordered in $4! = 24$ ways. That gives $2\\cdot 24 = 48$ ways. The answer is $\\boxed{48}$.",
    ),
    (
        "What is the area of the region inside the circle $x^2 + y^2 = 16$ and above the line $y = 0$?",
        "The circle has radius 4 and area $16\\pi$. The line goes through its centre and halves it. The answer is $\\boxed{8\\pi}$.",
    ),
];

/// The worked examples of a kind of benchmark.
pub fn shots(kind: Examples) -> Vec<Shot> {
    let all = match kind {
        Examples::Words => WORDS,
        Examples::Contest => CONTEST,
        Examples::None => &[],
    };
    all.iter().map(|(q, s)| Shot { question: (*q).to_owned(), solution: (*s).to_owned() }).collect()
}

/// The same prompts with the examples in front: earlier turns of a conversation, or text in front of plain text.
///
/// # Errors
/// If the template needs more than a question.
pub fn with_shots(
    prompts: Vec<Arc<Prompt>>,
    shots: &[Shot],
    template: &PromptTemplate,
) -> Result<Vec<Arc<Prompt>>, DataError> {
    let mut turns = Vec::new();
    let mut front = String::new();
    for shot in shots {
        match template.of_question(&shot.question)? {
            Body::Chat(asked) => {
                turns.extend(asked.into_iter().filter(|turn| turn.role == "user"));
                turns.push(Message { role: "assistant".into(), content: shot.solution.clone() });
            }
            Body::Text(text) => front.push_str(&format!("{text}\n{}\n\n", shot.solution)),
        }
    }
    let with = |prompt: Arc<Prompt>| {
        let body = match &prompt.body {
            Body::Text(text) => Body::Text(format!("{front}{text}")),
            Body::Chat(own) => {
                let at = own.iter().position(|turn| turn.role != "system").unwrap_or(own.len());
                Body::Chat([&own[..at], &turns, &own[at..]].concat())
            }
        };
        Arc::new(Prompt { body, ..Prompt::clone(&prompt) })
    };
    Ok(if shots.is_empty() { prompts } else { prompts.into_iter().map(with).collect() })
}

impl Shots {
    /// Which examples these are.
    pub fn of(shots: &[Shot]) -> Self {
        let lines = shots.iter().map(|shot| serde_json::json!([shot.question, shot.solution]).to_string());
        let sha256 = if shots.is_empty() { String::new() } else { sha256(lines) };
        Self { count: shots.len(), sha256 }
    }
}

#[cfg(test)]
mod tests {
    use rewards::Place;

    use super::*;

    fn prompt(body: Body) -> Vec<Arc<Prompt>> {
        vec![Arc::new(Prompt { id: "q".into(), body, answer: None, fields: Default::default() })]
    }

    #[test]
    fn every_example_ends_in_a_box_that_the_grader_reads() {
        for kind in [Examples::Words, Examples::Contest] {
            let shots = shots(kind);
            assert_eq!(shots.len(), 8);
            for shot in shots {
                let answer = Place::Boxed.extract(&shot.solution);
                assert!(answer.is_some_and(|answer| rewards::math::readable(&answer)), "{}", shot.question);
            }
        }
    }

    #[test]
    fn examples_stand_behind_the_system_message_and_before_the_question() {
        let template = PromptTemplate {
            system: Some("s".into()),
            template: "Q: {question}".into(),
            jinja: None,
            chat: true,
        };
        let body = template.of_question("two?").unwrap();
        let shot = Shot { question: "one?".into(), solution: "1".into() };
        let with = with_shots(prompt(body), &[shot], &template).unwrap();
        let Body::Chat(turns) = &with[0].body else { panic!("a conversation stays one") };
        let turns: Vec<(&str, &str)> = turns.iter().map(|t| (t.role.as_str(), t.content.as_str())).collect();
        assert_eq!(turns, [("system", "s"), ("user", "Q: one?"), ("assistant", "1"), ("user", "Q: two?")]);
    }

    #[test]
    fn plain_text_begins_with_the_examples() {
        let template = PromptTemplate { template: "Q: {question}\nA:".into(), ..PromptTemplate::default() };
        let shot = Shot { question: "one?".into(), solution: "1".into() };
        let with = with_shots(prompt(template.of_question("two?").unwrap()), &[shot], &template).unwrap();
        assert_eq!(with[0].body, Body::Text("Q: one?\nA:\n1\n\nQ: two?\nA:".into()));
    }

    #[test]
    fn no_examples_change_nothing_and_have_no_identity() {
        let body = Body::Text("two?".into());
        let same = with_shots(prompt(body.clone()), &[], &PromptTemplate::default()).unwrap();
        assert_eq!((&same[0].body, Shots::of(&[])), (&body, Shots::default()));
        assert_ne!(Shots::of(&shots(Examples::Words)), Shots::of(&shots(Examples::Contest)));
    }
}
