use super::*;
use data::{Body, PolicyVersion, Prompt, Rollout, Score, StopReason};

fn scored(prompt: &str, reward: Option<f32>, stop: StopReason) -> ScoredRollout {
    let prompt = Prompt {
        id: prompt.into(),
        body: Body::Text("1+1=".into()),
        answer: None,
        fields: Default::default(),
    };
    let rollout = Rollout {
        prompt: Arc::new(prompt),
        prompt_tokens: Arc::from([1u32, 2]),
        tokens: vec![3],
        text: String::new(),
        log_probs: vec![-0.5],
        stop,
        policy: PolicyVersion(0),
        occurrence: 0,
        place: 0,
        forced: vec![],
        entropy: vec![],
        top_log_probs: vec![],
    };
    ScoredRollout { rollout, score: Score { reward, parts: vec![] } }
}

fn batch(rollouts: &[ScoredRollout], truncated: Truncated) -> Batch {
    Batch::new(rollouts, &BTreeMap::from([("b".to_owned(), 0.25)]), truncated).expect("batch")
}

fn rewards_of(batch: &Batch) -> Vec<Option<f32>> {
    batch.rows.iter().map(|row| row.reward).collect()
}

#[test]
fn groups_are_counted_and_an_absent_reward_trains_nothing() {
    use StopReason::Token;
    let batch = batch(
        &[
            scored("a", Some(1.0), Token),
            scored("a", Some(0.0), Token),
            scored("b", Some(0.3), Token),
            scored("b", Some(0.3), Token),
            scored("b", None, Token),
        ],
        Truncated::Keep,
    );
    assert_eq!((batch.zero_variance_groups, batch.absent_rewards), (1, 1));
    let groups: Vec<_> = batch.groups.iter().map(|g| (g.prompt.as_str(), g.rows.clone(), g.greedy)).collect();
    assert_eq!(groups, [("a", 0..2, None), ("b", 2..5, Some(0.25))]);
    assert_eq!(batch.known(&batch.groups[1]).collect::<Vec<_>>(), [(2, 0.3), (3, 0.3)]);
    assert!(batch.rows[3].trains && !batch.rows[4].trains);
}

#[test]
fn neighbouring_occurrences_of_a_prompt_are_groups_of_their_own() {
    let of = |occurrence, reward| {
        let mut scored = scored("b", Some(reward), StopReason::Token);
        scored.rollout.occurrence = occurrence;
        scored
    };
    let batch = batch(&[of(0, 1.0), of(0, 0.0), of(1, 0.5), of(1, 0.5)], Truncated::Keep);
    let groups: Vec<_> = batch.groups.iter().map(|g| (g.rows.clone(), g.greedy)).collect();
    assert_eq!(groups, [(0..2, Some(0.25)), (2..4, Some(0.25))]);
    assert_eq!(batch.zero_variance_groups, 1);
}

#[test]
fn a_truncated_rollout_is_kept_masked_or_penalised_as_the_recipe_says() {
    let rollouts = [scored("a", Some(1.0), StopReason::Token), scored("a", Some(0.0), StopReason::Length)];
    let kept = batch(&rollouts, Truncated::Keep);
    assert!(kept.rows[1].trains);
    let masked = batch(&rollouts, Truncated::Mask);
    assert_eq!(rewards_of(&masked), [Some(1.0), Some(0.0)], "it counts in the baseline");
    assert!(!masked.rows[1].trains);
    assert_eq!(rewards_of(&batch(&rollouts, Truncated::Penalise(1.0))), [Some(1.0), Some(-1.0)]);
}

#[test]
fn a_long_completion_loses_more_the_nearer_it_comes_to_the_limit() {
    let overlong = Overlong { buffer: 0.2, limit: 20480 };
    for (tokens, wanted) in [(16384, 0.0), (17408, 0.25), (18432, 0.5), (20480, 1.0), (20481, 1.0)] {
        assert_eq!(overlong.penalty(tokens), wanted, "{tokens}");
    }
    assert_eq!(Overlong { buffer: 0.0, limit: 10 }.penalty(9), 0.0);
}

#[test]
fn parts_cover_all_rows_with_whole_groups() {
    let rollouts: Vec<_> = ["a", "a", "b", "b", "b", "c", "c"]
        .iter()
        .map(|prompt| scored(prompt, Some(0.0), StopReason::Token))
        .collect();
    let batch = batch(&rollouts, Truncated::Keep);
    let parts =
        |count| -> Vec<_> { Batch::parts(0..3, count).iter().map(|groups| batch.rows_of(groups)).collect() };
    assert_eq!(parts(1), vec![0..7]);
    assert_eq!(parts(2), [0..2, 2..7]);
    assert_eq!(parts(9), [0..2, 2..5, 5..7]);
}

#[test]
fn a_log_prob_that_is_not_a_number_is_named() {
    let mut rollout = scored("a", Some(1.0), StopReason::Token);
    rollout.rollout.log_probs[0] = f32::NAN;
    let error = Batch::new(&[rollout], &BTreeMap::new(), Truncated::Keep);
    let message = error.expect_err("refused").to_string();
    assert!(message.contains("prompt `a` has log-prob NaN at token 0"), "{message}");
}
