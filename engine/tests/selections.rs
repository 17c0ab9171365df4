//! What holds for every way of selecting prompts.

use data::Seed;
use engine::selection::{
    Diversity, GroupOutcome, PromptDraw, PromptKnowledge, Prompts, Selection, SelectionConfig,
};

const COUNT: usize = 23;

fn ids() -> Vec<String> {
    (0..COUNT).map(|place| format!("prompt {place}")).collect()
}

/// An order of the prompts that is not that of the dataset.
fn order() -> Vec<u32> {
    (0..COUNT as u32).map(|place| 7 * place % COUNT as u32).collect()
}

/// What a group of a prompt comes to: a third of the prompts always solved, a third never, a third by luck.
fn outcome(ids: &[String], place: usize, step: u64) -> GroupOutcome {
    let right = [8, (3 * place + step as usize) % 9, 0][place % 3];
    GroupOutcome {
        prompt: ids[place].clone(),
        rewards: (0..8).map(|i| if i < right { 1.0 } else { 0.0 }).collect(),
        rollouts: 8,
        tokens: 80,
        truncated: 0,
        diversity: Some(0.1 * (place % 7) as f32),
        concentration: Some(0.05 * (place % 5) as f32),
    }
}

/// Some steps, in which what was drawn is observed; `at` may change what goes from one step to the next.
fn steps(
    selection: &dyn Selection,
    count: u64,
    at: impl Fn(u64, PromptKnowledge) -> PromptKnowledge,
) -> Vec<Vec<usize>> {
    let ids = ids();
    let id = |place: usize| ids[place].as_str();
    let order = order();
    let prompts = Prompts { count: COUNT, id: &id, order: &order };
    let (mut known, mut drawn) = (PromptKnowledge::default(), 0);
    (0..count)
        .map(|step| {
            known = at(step, std::mem::take(&mut known));
            let draw = PromptDraw { seed: Seed(7), step, round: 0, count: 5 };
            let places = selection.draw(prompts, &known, &mut drawn, draw);
            let outcomes: Vec<GroupOutcome> =
                places.iter().map(|place| outcome(&ids, *place, step)).collect();
            known.observe(selection, prompts, step, &outcomes);
            places
        })
        .collect()
}

#[test]
fn a_step_draws_as_many_prompts_of_the_dataset_as_it_asks_for() {
    for config in SelectionConfig::all() {
        let selection = config.build();
        assert_eq!(selection.problem(), None, "{}", selection.name());
        for places in steps(selection, 60, |_, known| known) {
            assert!(places.len() == 5 && places.iter().all(|place| *place < COUNT), "{}", selection.name());
        }
    }
}

#[test]
fn draws_are_the_same_each_time_and_go_on_from_what_was_saved() {
    for config in SelectionConfig::all() {
        let selection = config.build();
        let whole = steps(selection, 40, |_, known| known);
        let saved = steps(selection, 40, |step, known| {
            if step % 7 != 3 {
                return known;
            }
            let text = serde_json::to_string(&known).expect("JSON");
            serde_json::from_str(&text).expect("what was written")
        });
        assert_eq!(whole, saved, "{}", selection.name());
    }
}

#[test]
fn rounds_of_a_step_and_steps_draw_anew() {
    let ids = ids();
    let id = |place: usize| ids[place].as_str();
    let order = order();
    let prompts = Prompts { count: COUNT, id: &id, order: &order };
    for config in SelectionConfig::all() {
        let selection = config.build();
        let mut known = PromptKnowledge::default();
        let all: Vec<GroupOutcome> = (0..COUNT).map(|place| outcome(&ids, place, 1)).collect();
        known.observe(selection, prompts, 0, &all);
        let mut drawn = 0;
        let mut of = |step, round| {
            selection.draw(prompts, &known, &mut drawn, PromptDraw { seed: Seed(7), step, round, count: 5 })
        };
        let (first, second, later) = (of(1, 0), of(1, 1), of(2, 0));
        assert!(first != second && second != later && first != later, "{}", selection.name());
    }
}

#[test]
fn every_prompt_is_reached_by_all_but_those_that_are_meant_to_leave_some_out() {
    for config in SelectionConfig::all() {
        let selection = config.build();
        let drawn = steps(selection, 400, |_, known| known);
        let reached = (0..COUNT).filter(|place| drawn.iter().flatten().any(|other| other == place)).count();
        assert_eq!(reached, COUNT, "{}", selection.name());
    }
}

#[test]
fn choices_survive_being_written_and_misspelt_ones_do_not() {
    for config in SelectionConfig::all() {
        let text = serde_json::to_string(&config).expect("JSON");
        assert_eq!(serde_json::from_str::<SelectionConfig>(&text).expect("read"), config, "{text}");
        assert!(text.contains(config.build().name()), "{text}");
    }
    for text in [r#"{"variance": {"mixtur": 0.5}}"#, r#""unifrom""#, r#"{"skip": {"easy": "x"}}"#] {
        assert!(serde_json::from_str::<SelectionConfig>(text).is_err(), "{text}");
    }
    let beta: SelectionConfig = serde_json::from_str(r#"{"variance": {"beta": 0.0}}"#).expect("read");
    assert_eq!(beta.build().diversity(), None, "what weighs nothing is not computed");
    assert_eq!(SelectionConfig::all()[1].build().diversity(), Some(Diversity::SelfBleu));
}
