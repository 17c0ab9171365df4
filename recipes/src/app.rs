//! The program: built-in commands, and the reward functions that a user's own program adds.

use std::process::ExitCode;
use std::sync::Arc;

use rewards::Reward;

use crate::cli;
use crate::custom::CustomRewards;
use crate::interrupt::Stop;

/// The command line of Evenkeel, with reward functions of one's own.
#[derive(Default)]
pub struct App {
    rewards: CustomRewards,
    stop: Stop,
}

impl App {
    /// The program as it comes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a reward function, a closure `Fn(&Rollout) -> f32` or any [`Reward`]. A recipe uses it by
    /// `[rewards.custom.NAME]`. A second one of the same name takes the first one's place.
    #[must_use]
    pub fn reward(mut self, name: impl Into<String>, reward: impl Reward + 'static) -> Self {
        self.rewards.insert(name.into(), Arc::new(reward));
        self
    }

    /// `train`, `eval` and `sample` end early, with what they have saved, once this is requested. [`Self::main`] lets signals
    /// request it too.
    #[must_use]
    pub fn stop(mut self, stop: Stop) -> Self {
        self.stop = stop;
        self
    }

    /// Reads the command line and runs it. Exit code 0 for success, 1 for a failure, 2 for a mistake in the command
    /// line or the recipe, 128 and the signal if one ended it: SIGINT, SIGTERM and SIGHUP are handled while a command runs that
    /// has something to save, see [`Stop`]. Best called before the program starts threads: while there is none, candle is told
    /// through the environment not to start its own, which cost more than they help.
    pub fn main(self) -> ExitCode {
        self.execute(std::env::args_os(), true)
    }

    /// The same with a command line of the caller's, the program's name first, and no signal handled: that is the caller's,
    /// who may request a [`Self::stop`].
    pub fn run(self, arguments: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
        self.execute(arguments, false)
    }

    fn execute(self, arguments: impl IntoIterator<Item = std::ffi::OsString>, signals: bool) -> ExitCode {
        crate::threads::settle();
        cli::main(&self.rewards, self.stop, signals, arguments)
    }
}
