//! Arithmetic problems drawn from a seed, so that a first run needs no download.
//!
//! Before: the recipe's settings. After: a [`Dataset`] of prompts such as `12+7=`.

use std::{collections::HashSet, fmt, num::NonZeroUsize};

use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Answer, DataError, Dataset, Prompt, PromptTemplate, Seed, template::Template};

/// Which arithmetic problems to draw.
///
/// For each operand the number of digits is drawn first, uniformly from `min_digits..=digits`, then a number with so
/// many digits, uniformly (one digit includes 0). The operator is uniform too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Arithmetic {
    /// What to choose from, each once.
    pub operators: Vec<Operator>,
    /// The largest number of digits of an operand.
    pub digits: Digits,
    /// The least number of digits of an operand.
    pub min_digits: Digits,
    /// Which problems to draw from. A problem belongs to one split for good, whatever the seed, the count and the other
    /// settings, as long as `held_out` stays.
    pub split: Split,
    /// The share of all problems that belongs to the test split.
    pub held_out: Share,
    /// How many distinct problems to draw.
    pub count: NonZeroUsize,
    /// Numbers in a problem: 2, or 3 for `12+7-5=`, taken from left to right.
    #[serde(skip_serializing_if = "Operands::is_two")]
    pub operands: Operands,
    /// Give each prompt a column `trace`, the working: `12+7=19,19-5=14`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub trace: bool,
    /// Of every three problems make one easy, for which `19`, `=19` and `12+7=19` are all right, and one hopeless, a product
    /// of two numbers of six digits; the third stays as it is. For measuring what a selection of prompts is worth: a column
    /// `level` says which is which.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub levels: bool,
}

impl Default for Arithmetic {
    fn default() -> Self {
        Self {
            operators: vec![Operator::Add, Operator::Subtract],
            digits: Digits(2),
            min_digits: Digits(1),
            split: Split::Train,
            held_out: Share(0.1),
            count: NonZeroUsize::new(4000).expect("4000 is not 0"),
            operands: Operands(2),
            trace: false,
            levels: false,
        }
    }
}

/// What is done to two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Operator {
    /// `a+b`
    #[serde(rename = "+")]
    Add,
    /// `a-b`, which may be negative.
    #[serde(rename = "-")]
    Subtract,
    /// `a*b`
    #[serde(rename = "*")]
    Multiply,
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
        })
    }
}

/// Problems to learn from, or problems to be examined in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// For training.
    #[default]
    Train,
    /// Held out.
    Test,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Test => "test",
        })
    }
}

/// A number of digits, from 1 to 6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "usize", into = "usize")]
pub struct Digits(usize);

impl TryFrom<usize> for Digits {
    type Error = String;
    fn try_from(digits: usize) -> Result<Self, String> {
        match digits {
            1..=6 => Ok(Self(digits)),
            _ => Err(format!("an operand can have 1 to 6 digits, not {digits}")),
        }
    }
}

impl From<Digits> for usize {
    fn from(digits: Digits) -> usize {
        digits.0
    }
}

/// Numbers in a problem, 2 or 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "usize", into = "usize")]
pub struct Operands(usize);

impl Operands {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
    fn is_two(&self) -> bool {
        self.0 == 2
    }
}

impl TryFrom<usize> for Operands {
    type Error = String;
    fn try_from(operands: usize) -> Result<Self, String> {
        match operands {
            2 | 3 => Ok(Self(operands)),
            _ => Err(format!("a problem can have 2 or 3 operands, not {operands}")),
        }
    }
}

impl From<Operands> for usize {
    fn from(operands: Operands) -> usize {
        operands.0
    }
}

/// A share of a whole, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "f64", into = "f64")]
pub struct Share(f64);

impl Share {
    /// The split of the problem that this text stands for. A larger share holds out what a smaller one does, and more.
    pub(crate) fn split(self, problem: &str) -> Split {
        let place = Seed(0).named("held out").at(0).prompt(problem).place(0).uniform(0);
        if place < self.0 { Split::Test } else { Split::Train }
    }
}

impl TryFrom<f64> for Share {
    type Error = String;
    fn try_from(share: f64) -> Result<Self, String> {
        match share {
            0.0..=1.0 => Ok(Self(share)),
            _ => Err(format!("a share must be between 0 and 1, not {share}")),
        }
    }
}

impl From<Share> for f64 {
    fn from(share: Share) -> f64 {
        share.0
    }
}

/// Up to so many problems can be listed one by one, which takes a second or so.
const LISTABLE: u64 = 4_000_000;

impl Dataset {
    /// Distinct problems in the order of their draws, which depend on `seed` and the settings alone; a larger count
    /// begins with the same problems, unless it takes nearly all that there are. The template's columns are `question`
    /// (`12+7=`), `answer`, `a`, `b` and `operator`; the last three are [`Prompt::fields`] too. The id is
    /// `arithmetic:12+7`.
    /// # Errors
    /// If `min_digits` exceeds `digits`; if there are no operators, or one is there twice; if the split has fewer
    /// problems than `count`, or they are too rare to be found; if the template is malformed or names another column.
    pub fn arithmetic(
        settings: &Arithmetic,
        seed: Seed,
        template: &PromptTemplate,
    ) -> Result<Self, DataError> {
        let template = Template::new(template)?;
        let problems = settings.draw(seed.named("arithmetic"))?;
        let prompts = problems.into_iter().enumerate().map(|(place, problem)| {
            let level = settings.levels.then(|| Level::of(place));
            level.map_or(problem, |level| level.problem(problem)).prompt(&template, settings.trace, level)
        });
        Self::from_prompts("arithmetic", prompts.collect::<Result<Vec<_>, _>>()?)
    }
}

impl Arithmetic {
    /// `count` distinct problems of the split.
    fn draw(&self, seed: Seed) -> Result<Vec<Problem>, DataError> {
        self.check()?;
        let (count, split, all) = (self.count.get(), self.split, self.all());
        let too_few = |exist| DataError::TooFewProblems { count, split, exist };
        // Drawing alone finds the last few of a small split only after very long, and so it has its limit.
        let limit = match count as u64 {
            count if count <= all => (1000 * count).clamp(100_000, 20_000_000.max(4 * count)),
            _ if all <= LISTABLE => 0, // there cannot be enough, and the list will say how many there are
            _ => return Err(too_few(all)),
        };
        let mut seen = HashSet::new();
        let mut problems: Vec<_> = (0..limit)
            .map(|index| self.problem(seed, index))
            .filter(|problem| problem.split(self.held_out) == split && seen.insert(*problem))
            .take(count)
            .collect();
        if problems.len() == count {
            return Ok(problems);
        }
        if all > LISTABLE {
            return Err(DataError::RareProblems { count, split, found: problems.len(), draws: limit });
        }
        let mut rest = self.list();
        rest.retain(|problem| problem.split(self.held_out) == split && !seen.contains(problem));
        let missing = count - problems.len();
        if missing > rest.len() {
            return Err(too_few((problems.len() + rest.len()) as u64));
        }
        let mut rng = seed.named("rest").at(0).rng();
        for place in 0..missing {
            let other = place + below(&mut rng, (rest.len() - place) as u64) as usize;
            rest.swap(place, other);
        }
        problems.extend_from_slice(&rest[..missing]);
        Ok(problems)
    }

    fn check(&self) -> Result<(), DataError> {
        if self.min_digits > self.digits {
            return Err(DataError::Digits { min_digits: self.min_digits.0, digits: self.digits.0 });
        }
        if self.operators.is_empty() {
            return Err(DataError::NoOperators);
        }
        let mut seen = HashSet::new();
        match self.operators.iter().find(|operator| !seen.insert(**operator)) {
            Some(&operator) => Err(DataError::RepeatedOperator { operator }),
            None => Ok(()),
        }
    }

    /// The problem at this index of the endless sequence that the seed stands for; either split, with repeats.
    fn problem(&self, seed: Seed, index: u64) -> Problem {
        let mut rng = seed.at(index).rng();
        let operator = self.operators[below(&mut rng, self.operators.len() as u64) as usize];
        let operand = |rng: &mut _| {
            let choices = self.digits.0 - self.min_digits.0 + 1;
            let (low, high) = range(self.min_digits.0 + below(rng, choices as u64) as usize);
            low + below(rng, high - low)
        };
        let (a, b) = (operand(&mut rng), operand(&mut rng));
        let third = (self.operands.0 == 3).then(|| {
            let c = operand(&mut rng);
            (self.operators[below(&mut rng, self.operators.len() as u64) as usize], c)
        });
        Problem { a, b, operator, third }
    }

    /// How many problems there are, both splits together.
    fn all(&self) -> u64 {
        let operands = range(self.digits.0).1 - range(self.min_digits.0).0;
        let two = self.operators.len() as u64 * operands * operands;
        if self.operands.0 == 3 { two.saturating_mul(self.operators.len() as u64 * operands) } else { two }
    }

    fn list(&self) -> Vec<Problem> {
        let operands = range(self.min_digits.0).0..range(self.digits.0).1;
        let pairs = operands.clone().flat_map(|a| operands.clone().map(move |b| (a, b)));
        pairs
            .flat_map(|(a, b)| {
                self.operators.iter().map(move |&operator| Problem { a, b, operator, third: None })
            })
            .flat_map(|problem| {
                let thirds: Vec<_> = match self.operands.0 {
                    3 => {
                        self.operators.iter().flat_map(|o| operands.clone().map(|c| Some((*o, c)))).collect()
                    }
                    _ => vec![None],
                };
                thirds.into_iter().map(move |third| Problem { third, ..problem })
            })
            .collect()
    }
}

/// The numbers with so many digits, as a half-open range.
fn range(digits: usize) -> (u64, u64) {
    let power = |exponent: usize| 10_u64.pow(exponent as u32);
    (if digits == 1 { 0 } else { power(digits - 1) }, power(digits))
}

/// Uniform in `0..n`, but for a bias of n / 2⁶⁴. Written out because no release of `rand` promises the same draws as
/// the next.
pub(crate) fn below(rng: &mut impl Rng, n: u64) -> u64 {
    ((u128::from(rng.next_u64()) * u128::from(n)) >> 64) as u64
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Problem {
    a: u64,
    b: u64,
    operator: Operator,
    third: Option<(Operator, u64)>,
}

/// How hard a problem is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Easy,
    Usual,
    Hopeless,
}

impl Level {
    fn of(place: usize) -> Self {
        [Self::Easy, Self::Usual, Self::Hopeless][place % 3]
    }

    fn name(self) -> &'static str {
        match self {
            Self::Easy => "easy",
            Self::Usual => "usual",
            Self::Hopeless => "hopeless",
        }
    }

    /// A problem of this level in place of another; different ones for different ones, but by rare chance.
    fn problem(self, problem: Problem) -> Problem {
        if self != Self::Hopeless {
            return problem;
        }
        let six_digits = |n: u64| 100_000 + n % 900_000;
        let Problem { a, b, operator, .. } = problem;
        let (a, b) = (
            six_digits(7_919 * a + 104_729 * b),
            six_digits(6_151 * b + 15_485_863 * a + 333_333 * operator as u64),
        );
        Problem { a, b, operator: Operator::Multiply, third: None }
    }
}

impl Operator {
    /// Of numbers below 10¹², the products of numbers below 10⁶; a third makes it 10¹⁸ at most.
    fn apply(self, a: i64, b: i64) -> i64 {
        match self {
            Self::Add => a + b,
            Self::Subtract => a - b,
            Self::Multiply => a * b,
        }
    }
}

impl Problem {
    /// What the first two come to.
    fn first(self) -> i64 {
        self.operator.apply(self.a as i64, self.b as i64)
    }

    fn answer(self) -> i64 {
        let first = self.first();
        self.third.map_or(first, |(operator, c)| operator.apply(first, c as i64))
    }

    fn working(self) -> String {
        let first = format!("{}{}{}={}", self.a, self.operator, self.b, self.first());
        match self.third {
            Some((operator, c)) => format!("{first},{}{operator}{c}={}", self.first(), self.answer()),
            None => first,
        }
    }

    /// A function of the problem alone, so that no choice of seed or count lets the splits overlap.
    fn split(self, held_out: Share) -> Split {
        held_out.split(&self.to_string())
    }

    fn prompt(self, template: &Template<'_>, trace: bool, level: Option<Level>) -> Result<Prompt, DataError> {
        let answer = self.answer().to_string();
        let text = template.fill(|column| match column {
            "question" => Ok(format!("{self}=")),
            "answer" => Ok(answer.clone()),
            "a" => Ok(self.a.to_string()),
            "b" => Ok(self.b.to_string()),
            "operator" => Ok(self.operator.to_string()),
            _ => Err(DataError::TemplateColumn {
                place: "arithmetic".into(),
                column: column.into(),
                found: ["question", "answer", "a", "b", "operator"].map(String::from).into(),
            }),
        })?;
        let fields = [
            ("a", Value::from(self.a)),
            ("b", Value::from(self.b)),
            ("operator", Value::from(self.operator.to_string())),
        ];
        let trace = trace.then(|| ("trace", Value::from(self.working())));
        let named = level.map(|level| ("level", Value::from(level.name())));
        let fields = fields.into_iter().chain(trace).chain(named);
        let fields = fields.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>();
        let body = template.body(text);
        let answer = match level {
            Some(Level::Easy) => {
                Answer::any_of([answer.clone(), format!("={answer}"), format!("{self}={answer}")])
            }
            _ => Some(answer.into()),
        };
        Ok(Prompt { id: format!("arithmetic:{self}"), body, answer, fields })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.a, self.operator, self.b)?;
        match self.third {
            Some((operator, c)) => write!(f, "{operator}{c}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
