//! Settings that are valid and change nothing: said before a run, so that nobody compares two runs that are the same.

use super::TrainerConfig;
use crate::baseline::{BaselineConfig, Mode, Optimal, Weights};
use crate::objective::{Cispo, Gmpo, Grpo, KlEstimator, KlPlace, ObjectiveConfig, RatioLevel, Sapo};
use crate::schedule::ScheduleShape;

impl TrainerConfig {
    /// What of the settings has no effect, each as a sentence that names it and says why. Settings that are at their default
    /// are not worth a word.
    pub fn without_effect(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut none = |what: String, why: &str| found.push(format!("{what} has no effect: {why}"));
        if self.is_on_policy() {
            for (_, setting) in self.objective_settings().into_iter().filter(|(set, _)| *set) {
                none(
                    format!("objective.{setting}"),
                    "a step makes one update (epochs × mini_batches = 1), for which every ratio π/π_old is 1",
                );
            }
        }
        if let Some(kl) = self.loss.kl.as_ref().filter(|kl| kl.place == KlPlace::Reward) {
            if kl.estimator != KlEstimator::K1 {
                none(
                    format!("kl.estimator = \"{}\"", kl.estimator.name()),
                    "with place = \"reward\" the estimate is k1, whose policy gradient is that of KL(π ‖ π_ref)",
                );
            }
            if kl.importance_weighted {
                none(
                    "kl.importance_weighted".into(),
                    "it weighs a term of the loss, and place is \"reward\"",
                );
            }
        }
        if let BaselineConfig::Optimal(Optimal { weights, mode, cap, temper, .. }) = &self.baseline {
            if *mode == Mode::Own && *cap != Optimal::default().cap {
                none(
                    format!("baseline.optimal.cap = {cap}"),
                    "it bounds leave-one-out advantages, and mode is \"own\"",
                );
            }
            if *weights == Weights::Uniform && *temper != Optimal::default().temper {
                none(
                    format!("baseline.optimal.temper = {temper}"),
                    "weights are \"uniform\", and a power of 1 is 1",
                );
            }
        }
        if let Some(room) = self.ledger.room.filter(|_| !self.weighs_in_one_backward()) {
            none(
                format!("ledger.room = {room}"),
                "no rollouts wait for weights: that takes baseline.optimal.weights = \"full\", one update a step and a loss of the surrogate alone",
            );
        }
        let schedule = &self.schedule;
        if schedule.shape == ScheduleShape::Constant && schedule.floor != 0.0 {
            none(format!("schedule.floor = {}", schedule.floor), "shape is \"constant\"");
        }
        found
    }

    /// The objective's settings, which all look at ratios, and whether each differs from its default.
    fn objective_settings(&self) -> Vec<(bool, String)> {
        match &self.loss.objective {
            ObjectiveConfig::Grpo(Grpo { clip_low, clip_high, dual_clip, ratio_cap, level }) => {
                let usual = Grpo::default();
                let number = |range: crate::objective::ClipRange| f32::from(range);
                vec![
                    (*clip_low != usual.clip_low, format!("grpo.clip_low = {}", number(*clip_low))),
                    (*clip_high != usual.clip_high, format!("grpo.clip_high = {}", number(*clip_high))),
                    (dual_clip.is_some(), format!("grpo.dual_clip = {}", dual_clip.unwrap_or(0.0))),
                    (ratio_cap.is_some(), format!("grpo.ratio_cap = {}", ratio_cap.unwrap_or(0.0))),
                    (*level == RatioLevel::Sequence, "grpo.level = \"sequence\"".into()),
                ]
            }
            ObjectiveConfig::Cispo(Cispo { cap, floor }) => {
                let usual = Cispo::default();
                vec![
                    (*cap != usual.cap, format!("cispo.cap = {cap}")),
                    (*floor != usual.floor, format!("cispo.floor = {floor}")),
                ]
            }
            ObjectiveConfig::Sapo(Sapo { temperature_positive, temperature_negative }) => {
                let usual = Sapo::default();
                vec![
                    (
                        *temperature_positive != usual.temperature_positive,
                        format!("sapo.temperature_positive = {temperature_positive}"),
                    ),
                    (
                        *temperature_negative != usual.temperature_negative,
                        format!("sapo.temperature_negative = {temperature_negative}"),
                    ),
                ]
            }
            ObjectiveConfig::Gmpo(Gmpo { clip }) => {
                vec![(*clip != Gmpo::default().clip, format!("gmpo.clip = {clip}"))]
            }
            ObjectiveConfig::Reinforce(_) => vec![],
        }
    }
}
