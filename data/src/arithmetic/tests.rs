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
    let problem = Problem { a: 2, b: 3, operator: Operator::Subtract, third: Some((Operator::Multiply, 4)) };
    assert_eq!((problem.working().as_str(), problem.answer()), ("2-3=-1,-1*4=-4", -4));
}

#[test]
fn a_problem_says_what_it_asks_and_what_is_right() {
    let template =
        PromptTemplate { template: "{a} {operator} {b}; {question}{answer}".into(), ..Default::default() };
    let template = Template::new(&template).unwrap();
    for (a, operator, b, text, answer) in [
        (12, Operator::Add, 7, "12+7", "19"),
        (7, Operator::Subtract, 12, "7-12", "-5"),
        (999_999, Operator::Multiply, 999_999, "999999*999999", "999998000001"),
    ] {
        let prompt = Problem { a, b, operator, third: None }.prompt(&template, false, None).unwrap();
        assert_eq!(prompt.id, format!("arithmetic:{text}"));
        assert_eq!(prompt.body, Body::Text(format!("{a} {operator} {b}; {text}={answer}")));
        assert_eq!(prompt.answer.as_deref(), Some(answer));
        assert_eq!(prompt.fields["a"], a);
        assert_eq!(prompt.fields["b"], b);
        assert_eq!(prompt.fields["operator"], operator.to_string());
    }
    let plain = PromptTemplate::default();
    let prompt = Problem { a: 12, b: 7, operator: Operator::Add, third: None }.prompt(
        &Template::new(&plain).unwrap(),
        false,
        None,
    );
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

#[test]
fn of_every_three_problems_one_is_easy_and_one_is_hopeless() {
    let settings =
        Arithmetic { levels: true, count: NonZeroUsize::new(60).unwrap(), ..Arithmetic::default() };
    let template = PromptTemplate::default();
    let set = Dataset::arithmetic(&settings, Seed(3), &template).expect("problems");
    let usual =
        Dataset::arithmetic(&Arithmetic { levels: false, ..settings }, Seed(3), &template).expect("problems");
    for (place, (prompt, usual)) in set.prompts().iter().zip(usual.prompts()).enumerate() {
        let answers: Vec<&str> = prompt.references().collect();
        let level = prompt.fields["level"].as_str().expect("a level");
        match place % 3 {
            0 => {
                let bare = answers[0];
                assert_eq!((level, answers.len(), prompt.id == usual.id), ("easy", 3, true));
                assert!(answers[1] == format!("={bare}") && answers[2].ends_with(answers[1]), "{answers:?}");
            }
            1 => assert_eq!((level, answers.len(), prompt.id == usual.id), ("usual", 1, true)),
            _ => {
                assert_eq!((level, answers.len()), ("hopeless", 1));
                assert!(answers[0].len() >= 11, "{answers:?}");
            }
        }
    }
}

#[test]
fn hopeless_problems_are_all_different_whatever_the_seed() {
    let count = NonZeroUsize::new(600).unwrap();
    let settings = Arithmetic { levels: true, count, ..Arithmetic::default() };
    for seed in 0..60 {
        // the dataset refuses ids that are there twice
        Dataset::arithmetic(&settings, Seed(seed), &PromptTemplate::default()).expect("problems");
    }
}
