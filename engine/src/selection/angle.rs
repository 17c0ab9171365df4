//! Prompts from those whose tokens point one way to those whose tokens do not, and the control: from short to long.

use serde::{Deserialize, Serialize};

use super::{GroupOutcome, Order, PromptDraw, PromptKnowledge, Prompts, Selection, Walk};

/// Prompts are ordered by angle concentration, the most concentrated first, and a window walks along that order. Concentration is
/// measured once, before training, on the normalised input of the last layer's MLP.
///
/// The published order is close to one by length (rank correlation 0.92 in the authors' data), and whatever it shows has to be
/// compared with [`Length`], which differs in the order alone.
///
/// # Source
/// GAIN-RL, arXiv:2506.02281.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Angle {
    /// What prompts are ordered by, and what is measured of rollouts.
    pub metric: AngleMetric,
    /// Weight κ of the concentration between question and prefix beside that within the question: 1 in the paper, 8 in its
    /// released code. `metric = "released"` has its own.
    pub kappa: f64,
    /// The window.
    pub walk: Walk,
}

impl Default for Angle {
    fn default() -> Self {
        Self { metric: AngleMetric::default(), kappa: 1.0, walk: Walk::default() }
    }
}

/// A measure of how much the directions of a prompt's tokens agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AngleMetric {
    /// Means of cosines over pairs of tokens, as the paper has it in words.
    #[default]
    Clean,
    /// What the released code computes: rows are sliced twice, and zeros of a mask are counted, so that the length of a prompt
    /// matters by itself; a prompt that it gives no number comes last.
    Released,
}

impl Selection for Angle {
    fn name(&self) -> &'static str {
        "angle"
    }

    fn order(&self) -> Option<Order> {
        Some(Order::Angle { metric: self.metric, kappa: self.kappa })
    }

    fn online(&self) -> Option<AngleMetric> {
        self.walk.online.then_some(self.metric)
    }

    fn draw(
        &self,
        prompts: Prompts<'_>,
        known: &PromptKnowledge,
        drawn: &mut u64,
        draw: PromptDraw,
    ) -> Vec<usize> {
        *drawn += draw.count as u64;
        self.walk.draw(prompts, known, draw)
    }

    fn learn(&self, known: &mut PromptKnowledge, prompts: Prompts<'_>, _: u64, outcomes: &[GroupOutcome]) {
        self.walk.learn(known, prompts, outcomes);
    }

    fn problem(&self) -> Option<String> {
        let kappa = (!(self.kappa >= 0.0 && self.kappa.is_finite()))
            .then(|| format!("selection.angle.kappa is {}; wanted at least 0", self.kappa));
        kappa.or_else(|| self.walk.problem("selection.angle.walk"))
    }
}

/// Prompts from short to long, in tokens, by the same window: the control of [`Angle`], from which it differs in nothing but the
/// order.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Length {
    /// The measure of rollouts' concentration, by which the window moves as that of the angle does.
    pub metric: AngleMetric,
    /// The window.
    pub walk: Walk,
}

impl Selection for Length {
    fn name(&self) -> &'static str {
        "length"
    }

    fn order(&self) -> Option<Order> {
        Some(Order::Length)
    }

    fn online(&self) -> Option<AngleMetric> {
        self.walk.online.then_some(self.metric)
    }

    fn draw(
        &self,
        prompts: Prompts<'_>,
        known: &PromptKnowledge,
        drawn: &mut u64,
        draw: PromptDraw,
    ) -> Vec<usize> {
        *drawn += draw.count as u64;
        self.walk.draw(prompts, known, draw)
    }

    fn learn(&self, known: &mut PromptKnowledge, prompts: Prompts<'_>, _: u64, outcomes: &[GroupOutcome]) {
        self.walk.learn(known, prompts, outcomes);
    }

    fn problem(&self) -> Option<String> {
        self.walk.problem("selection.length.walk")
    }
}
