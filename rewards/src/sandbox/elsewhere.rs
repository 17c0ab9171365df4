//! Where this is not Linux, there is no sandbox.
//!
//! Before: [`super::Sandbox::new`]. After: a refusal.

use std::path::{Path, PathBuf};

use super::{Protections, SandboxError, SandboxJob, SandboxOutcome, SandboxSettings};

/// Never made.
#[derive(Debug)]
pub(super) enum Confinement {}

impl Confinement {
    pub(super) fn new(_: SandboxSettings, _: Vec<PathBuf>) -> Result<(Self, Protections), SandboxError> {
        Err(SandboxError::NotLinux)
    }

    pub(super) fn readable(&self) -> std::iter::Empty<&Path> {
        match *self {}
    }

    pub(super) fn run(&self, _: SandboxJob<'_>) -> Result<SandboxOutcome, SandboxError> {
        match *self {}
    }
}
