//! Judges inside the program, if it was built with them; or what a recipe that names them is told.

#[cfg(feature = "local")]
pub(super) use rewards::{LocalJudge, RewardModel};
use rewards::{Reward, RewardError};

/// A reward function that is ready, or why it cannot be.
pub(super) type Built = Result<Box<dyn Reward>, RewardError>;

#[cfg(not(feature = "local"))]
pub(super) type RewardModel = serde_json::Map<String, serde_json::Value>;
#[cfg(not(feature = "local"))]
pub(super) type LocalJudge = serde_json::Map<String, serde_json::Value>;

#[cfg(feature = "local")]
pub(super) fn reward_model(settings: RewardModel, name: &str) -> Built {
    Ok(Box::new(settings.build(name)?))
}

#[cfg(feature = "local")]
pub(super) fn judge(settings: LocalJudge, name: &str) -> Built {
    Ok(Box::new(settings.build(name)?))
}

#[cfg(not(feature = "local"))]
pub(super) fn reward_model(_: RewardModel, name: &str) -> Built {
    Err(RewardError::Start {
        name: name.to_owned(),
        why: "this program was built without models that judge, wanted the feature `local`".into(),
    })
}

#[cfg(not(feature = "local"))]
pub(super) fn judge(settings: LocalJudge, name: &str) -> Built {
    reward_model(settings, name)
}
