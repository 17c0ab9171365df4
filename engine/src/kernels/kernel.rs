//! Which instructions multiply: found at run time, or forced by the environment.

use std::sync::OnceLock;

/// A way to multiply. Ordered: a later one is faster where it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// Plain Rust, f32.
    Portable,
    /// AVX2 and FMA, f32.
    Avx2,
    /// AVX-512, f32.
    Avx512,
    /// AVX-512 BF16: inputs rounded to bf16, sums in f32.
    Avx512Bf16,
    /// AMX tiles: inputs rounded to bf16, sums in f32.
    Amx,
}

/// The variable that forbids every path after the one it names.
const VARIABLE: &str = "EVENKEEL_KERNELS";

impl Path {
    /// All of them, slowest first.
    pub const ALL: [Self; 5] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Bf16, Self::Amx];

    /// Its name, in the environment and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512_bf16",
            Self::Amx => "amx",
        }
    }

    /// Whether inputs of products are rounded to bf16.
    pub fn is_bf16(self) -> bool {
        self >= Self::Avx512Bf16
    }
}

/// A path that this machine has: whoever holds one may run it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel(Path);

/// `EVENKEEL_KERNELS` names no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{VARIABLE} is `{found}`; wanted one of portable, avx2, avx512, avx512_bf16, amx")]
pub struct UnknownPath {
    found: String,
}

impl Kernel {
    /// The path, if this machine has it.
    pub fn new(path: Path) -> Option<Self> {
        static FOUND: OnceLock<[bool; 5]> = OnceLock::new();
        let found = FOUND.get_or_init(|| Path::ALL.map(detect));
        found[path as usize].then_some(Self(path))
    }

    /// The fastest f32 path that the machine has and `EVENKEEL_KERNELS` allows.
    ///
    /// # Errors
    /// If `EVENKEEL_KERNELS` names no path.
    pub fn f32() -> Result<Self, UnknownPath> {
        let limit = limit()?.unwrap_or(Path::Amx);
        let paths = [Path::Avx512, Path::Avx2];
        Ok(paths
            .into_iter()
            .filter(|path| *path <= limit)
            .find_map(Self::new)
            .unwrap_or(Self(Path::Portable)))
    }

    /// The fastest bf16 path that the machine has and `EVENKEEL_KERNELS` allows, if there is one.
    ///
    /// # Errors
    /// If `EVENKEEL_KERNELS` names no path.
    pub fn bf16() -> Result<Option<Self>, UnknownPath> {
        let limit = limit()?.unwrap_or(Path::Amx);
        let paths = [Path::Amx, Path::Avx512Bf16];
        Ok(paths.into_iter().filter(|path| *path <= limit).find_map(Self::new))
    }

    /// Which one.
    pub fn path(self) -> Path {
        self.0
    }

    /// Whether operands are packed and short rows multiplied by AVX-512, which every path from it on has. A kernel of
    /// [`Self::every`] may lack it.
    pub(super) fn has_avx512(self) -> bool {
        self.0 >= Path::Avx512 && (cfg!(not(test)) || Self::new(Path::Avx512).is_some())
    }

    /// All that the machine has, and AMX on any x86: where there is no such unit, tests compute its tiles by the model.
    #[cfg(test)]
    pub(super) fn every() -> impl Iterator<Item = Self> {
        let modelled = |path| (path == Path::Amx && cfg!(target_arch = "x86_64")).then_some(Self(path));
        Path::ALL.into_iter().filter_map(move |path| Self::new(path).or_else(|| modelled(path)))
    }

    /// Rows that share a strip of a left operand with so many rows: strips are about equally high.
    pub(super) fn strip(self, rows: usize) -> usize {
        let most = match self.0 {
            Path::Portable | Path::Avx2 => 6,
            Path::Avx512 | Path::Avx512Bf16 => 14,
            Path::Amx => return 32,
        };
        rows.div_ceil(rows.div_ceil(most).max(1)).max(1)
    }

    /// A sum over k terms may be cut at multiples of this and taken up again without a change in its bits.
    pub fn terms(self) -> usize {
        self.group_multiple() * if self.0.is_bf16() { 2 } else { 1 }
    }

    /// Groups of a panel are filled up with zeros to a multiple of this.
    pub(super) fn group_multiple(self) -> usize {
        if self.0 == Path::Amx { 16 } else { 1 }
    }

    /// Groups of `k` terms: of one term in f32 and of two in bf16, filled up.
    pub(super) fn groups(self, k: usize) -> usize {
        let groups = if self.0.is_bf16() { k.div_ceil(2) } else { k };
        groups.next_multiple_of(self.group_multiple())
    }
}

fn limit() -> Result<Option<Path>, UnknownPath> {
    let Some(text) = std::env::var_os(VARIABLE) else { return Ok(None) };
    let text = text.to_string_lossy().into_owned();
    let found = Path::ALL.into_iter().find(|path| path.name() == text.trim());
    found.map(Some).ok_or(UnknownPath { found: text })
}

#[cfg(target_arch = "x86_64")]
fn detect(path: Path) -> bool {
    match path {
        Path::Portable => true,
        Path::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
        Path::Avx512 => avx512(),
        Path::Avx512Bf16 => avx512() && is_x86_feature_detected!("avx512bf16"),
        Path::Amx => avx512() && super::amx::permitted(),
    }
}

/// With the byte and word instructions, which packing uses; every such processor but Xeon Phi has them.
#[cfg(target_arch = "x86_64")]
fn avx512() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
}

#[cfg(not(target_arch = "x86_64"))]
fn detect(path: Path) -> bool {
    path == Path::Portable
}
