//! Variance-aware sampling: more of the prompts whose rollouts differ in what they earn.

use rand::RngExt;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::{
    Diversity, GroupOutcome, PromptDraw, PromptKnowledge, PromptRecord, Prompts, Selection, Uniform,
};

/// A share of the prompts is drawn with replacement by weights, the rest walks through the dataset. A weight is α times how the
/// rewards of a prompt's rollouts vary, plus β times how the rollouts differ. What is known of a prompt comes from the rollouts
/// that it was trained on; one that was never drawn has the score of the prior.
///
/// # Source
/// VAS of MMR1, arXiv:2509.21268: both scores, their mixture λ, and the refresh every T steps. Statistics from training rollouts
/// instead of a pass over the dataset, and the posterior score, are ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Variance {
    /// Share of the prompts that is drawn by weights, λ, in 0 to 1.
    pub mixture: f64,
    /// Weight of the variance of rewards, α, at least 0.
    pub alpha: f64,
    /// Weight of the diversity of rollouts, β, at least 0; 0 does not compute it.
    pub beta: f64,
    /// The measure of diversity.
    pub diversity: Diversity,
    /// The estimate of the variance of rewards.
    pub score: VarianceScore,
    /// How scores become weights.
    pub weights: WeightScale,
    /// Steps between two refreshes of the weights, at least 1.
    pub refresh: u64,
    /// Share of the old weights that a refresh keeps, in 0 to 1: 0 replaces them.
    pub momentum: f64,
    /// Share of a prompt's counts that its next visit keeps in the posterior, in 0 to 1.
    pub forgetting: f64,
    /// What becomes of prompts that were not drawn for long, whose scores are of a policy of then: `{ revisit = 56 }` or
    /// `{ decay = 56 }`. By default their scores stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale: Option<Stale>,
}

/// What becomes of prompts that were not drawn for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Stale {
    /// Those that were not drawn for so many steps are sampled and trained on again, in random order, before the walk through the
    /// dataset goes on: the paper's refresh, for those who need it and without rollouts that train nothing.
    Revisit(u64),
    /// Their scores go towards that of a prompt nobody knows, half of the way in so many steps.
    Decay(u64),
}

impl Default for Variance {
    fn default() -> Self {
        Self {
            mixture: 0.5,
            alpha: 0.8,
            beta: 0.2,
            diversity: Diversity::SelfBleu,
            score: VarianceScore::Posterior,
            weights: WeightScale::Vps,
            refresh: 28,
            momentum: 0.0,
            forgetting: 0.5,
            stale: None,
        }
    }
}

/// An estimate of how much a prompt's rewards vary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum VarianceScore {
    /// E[p(1 − p)] under the Beta posterior of the chance of success: prompts that were never solved stay alive for a while.
    #[default]
    Posterior,
    /// The variance of the last visit's rewards, times n/(n − 1); P(1 − P) of binary rewards.
    PlugIn,
}

/// How scores become weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WeightScale {
    /// The scores themselves, as in the paper.
    #[default]
    Vps,
    /// Scores from 0 for the least to 1 for the largest, as in the released code.
    Minmax,
}

impl Variance {
    /// The score of a prompt at a step.
    fn score_at(&self, record: Option<&PromptRecord>, step: u64) -> f64 {
        let unknown = || self.score_of(&PromptRecord::default());
        match (record, self.stale) {
            (None, _) => unknown(),
            (Some(record), Some(Stale::Decay(half))) => {
                let kept = 0.5f64.powf(step.saturating_sub(record.last_step) as f64 / half as f64);
                kept * self.score_of(record) + (1.0 - kept) * unknown()
            }
            (Some(record), _) => self.score_of(record),
        }
    }

    /// The score of a prompt, α · variance + β · diversity.
    fn score_of(&self, record: &PromptRecord) -> f64 {
        let variance = match (self.score, record.last) {
            (VarianceScore::PlugIn, Some((n, _, variance))) if n > 1 => variance * n as f64 / (n - 1) as f64,
            (VarianceScore::PlugIn, Some(_)) => 0.0,
            _ => record.expected_variance(),
        };
        self.alpha * variance + self.beta * f64::from(record.diversity.unwrap_or(0.0))
    }

    /// Some of the prompts that were not drawn for long, at most so many.
    fn revisited(&self, prompts: Prompts<'_>, known: &PromptKnowledge, draw: PromptDraw) -> Vec<usize> {
        let Some(Stale::Revisit(after)) = self.stale else { return Vec::new() };
        let is_stale = |place: &usize| {
            let record = known.stats.get((prompts.id)(*place));
            record.is_some_and(|record| draw.step.saturating_sub(record.last_step) >= after)
        };
        let mut stale: Vec<usize> = (0..prompts.count).filter(is_stale).collect();
        let seed = draw.seed.named(&format!("stale {}", draw.round)).at(draw.step);
        let (some, _) = stale.partial_shuffle(&mut seed.rng(), draw.count);
        some.to_vec()
    }

    /// Weights from scores; all 0 where nothing tells prompts apart.
    fn weights_of(&self, scores: &[f64]) -> Vec<f64> {
        match self.weights {
            WeightScale::Vps => scores.to_vec(),
            WeightScale::Minmax => {
                let (low, high) = scores
                    .iter()
                    .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), s| (l.min(*s), h.max(*s)));
                scores.iter().map(|score| (score - low) / (high - low + 1e-8)).collect()
            }
        }
    }
}

impl Selection for Variance {
    fn name(&self) -> &'static str {
        "variance"
    }

    fn diversity(&self) -> Option<Diversity> {
        (self.beta > 0.0).then_some(self.diversity)
    }

    fn forgetting(&self) -> f64 {
        self.forgetting
    }

    fn draw(
        &self,
        prompts: Prompts<'_>,
        known: &PromptKnowledge,
        drawn: &mut u64,
        draw: PromptDraw,
    ) -> Vec<usize> {
        let total: f64 = known.weights.iter().map(|weight| f64::from(*weight)).sum();
        let fits = known.weights.len() == prompts.count && total > 0.0;
        let weighted = if fits { (self.mixture * draw.count as f64).floor() as usize } else { 0 };
        let mut places = self.revisited(prompts, known, PromptDraw { count: draw.count - weighted, ..draw });
        let walked = draw.count - weighted - places.len();
        places.extend(Uniform.draw(prompts, known, drawn, PromptDraw { count: walked, ..draw }));
        if weighted == 0 {
            return places;
        }
        let weights: Vec<f64> = known.weights.iter().map(|weight| f64::from(*weight)).collect();
        let mut rng = draw.rng();
        places.extend(super::weighted(&weights, weighted, || rng.random()));
        places
    }

    fn learn(&self, known: &mut PromptKnowledge, prompts: Prompts<'_>, step: u64, _: &[GroupOutcome]) {
        if known.refreshed.is_some_and(|last| step + 1 < last + self.refresh.max(1)) {
            return;
        }
        let scores: Vec<f64> = (0..prompts.count)
            .map(|place| self.score_at(known.stats.get((prompts.id)(place)), step))
            .collect();
        let new = self.weights_of(&scores);
        let old = std::mem::take(&mut known.weights);
        let kept = if old.len() == new.len() { self.momentum } else { 0.0 };
        let old = old.into_iter().map(f64::from).chain(std::iter::repeat(0.0));
        known.weights =
            new.iter().zip(old).map(|(new, old)| (kept * old + (1.0 - kept) * new) as f32).collect();
        known.refreshed = Some(step + 1);
    }

    fn problem(&self) -> Option<String> {
        let within = |name: &str, value: f64| {
            (!(0.0..=1.0).contains(&value))
                .then(|| format!("selection.variance.{name} is {value}; wanted 0 to 1"))
        };
        let least = |name: &str, value: f64| {
            (value < 0.0 || !value.is_finite())
                .then(|| format!("selection.variance.{name} is {value}; wanted at least 0"))
        };
        within("mixture", self.mixture)
            .or(within("momentum", self.momentum))
            .or(within("forgetting", self.forgetting))
            .or(least("alpha", self.alpha))
            .or(least("beta", self.beta))
            .or((self.alpha + self.beta == 0.0).then(|| {
                "selection.variance has alpha = 0 and beta = 0, which tells no prompts apart; wanted one above 0".into()
            }))
            .or(match self.stale {
                Some(Stale::Revisit(0)) => Some("selection.variance.stale.revisit is 0; wanted at least 1".into()),
                Some(Stale::Decay(0)) => Some("selection.variance.stale.decay is 0; wanted at least 1".into()),
                _ => None,
            })
            .or((self.refresh == 0).then(|| "selection.variance.refresh is 0; wanted at least 1".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data::Seed;

    const PASS: [f64; 5] = [0.0, 0.125, 0.5, 0.875, 1.0];
    const DIVERSITY: [f32; 5] = [0.6, 0.5, 0.3, 0.7, 0.2];

    fn id(place: usize) -> &'static str {
        ["a", "b", "c", "d", "e"][place]
    }

    const PROMPTS: Prompts<'static> = Prompts { count: 5, id: &id, order: &[] };

    /// What is known after one visit of each prompt with 8 rollouts.
    fn known(selection: &Variance) -> PromptKnowledge {
        let mut known = PromptKnowledge::default();
        let outcomes: Vec<GroupOutcome> = (0..5)
            .map(|place| GroupOutcome {
                prompt: id(place).into(),
                rewards: (0..8).map(|i| if (i as f64) < 8.0 * PASS[place] { 1.0 } else { 0.0 }).collect(),
                rollouts: 8,
                diversity: Some(DIVERSITY[place]),
                ..GroupOutcome::default()
            })
            .collect();
        known.observe(selection, PROMPTS, 0, &outcomes);
        known
    }

    /// The paper's score has P(1 − P) without n/(n − 1): α is less by that.
    fn plug_in() -> Variance {
        Variance { score: VarianceScore::PlugIn, alpha: 0.8 * 7.0 / 8.0, ..Variance::default() }
    }

    #[track_caller]
    fn near(found: impl IntoIterator<Item = f64>, wanted: &[f64]) {
        let found: Vec<f64> = found.into_iter().collect();
        let off = found.iter().zip(wanted).map(|(f, w)| (f - w).abs()).fold(0.0, f64::max);
        assert!(found.len() == wanted.len() && off < 1e-6, "{found:?}\n{wanted:?}");
    }

    #[test]
    fn scores_and_weights_are_those_of_the_paper_and_of_its_code() {
        let paper = known(&plug_in());
        near(paper.weights.iter().map(|w| f64::from(*w)), &[0.12, 0.1875, 0.26, 0.2275, 0.04]);
        let minmax = Variance { weights: WeightScale::Minmax, ..plug_in() };
        let code = known(&minmax);
        near(code.weights.iter().map(|w| f64::from(*w)), &[0.363_636, 0.670_455, 1.0, 0.852_273, 0.0]);
        for (momentum, wanted) in [(0.5, [0.431_818, 0.585_227, 0.75, 0.676_136, 0.25]), (1.0, [0.5; 5])] {
            let selection = Variance { momentum, refresh: 1, ..minmax.clone() };
            let mut known = PromptKnowledge { weights: vec![0.5; 5], ..known(&minmax) };
            selection.learn(&mut known, PROMPTS, 1, &[]);
            near(known.weights.iter().map(|w| f64::from(*w)), &wanted);
        }
    }

    #[test]
    fn draws_follow_the_weights_and_the_mixture() {
        let selection = Variance { mixture: 1.0, ..plug_in() };
        let known = known(&selection);
        let (mut counts, mut drawn) = ([0f64; 5], 0);
        for step in 0..2000 {
            let draw = PromptDraw { seed: Seed(5), step, round: 0, count: 10 };
            for place in selection.draw(PROMPTS, &known, &mut drawn, draw) {
                counts[place] += 1.0;
            }
        }
        assert_eq!(drawn, 0, "nothing is left to the walk");
        let wanted = [0.143_713, 0.224_551, 0.311_377, 0.272_455, 0.047_904].map(|p| 20_000.0 * p);
        let chi: f64 =
            counts.iter().zip(wanted).map(|(found, wanted)| (found - wanted).powi(2) / wanted).sum();
        // the 99.9 % point of χ² with 4 degrees of freedom
        assert!(chi < 18.47, "{chi}: {counts:?}");
        for (count, mixture, walked) in [(512, 0.5, 256), (10, 0.25, 8), (7, 0.5, 4), (7, 0.0, 7)] {
            let mut drawn = 0;
            let draw = PromptDraw { seed: Seed(5), step: 3, round: 0, count };
            let selection = Variance { mixture, ..plug_in() };
            assert_eq!(selection.draw(PROMPTS, &known, &mut drawn, draw).len(), count);
            assert_eq!(drawn, walked, "{count} prompts with {mixture}");
            if mixture == 0.0 {
                let walk = Uniform.draw(PROMPTS, &PromptKnowledge::default(), &mut 0, draw);
                assert_eq!(selection.draw(PROMPTS, &known, &mut 0, draw), walk, "the shuffle alone");
            }
        }
    }

    #[test]
    fn without_scores_or_with_equal_ones_it_walks_like_uniform() {
        let selection = Variance { weights: WeightScale::Minmax, ..Variance::default() };
        let draw = PromptDraw { seed: Seed(1), step: 0, round: 0, count: 6 };
        let equal = PromptKnowledge { weights: vec![0.0; 5], ..PromptKnowledge::default() };
        let other_data = PromptKnowledge { weights: vec![1.0; 3], ..PromptKnowledge::default() };
        for known in [PromptKnowledge::default(), equal, other_data] {
            let (mut a, mut b) = (0, 0);
            let walked = Uniform.draw(PROMPTS, &PromptKnowledge::default(), &mut b, draw);
            assert_eq!(selection.draw(PROMPTS, &known, &mut a, draw), walked);
            assert_eq!(a, b);
        }
    }

    #[test]
    fn scores_are_those_of_the_worked_examples() {
        // E[P(1 − P)] of n rollouts is (1 − 1/n) p(1 − p), which the factor n/(n − 1) takes back
        let chance = |n: u32, k: u32, p: f64| {
            let ways = (0..k).fold(1.0, |ways, i| ways * f64::from(n - i) / f64::from(i + 1));
            ways * p.powi(k as i32) * (1.0 - p).powi((n - k) as i32)
        };
        let score = Variance { score: VarianceScore::PlugIn, alpha: 1.0, beta: 0.0, ..Variance::default() };
        for (n, plain) in [(4, 0.1575), (8, 0.18375), (32, 0.203_437_5)] {
            let mut expected = 0.0;
            for k in 0..=n {
                let rewards = (0..n).map(|i| if i < k { 1.0 } else { 0.0 }).collect();
                let outcome = GroupOutcome { prompt: "p".into(), rewards, ..GroupOutcome::default() };
                let mut stats = super::super::PromptStats::default();
                stats.observe(0, &outcome, 1.0);
                expected += chance(n, k, 0.3) * score.score_of(stats.get("p").expect("visited"));
            }
            let n = f64::from(n);
            assert!((expected * (n - 1.0) / n - plain).abs() < 1e-9 && (expected - 0.21).abs() < 1e-9);
        }
        // a group says nothing with chance pⁿ + (1 − p)ⁿ
        for (p, of_8, of_16) in [(0.05, 0.6634, 0.4401), (0.2, 0.1678, 0.0281), (0.5, 0.0078, 0.0)] {
            let equal = |n| chance(n, 0, p) + chance(n, n, p);
            assert!((equal(8) - of_8).abs() < 1e-4 && (equal(16) - of_16).abs() < 1e-4, "{p}");
        }
        // over chains of thought the variance is the mean within a chain and the variance between them
        let chains = [(0.5, 0.9), (0.3, 0.4), (0.2, 0.1)];
        let mean = |f: &dyn Fn(f64) -> f64| chains.iter().map(|(weight, p)| weight * f(*p)).sum::<f64>();
        let p = mean(&|p| p);
        let (within, between) = (mean(&|p| p * (1.0 - p)), mean(&|q| (q - p).powi(2)));
        assert!((within - 0.135).abs() < 1e-9 && (between - 0.1069).abs() < 1e-9);
        assert!((within + between - p * (1.0 - p)).abs() < 1e-9 && (p * (1.0 - p) - 0.2419).abs() < 1e-9);
        // of a softmax of two actions the gradient's square is 2·Var², so draws by variance are draws by its norm
        for (p, square) in [(0.05, 0.004_512_5), (0.2, 0.0512), (0.5, 0.125)] {
            let slope = p * (1.0 - p);
            assert!((2.0 * f64::powi(slope, 2) - square).abs() < 1e-9);
        }
    }

    #[test]
    fn a_score_is_the_same_for_as_many_successes_as_failures() {
        for score in [VarianceScore::Posterior, VarianceScore::PlugIn] {
            let selection = Variance { score, beta: 0.0, ..Variance::default() };
            let known = known(&selection);
            let of = |place: usize| selection.score_of(known.stats.get(id(place)).expect("visited"));
            assert!((of(0) - of(4)).abs() < 1e-12 && (of(1) - of(3)).abs() < 1e-12, "{score:?}");
        }
    }

    #[test]
    fn stale_prompts_are_drawn_again_before_the_walk_goes_on() {
        let selection = Variance { mixture: 0.0, stale: Some(Stale::Revisit(10)), ..plug_in() };
        let mut known = known(&selection);
        let of = |known: &PromptKnowledge, step, count| {
            let mut drawn = 0;
            let draw = PromptDraw { seed: Seed(5), step, round: 0, count };
            (selection.draw(PROMPTS, known, &mut drawn, draw), drawn)
        };
        assert_eq!(of(&known, 9, 3).1, 3, "none is stale");
        let (mut all, walked) = of(&known, 10, 5);
        all.sort_unstable();
        assert_eq!((all, walked), (vec![0, 1, 2, 3, 4], 0));
        let seen = |place: usize| GroupOutcome { prompt: id(place).into(), ..GroupOutcome::default() };
        known.observe(&selection, PROMPTS, 9, &[seen(0), seen(2), seen(3)]);
        let (places, walked) = of(&known, 10, 4);
        let mut stale = places[..2].to_vec();
        stale.sort_unstable();
        assert_eq!((stale, walked), (vec![1, 4], 2));
        // of two that are stale each is drawn as often
        let mut first = 0f64;
        for seed in 0..2000 {
            let draw = PromptDraw { seed: Seed(seed), step: 10, round: 0, count: 1 };
            first += f64::from(u8::from(selection.draw(PROMPTS, &known, &mut 0, draw)[0] == 1));
        }
        // the 99.9 % point of χ² with 1 degree of freedom
        assert!(2.0 * (first - 1000.0).powi(2) / 1000.0 < 10.83, "{first} of 2000");
    }

    #[test]
    fn scores_of_prompts_that_were_not_drawn_for_long_go_back_to_that_of_nobody_knows() {
        let selection = Variance { stale: Some(Stale::Decay(20)), ..Variance::default() };
        let known = known(&selection);
        let record = known.stats.get("a").expect("visited");
        let (own, nobody) = (selection.score_of(record), selection.score_at(None, 0));
        assert_eq!(selection.score_at(Some(record), 0), own);
        assert!((selection.score_at(Some(record), 20) - 0.5 * (own + nobody)).abs() < 1e-12);
        assert!((selection.score_at(Some(record), 2000) - nobody).abs() < 1e-12);
    }

    #[test]
    fn weights_are_refreshed_when_it_is_time() {
        let selection = Variance { refresh: 3, ..Variance::default() };
        let mut known = PromptKnowledge::default();
        let at: Vec<u64> = (0..8)
            .map(|step| {
                known.observe(&selection, PROMPTS, step, &[]);
                known.refreshed.expect("made")
            })
            .collect();
        assert_eq!(at, [1, 1, 1, 4, 4, 4, 7, 7]);
    }
}
