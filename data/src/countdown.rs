//! Countdown problems drawn from a seed: reach a number with the numbers that are given.
//!
//! Before: the recipe's settings. After: a [`Dataset`] of prompts. Each has many right answers, so a reward works out
//! what the policy writes and compares its numbers with the field `numbers`.

use std::{collections::HashSet, num::NonZeroUsize};

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    DataError, Dataset, Prompt, PromptTemplate, Seed, Share, Split, arithmetic::below, template::Template,
};

/// Which countdown problems to draw.
///
/// The level is drawn first, then as many numbers, uniformly from `1..=largest`, then an expression that uses each of
/// them once; what it comes to is the target. A problem with a target beyond 10 to 100, one that is given already, or a
/// fraction on the way is drawn anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Countdown {
    /// How many numbers a problem has. All that stand here are equally likely, one that stands here twice doubly so.
    pub levels: Vec<Level>,
    /// The largest number that can be given.
    pub largest: Largest,
    /// Which problems to draw from. A problem belongs to one split for good, whatever the seed, the count and the other
    /// settings, as long as `held_out` stays.
    pub split: Split,
    /// The share of all problems that belongs to the test split.
    pub held_out: Share,
    /// How many distinct problems to draw. Problems with the same numbers in another order are not distinct.
    pub count: NonZeroUsize,
}

impl Default for Countdown {
    fn default() -> Self {
        Self {
            levels: vec![Level(3), Level(4)],
            largest: Largest(99),
            split: Split::Train,
            held_out: Share::try_from(0.1).expect("0.1 is a share"),
            count: NonZeroUsize::new(4000).expect("4000 is not 0"),
        }
    }
}

/// Numbers in a problem, from 2 to 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "usize", into = "usize")]
pub struct Level(usize);

impl TryFrom<usize> for Level {
    type Error = String;
    fn try_from(level: usize) -> Result<Self, String> {
        match level {
            2..=4 => Ok(Self(level)),
            _ => Err(format!("a problem can have 2 to 4 numbers, not {level}")),
        }
    }
}

impl From<Level> for usize {
    fn from(level: Level) -> usize {
        level.0
    }
}

/// The largest number that can be given, from 9 to 999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "u64", into = "u64")]
pub struct Largest(u64);

impl TryFrom<u64> for Largest {
    type Error = String;
    fn try_from(largest: u64) -> Result<Self, String> {
        match largest {
            9..=999 => Ok(Self(largest)),
            _ => Err(format!("the largest number can be 9 to 999, not {largest}")),
        }
    }
}

impl From<Largest> for u64 {
    fn from(largest: Largest) -> u64 {
        largest.0
    }
}

impl Dataset {
    /// Distinct problems in the order of their draws, which depend on `seed` and the settings alone; a larger count
    /// begins with the same problems. The template's columns are `question`, `answer`, which is one solution of many,
    /// `numbers`, `target` and `level`; the last three are [`Prompt::fields`] too. The id is `countdown:3,8,9=20`.
    /// # Errors
    /// If there are no levels; if the split has too few problems for `count`, or they are too rare to be found; if the
    /// template is malformed or names another column.
    pub fn countdown(settings: &Countdown, seed: Seed, template: &PromptTemplate) -> Result<Self, DataError> {
        let template = Template::new(template)?;
        let problems = settings.draw(seed.named("countdown"))?;
        let prompts = problems.into_iter().map(|problem| problem.prompt(&template));
        Self::from_prompts("countdown", prompts.collect::<Result<Vec<_>, _>>()?)
    }
}

impl Countdown {
    /// `count` distinct problems of the split.
    fn draw(&self, seed: Seed) -> Result<Vec<Problem>, DataError> {
        if self.levels.is_empty() {
            return Err(DataError::NoLevels);
        }
        let (count, split) = (self.count.get(), self.split);
        let draws = (count as u64).saturating_mul(100).clamp(10_000, 20_000_000);
        let mut seen = HashSet::new();
        let problems: Vec<_> = (0..draws)
            .filter_map(|index| self.problem(seed, index))
            .filter(|problem| {
                let key = problem.key();
                self.held_out.split(&key) == split && seen.insert(key)
            })
            .take(count)
            .collect();
        match problems.len() {
            found if found < count => Err(DataError::RareProblems { count, split, found, draws }),
            _ => Ok(problems),
        }
    }

    /// The problem at this index of the endless sequence that the seed stands for; either split, with repeats.
    fn problem(&self, seed: Seed, index: u64) -> Option<Problem> {
        /// About one in five attempts makes a problem.
        const ATTEMPTS: usize = 1000;
        let mut rng = seed.at(index).rng();
        let level = self.levels[below(&mut rng, self.levels.len() as u64) as usize];
        (0..ATTEMPTS).find_map(|_| self.attempt(level, &mut rng))
    }

    fn attempt(&self, level: Level, rng: &mut ChaCha8Rng) -> Option<Problem> {
        let numbers: Vec<u64> = (0..level.0).map(|_| 1 + below(rng, self.largest.0)).collect();
        let mut terms: Vec<Term> = numbers.iter().map(|&number| Term::number(number)).collect();
        while terms.len() > 1 {
            let mut pick = || {
                let place = below(rng, terms.len() as u64) as usize;
                terms.swap_remove(place)
            };
            let (a, b) = (pick(), pick());
            // a quotient is seldom whole, so the others come twice as often
            let operator = ['+', '+', '-', '-', '*', '*', '/'][below(rng, 7) as usize];
            terms.push(Term::join(&a, operator, &b)?);
        }
        let Term { value, text, .. } = terms.pop()?;
        let target = u64::try_from(value).ok().filter(|target| (10..=100).contains(target))?;
        (!numbers.contains(&target)).then_some(Problem { numbers, target, solution: text })
    }
}

/// A part of an expression.
struct Term {
    value: i64,
    text: String,
    /// The operator that is worked out last.
    outer: Option<char>,
}

impl Term {
    fn number(number: u64) -> Self {
        Self { value: number as i64, text: number.to_string(), outer: None }
    }

    /// `a` and `b` with an operator between, if that is a whole number of no more than 10 000.
    fn join(a: &Self, operator: char, b: &Self) -> Option<Self> {
        let value = match operator {
            '+' => a.value + b.value,
            '-' => a.value - b.value,
            '*' => a.value * b.value,
            _ if b.value == 0 || a.value % b.value != 0 => return None,
            _ => a.value / b.value,
        };
        let text = format!("{} {operator} {}", a.within(operator, false), b.within(operator, true));
        (value.abs() <= 10_000).then_some(Self { value, text, outer: Some(operator) })
    }

    /// The text as an operand, in parentheses where it needs them.
    fn within(&self, operator: char, right: bool) -> String {
        let rank = |operator| match operator {
            '+' | '-' => 1,
            _ => 2,
        };
        let own = self.outer.map_or(3, rank);
        let needs = own < rank(operator) || right && own == rank(operator) && "-/".contains(operator);
        if needs { format!("({})", self.text) } else { self.text.clone() }
    }
}

struct Problem {
    numbers: Vec<u64>,
    target: u64,
    solution: String,
}

impl Problem {
    /// What makes it this problem and no other: the numbers in order of size, and the target.
    fn key(&self) -> String {
        let mut numbers = self.numbers.clone();
        numbers.sort_unstable();
        format!("countdown:{}={}", list(&numbers, ","), self.target)
    }

    fn prompt(self, template: &Template<'_>) -> Result<Prompt, DataError> {
        let (target, level, numbers) =
            (self.target, self.numbers.len(), format!("[{}]", list(&self.numbers, ", ")));
        let text = template.fill(|column| match column {
            "question" => Ok(format!(
                "Using the numbers {numbers}, write an arithmetic expression that equals {target}. Use each number \
                 exactly once. You may use +, -, *, / and parentheses."
            )),
            "answer" => Ok(self.solution.clone()),
            "numbers" => Ok(numbers.clone()),
            "target" => Ok(target.to_string()),
            "level" => Ok(level.to_string()),
            _ => Err(DataError::TemplateColumn {
                place: "countdown".into(),
                column: column.into(),
                found: ["question", "answer", "numbers", "target", "level"].map(String::from).into(),
            }),
        })?;
        let id = self.key();
        let fields = [("level", level.into()), ("numbers", self.numbers.into()), ("target", target.into())];
        let fields = fields.map(|(name, value): (&str, Value)| (name.to_owned(), value));
        let (body, answer) = (template.body(text), Some(self.solution.into()));
        Ok(Prompt { id, body, answer, fields: Map::from_iter(fields) })
    }
}

fn list(numbers: &[u64], between: &str) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(between)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Body;

    fn settings(levels: &[usize], largest: u64, count: usize) -> Countdown {
        Countdown {
            levels: levels.iter().map(|&level| Level(level)).collect(),
            largest: Largest(largest),
            count: NonZeroUsize::new(count).unwrap(),
            ..Countdown::default()
        }
    }

    fn draw(settings: &Countdown, seed: u64) -> Dataset {
        Dataset::countdown(settings, Seed(seed), &PromptTemplate::default()).unwrap()
    }

    fn ids(dataset: &Dataset) -> HashSet<&str> {
        dataset.prompts().iter().map(|prompt| prompt.id.as_str()).collect()
    }

    /// What an expression comes to and the numbers it uses, by the rules of school.
    fn work_out(text: &str) -> (f64, Vec<u64>) {
        let (mut values, mut operators, mut numbers) = (Vec::new(), vec!['('], Vec::new());
        let rank = |operator| match operator {
            '(' => 0,
            '+' | '-' => 1,
            _ => 2,
        };
        let spaced = text.replace('(', "( ").replace(')', " )") + " )";
        for word in spaced.split_whitespace() {
            if let Ok(number) = word.parse::<u64>() {
                numbers.push(number);
                values.push(number as f64);
                continue;
            }
            let operator = word.chars().next().unwrap();
            if operator == '(' {
                operators.push('(');
                continue;
            }
            let least = if operator == ')' { 1 } else { rank(operator) };
            while rank(*operators.last().unwrap()) >= least {
                let (b, a) = (values.pop().unwrap(), values.pop().unwrap());
                values.push(match operators.pop().unwrap() {
                    '+' => a + b,
                    '-' => a - b,
                    '*' => a * b,
                    _ => a / b,
                });
            }
            if operator == ')' { _ = operators.pop() } else { operators.push(operator) }
        }
        assert!(operators.is_empty() && values.len() == 1, "{text}");
        (values[0], numbers)
    }

    #[test]
    fn every_answer_reaches_the_target_with_just_the_numbers() {
        let set = draw(&settings(&[2, 3, 4], 99, 5000), 0);
        for prompt in set.prompts() {
            let (value, mut used) = work_out(prompt.answer.as_deref().unwrap());
            let mut numbers: Vec<u64> = serde_json::from_value(prompt.fields["numbers"].clone()).unwrap();
            let target = prompt.fields["target"].as_u64().unwrap();
            assert_eq!(value, target as f64, "{prompt:?}");
            assert_eq!(prompt.fields["level"], numbers.len());
            assert!((10..=100).contains(&target) && !numbers.contains(&target));
            assert!(numbers.iter().all(|number| (1..=99).contains(number)));
            used.sort_unstable();
            numbers.sort_unstable();
            assert_eq!(used, numbers, "{prompt:?}");
            assert_eq!(prompt.id, format!("countdown:{}={target}", list(&numbers, ",")));
        }
        for level in [2, 3, 4] {
            let share = set.prompts().iter().filter(|prompt| prompt.fields["level"] == level).count();
            assert!((share as f64 / 5000.0 - 1.0 / 3.0).abs() < 0.05, "{level}: {share}");
        }
        let with =
            |sign| set.prompts().iter().filter(|p| p.answer.as_deref().unwrap().contains(sign)).count();
        assert!(["+", "-", "*", "/", "("].iter().all(|sign| with(sign) > 50));
    }

    #[test]
    fn a_problem_asks_as_the_shared_data_set_does() {
        let problem = || Problem { numbers: vec![53, 46, 81], target: 74, solution: "81 - (53 - 46)".into() };
        let template = PromptTemplate::default();
        let prompt = problem().prompt(&Template::new(&template).unwrap()).unwrap();
        let question = "Using the numbers [53, 46, 81], write an arithmetic expression that equals 74. Use each number \
                        exactly once. You may use +, -, *, / and parentheses.";
        assert_eq!((prompt.body, prompt.id.as_str()), (Body::Text(question.into()), "countdown:46,53,81=74"));
        let template = PromptTemplate { template: "{numbers} {target} {level} {answer}".into(), ..template };
        let prompt = problem().prompt(&Template::new(&template).unwrap()).unwrap();
        assert_eq!(prompt.body, Body::Text("[53, 46, 81] 74 3 81 - (53 - 46)".into()));
    }

    #[test]
    fn draws_depend_on_the_seed_and_a_larger_count_begins_the_same() {
        let (few, many) = (settings(&[3, 4], 99, 50), settings(&[3, 4], 99, 500));
        assert_eq!(draw(&many, 1).take(50), draw(&few, 1));
        assert_ne!(ids(&draw(&few, 1)), ids(&draw(&few, 2)));
    }

    #[test]
    fn the_splits_never_share_a_problem() {
        let train = settings(&[2, 3], 20, 2000);
        let test = Countdown { split: Split::Test, ..settings(&[2, 3], 20, 300) };
        assert!(ids(&draw(&train, 1)).is_disjoint(&ids(&draw(&test, 2))));
        let all = |split| Countdown { split, held_out: Share::try_from(0.0).unwrap(), ..train.clone() };
        assert!(Dataset::countdown(&all(Split::Test), Seed(0), &PromptTemplate::default()).is_err());
    }

    #[test]
    fn settings_that_cannot_be_met_are_refused() {
        let error = |settings: &Countdown, template: &str| {
            let template = PromptTemplate { template: template.into(), ..PromptTemplate::default() };
            Dataset::countdown(settings, Seed(0), &template).unwrap_err().to_string()
        };
        let few = error(&settings(&[2], 9, 1000), "{question}");
        assert!(few.starts_with("`count` is 1000, but 100000 draws found only "), "{few}");
        assert_eq!(
            error(&settings(&[], 9, 1), "{question}"),
            "`levels` is empty, wanted at least one of 2, 3 and 4"
        );
        let template = error(&Countdown::default(), "{number}");
        assert!(template.starts_with("countdown: the template names the column `number`"), "{template}");
    }

    #[test]
    fn a_bad_setting_is_refused_where_it_stands() {
        let read = |json| serde_json::from_str::<Countdown>(json);
        assert_eq!(read("{}").unwrap(), Countdown::default());
        for (json, message) in [
            (r#"{"levels": [5]}"#, "a problem can have 2 to 4 numbers, not 5"),
            (r#"{"largest": 8}"#, "the largest number can be 9 to 999, not 8"),
            (r#"{"held_out": 1.5}"#, "a share must be between 0 and 1, not 1.5"),
            (r#"{"level": 2}"#, "unknown field `level`"),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        let text = r#"{"levels":[3,4,4],"largest":50,"split":"test","held_out":0.25,"count":9}"#;
        assert_eq!(serde_json::to_string(&read(text).unwrap()).unwrap(), text);
    }
}
