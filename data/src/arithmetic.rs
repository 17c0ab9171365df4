//! Arithmetic problems drawn from a seed, so that a first run needs no download.
//!
//! Before: the recipe's settings. After: a [`Dataset`] of prompts such as `12+7=`.

use std::{collections::HashSet, fmt, num::NonZeroUsize};

use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{DataError, Dataset, Prompt, PromptTemplate, Seed, template::Template};

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
        let prompts = problems.into_iter().map(|problem| problem.prompt(&template, settings.trace));
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

    fn prompt(self, template: &Template<'_>, trace: bool) -> Result<Prompt, DataError> {
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
        let fields = fields.into_iter().chain(trace);
        let fields = fields.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>();
        let body = template.body(text);
        Ok(Prompt { id: format!("arithmetic:{self}"), body, answer: Some(answer.into()), fields })
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
mod tests {
    use super::*;
    use crate::Body;

    fn settings(operators: &[Operator], min_digits: usize, digits: usize, count: usize) -> Arithmetic {
        Arithmetic {
            operators: operators.to_vec(),
            digits: Digits(digits),
            min_digits: Digits(min_digits),
            count: NonZeroUsize::new(count).unwrap(),
            ..Arithmetic::default()
        }
    }

    fn draw(settings: &Arithmetic, seed: u64) -> Dataset {
        Dataset::arithmetic(settings, Seed(seed), &PromptTemplate::default()).unwrap()
    }

    fn error(settings: &Arithmetic) -> String {
        Dataset::arithmetic(settings, Seed(0), &PromptTemplate::default()).unwrap_err().to_string()
    }

    fn ids(dataset: &Dataset) -> Vec<&str> {
        dataset.prompts().iter().map(|prompt| prompt.id.as_str()).collect()
    }

    #[test]
    fn three_operands_are_worked_out_from_left_to_right() {
        let three = Arithmetic {
            operands: Operands(3),
            trace: true,
            ..settings(&[Operator::Add, Operator::Subtract], 1, 2, 50)
        };
        for prompt in draw(&three, 4).prompts() {
            let trace = prompt.fields["trace"].as_str().expect("a trace");
            let (first, second) = trace.split_once(',').expect("two steps");
            let value = |step: &str| step.split_once('=').expect("a step").1.to_owned();
            assert!(
                second.starts_with(&value(first)) && prompt.answer.as_deref() == Some(value(second).as_str())
            );
            assert_eq!(prompt.body, Body::Text(format!("{}=", prompt.id.trim_start_matches("arithmetic:"))));
        }
        let problem =
            Problem { a: 2, b: 3, operator: Operator::Subtract, third: Some((Operator::Multiply, 4)) };
        assert_eq!((problem.working().as_str(), problem.answer()), ("2-3=-1,-1*4=-4", -4));
    }

    #[test]
    fn a_problem_says_what_it_asks_and_what_is_right() {
        let template = PromptTemplate {
            template: "{a} {operator} {b}; {question}{answer}".into(),
            ..Default::default()
        };
        let template = Template::new(&template).unwrap();
        for (a, operator, b, text, answer) in [
            (12, Operator::Add, 7, "12+7", "19"),
            (7, Operator::Subtract, 12, "7-12", "-5"),
            (999_999, Operator::Multiply, 999_999, "999999*999999", "999998000001"),
        ] {
            let prompt = Problem { a, b, operator, third: None }.prompt(&template, false).unwrap();
            assert_eq!(prompt.id, format!("arithmetic:{text}"));
            assert_eq!(prompt.body, Body::Text(format!("{a} {operator} {b}; {text}={answer}")));
            assert_eq!(prompt.answer.as_deref(), Some(answer));
            assert_eq!(prompt.fields["a"], a);
            assert_eq!(prompt.fields["b"], b);
            assert_eq!(prompt.fields["operator"], operator.to_string());
        }
        let plain = PromptTemplate::default();
        let prompt = Problem { a: 12, b: 7, operator: Operator::Add, third: None }
            .prompt(&Template::new(&plain).unwrap(), false);
        assert_eq!(prompt.unwrap().body, Body::Text("12+7=".into()));
    }

    #[test]
    fn draws_depend_on_the_seed_and_a_larger_count_begins_the_same() {
        let (few, many) = (settings(&[Operator::Add], 1, 3, 50), settings(&[Operator::Add], 1, 3, 500));
        assert_eq!(draw(&many, 1).take(50), draw(&few, 1));
        assert_ne!(ids(&draw(&few, 1)), ids(&draw(&few, 2)));
    }

    #[test]
    fn the_splits_never_share_a_problem_and_together_are_everything() {
        let all = [Operator::Add, Operator::Subtract, Operator::Multiply];
        let problems = settings(&all, 1, 2, 1).list();
        assert_eq!(problems.len(), 30_000);
        let test: HashSet<_> = problems.iter().filter(|p| p.split(Share(0.1)) == Split::Test).collect();
        let standard_error = (30_000.0 * 0.1 * 0.9_f64).sqrt();
        assert!((test.len() as f64 - 3000.0).abs() < 4.0 * standard_error, "{}", test.len());

        let train = draw(&settings(&all, 1, 2, 30_000 - test.len()), 3);
        let test = draw(&Arithmetic { split: Split::Test, ..settings(&all, 1, 2, test.len()) }, 4);
        let together: HashSet<_> = ids(&train).into_iter().chain(ids(&test)).collect();
        assert_eq!(together.len(), 30_000);
    }

    #[test]
    fn a_larger_held_out_share_keeps_what_was_held_out() {
        let problems = settings(&[Operator::Add], 1, 2, 1).list();
        let test = |share| problems.iter().filter(move |p| p.split(Share(share)) == Split::Test);
        let more: HashSet<_> = test(0.5).collect();
        assert!(test(0.1).all(|problem| more.contains(problem)));
        assert_eq!((test(0.0).count(), test(1.0).count()), (0, problems.len()));
    }

    #[test]
    fn digits_operators_and_operands_are_uniform() {
        let settings = settings(&[Operator::Add, Operator::Multiply], 1, 3, 1);
        let problems: Vec<_> = (0..18_000).map(|index| settings.problem(Seed(5), index)).collect();
        let share = |of: &dyn Fn(&Problem) -> bool| {
            problems.iter().filter(|problem| of(problem)).count() as f64 / problems.len() as f64
        };
        for (name, found, wanted) in [
            ("one digit", share(&|p| p.a < 10), 1.0 / 3.0),
            ("two digits", share(&|p| (10..100).contains(&p.b)), 1.0 / 3.0),
            ("three digits", share(&|p| p.a >= 100), 1.0 / 3.0),
            ("zero", share(&|p| p.b == 0), 1.0 / 30.0),
            ("low half of three digits", share(&|p| (100..550).contains(&p.a)), 1.0 / 6.0),
            ("both one digit", share(&|p| p.a < 10 && p.b < 10), 1.0 / 9.0),
            ("plus", share(&|p| p.operator == Operator::Add), 0.5),
        ] {
            assert!((found - wanted).abs() < 0.016, "{name}: {found}, wanted {wanted}"); // 4.3 standard errors
        }
        assert!(problems.iter().all(|problem| problem.a < 1000 && problem.b < 1000));
    }

    #[test]
    fn a_count_that_takes_all_there_are_ends_and_one_more_is_refused() {
        let all = Arithmetic { held_out: Share(0.0), ..settings(&[Operator::Subtract], 2, 2, 8100) };
        assert_eq!(ids(&draw(&all, 0)).into_iter().collect::<HashSet<_>>().len(), 8100);
        for too_many in [8101, usize::MAX] {
            assert_eq!(
                error(&Arithmetic { count: NonZeroUsize::new(too_many).unwrap(), ..all.clone() }),
                format!(
                    "`count` is {too_many}, but the train split has no more than 8100 distinct problems; raise \
                     `digits` or lower `count`"
                )
            );
        }
        let none = Arithmetic { split: Split::Test, count: NonZeroUsize::MIN, ..all };
        assert!(error(&none).contains("the test split has no more than 0 distinct"));
        let vast = settings(&[Operator::Add], 6, 6, usize::MAX);
        assert!(error(&vast).contains("no more than 810000000000 distinct"));
    }

    #[test]
    fn what_drawing_does_not_find_is_listed_and_then_depends_on_the_seed() {
        // Of a million problems a hundred are held out, and 100 000 draws find a few of them.
        let test = |count| Arithmetic {
            split: Split::Test,
            held_out: Share(1e-4),
            ..settings(&[Operator::Add], 1, 3, count)
        };
        let every = test(1).list().into_iter().filter(|problem| problem.split(Share(1e-4)) == Split::Test);
        let every: HashSet<_> = every.map(|problem| format!("arithmetic:{problem}")).collect();
        let (all_but_one, other) = (draw(&test(every.len() - 1), 0), draw(&test(every.len() - 1), 1));
        let found: HashSet<_> = ids(&all_but_one).into_iter().map(str::to_owned).collect();
        assert_eq!(found.len(), every.len() - 1);
        assert!(found.is_subset(&every));
        assert_ne!(ids(&all_but_one), ids(&other));
        assert!(error(&test(every.len() + 1)).contains(&format!("no more than {} distinct", every.len())));
    }

    #[test]
    fn problems_too_rare_to_be_found_are_an_error() {
        let settings =
            Arithmetic { split: Split::Test, held_out: Share(1e-12), ..settings(&[Operator::Add], 1, 6, 1) };
        assert_eq!(
            error(&settings),
            "`count` is 1, but 100000 draws found only 0 distinct problems of the test split; lower `count` or give \
             that split a larger share by `held_out`"
        );
    }

    #[test]
    fn settings_that_contradict_themselves_are_refused() {
        let default = Arithmetic::default();
        assert_eq!(
            error(&Arithmetic { min_digits: Digits(3), ..default.clone() }),
            "`min_digits` is 3, wanted at most `digits`, which is 2"
        );
        assert_eq!(
            error(&Arithmetic { operators: vec![], ..default.clone() }),
            "`operators` is empty, wanted at least one of `+`, `-` and `*`"
        );
        assert_eq!(
            error(&Arithmetic {
                operators: vec![Operator::Add, Operator::Multiply, Operator::Add],
                ..default.clone()
            }),
            "`operators` names `+` twice, wanted each once: all are equally likely"
        );
        let template = PromptTemplate { template: "{questions}".into(), ..Default::default() };
        assert_eq!(
            Dataset::arithmetic(&default, Seed(0), &template).unwrap_err().to_string(),
            "arithmetic: the template names the column `questions`, which is not there; the columns are `question`, \
             `answer`, `a`, `b`, `operator`; did you mean `question`?"
        );
    }

    #[test]
    fn a_bad_setting_is_refused_where_it_stands() {
        let read = |json| serde_json::from_str::<Arithmetic>(json);
        assert_eq!(read("{}").unwrap(), Arithmetic::default());
        for (json, message) in [
            (r#"{"digits": 0}"#, "an operand can have 1 to 6 digits, not 0"),
            (r#"{"min_digits": 7}"#, "an operand can have 1 to 6 digits, not 7"),
            (r#"{"held_out": 1.5}"#, "a share must be between 0 and 1, not 1.5"),
            (r#"{"count": 0}"#, "expected a nonzero usize"),
            (r#"{"operators": ["/"]}"#, "unknown variant `/`, expected one of `+`, `-`, `*`"),
            (r#"{"digit": 2}"#, "unknown field `digit`"),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        assert_eq!(Share::try_from(f64::NAN), Err("a share must be between 0 and 1, not NaN".into()));
        let text =
            r#"{"operators":["*","-"],"digits":3,"min_digits":2,"split":"test","held_out":0.25,"count":9}"#;
        assert_eq!(serde_json::to_string(&read(text).unwrap()).unwrap(), text);
    }
}
