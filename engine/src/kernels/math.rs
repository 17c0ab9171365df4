//! Sums and exponentials along a row, the same bits on every machine.
#![allow(unsafe_code)]

/// Parts in which a sum along a row is kept: element i goes to part i mod 16.
pub const LANES: usize = 16;

/// Runs `f` compiled for the widest vectors that the machine has. There are no fused multiply-adds in it, as Rust makes
/// none by itself, so the width changes no bit.
#[inline]
pub(super) fn wide<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        /// # Safety
        /// The machine has the instructions.
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
        unsafe fn avx512<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        /// # Safety
        /// The machine has the instructions.
        #[target_feature(enable = "avx2")]
        unsafe fn avx2<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        if is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw")
        {
            // SAFETY: just detected; all of them imply F.
            return unsafe { avx512(f) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: just detected.
            return unsafe { avx2(f) };
        }
    }
    f()
}

/// The parts of a sum, added in a fixed order.
#[inline(always)]
pub(super) fn total(parts: [f32; LANES]) -> f32 {
    let mut parts = parts;
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            parts[i] += parts[i + width];
        }
        width /= 2;
    }
    parts[0]
}

/// Σ f(xᵢ) in [`LANES`] parts.
#[inline(always)]
pub(super) fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut parts = [0f32; LANES];
    let whole = x.chunks_exact(LANES);
    let rest = whole.remainder();
    for x in whole {
        for (part, x) in parts.iter_mut().zip(x) {
            *part += f(*x);
        }
    }
    for (part, x) in parts.iter_mut().zip(rest) {
        *part += f(*x);
    }
    total(parts)
}

/// The largest f(xᵢ); NaN if one is, −∞ of nothing.
#[inline(always)]
pub(super) fn max(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut parts = [f32::NEG_INFINITY; LANES];
    let mut nan = false;
    for x in x.chunks(LANES) {
        for (part, x) in parts.iter_mut().zip(x) {
            let y = f(*x);
            nan |= y.is_nan();
            *part = if y > *part { y } else { *part };
        }
    }
    if nan { f32::NAN } else { parts.into_iter().fold(f32::NEG_INFINITY, f32::max) }
}

/// Σ aᵢ bᵢ in [`LANES`] parts.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut parts = [0f32; LANES];
    let (a, b) = (a.chunks_exact(LANES), b[..a.len()].chunks_exact(LANES));
    let rest = a.remainder().iter().zip(b.remainder());
    for (a, b) in a.zip(b) {
        for ((part, a), b) in parts.iter_mut().zip(a).zip(b) {
            *part += a * b;
        }
    }
    for (part, (a, b)) in parts.iter_mut().zip(rest) {
        *part += a * b;
    }
    total(parts)
}

/// eˣ to about one unit in the last place; 0 below −87.3, infinity above 88.7, NaN for NaN.
///
/// Written so that the compiler can vectorise it, and the same on every machine, which the system's is not.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 · 2²³: adding it rounds to an integer
    let bounded = x.clamp(-87.3, 88.8);
    let n = (bounded * std::f32::consts::LOG2_E + MAGIC) - MAGIC;
    // ln 2 in two parts, the first with few bits, so that n times it is exact
    let r = (bounded - n * 0.693_359_4) - n * -2.121_944_4e-4;
    // the minimax polynomial of Cephes' expf (S. L. Moshier)
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let y = p * r * r + r + 1.0;
    // 2ⁿ in two factors, since 2¹²⁸ alone is no number
    let half = (n * 0.5 + MAGIC) - MAGIC;
    // the integer is in the low bits of n + 1.5 · 2²³; for NaN they are anything, and the product is NaN all the same
    let power =
        |n: f32| f32::from_bits((n + MAGIC).to_bits().wrapping_sub(MAGIC.to_bits()).wrapping_add(127) << 23);
    let value = y * power(half) * power(n - half);
    if x < -87.3 {
        0.0
    } else if x > 88.8 {
        f32::INFINITY
    } else {
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_right_to_two_units_in_the_last_place() {
        let mut worst = 0f64;
        for i in -87_000..88_500 {
            let x = i as f32 / 1000.0;
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) / exact - 1.0).abs());
        }
        assert!(worst < 2.4e-7, "{worst:e}");
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1e30), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn the_width_of_vectors_changes_no_bit() {
        let x: Vec<f32> = (0..1003).map(|i| ((i * 7919) % 1000) as f32 / 77.0 - 6.0).collect();
        let f = || (sum(&x, exp), x.iter().map(|x| exp(*x).to_bits()).collect::<Vec<_>>());
        assert_eq!(wide(f), f());
    }
}
