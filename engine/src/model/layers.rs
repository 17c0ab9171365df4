//! The parts of a decoder layer, composed of differentiable candle ops.
//!
//! Before: [`super::policy`] walks over the layers. After: it adds up what they return. Tokens of all rows lie end
//! to end in one axis without padding; only attention over whole sequences lays them on a padded grid ([`Grid`]),
//! and cached attention works row by row. Candle's fused norm, softmax and rope record no backward step (candle
//! issues 2168, 3568, 3569), so none of them is used.

use candle_core::{D, Device, Result, Tensor};

/// Rows that a product needs, so that row i of the result depends on row i alone, to the bit: below, the CPU's matrix
/// library (gemm 0.19, `gemm_basic_generic`) sums in another order.
fn least_rows(inputs: usize, outputs: usize) -> usize {
    // One row is a product of matrix and vector, and up to 256 results have a kernel of their own.
    let rows = (256 / outputs.max(1) + 1).max(4);
    // Up to 64 × 64 results, sums are cut at 512 terms, else where the cache's size says.
    if outputs <= 64 && inputs > 512 { rows.max(65) } else { rows }
}

/// Up to so many rows (W·xᵀ)ᵀ is taken in place of x·Wᵀ, as the library reads the weights two to four times faster so.
const FEW_ROWS: usize = 64;

/// x·Wᵀ + b. Shapes `(tokens, in)`, `(out, in)`, `(out,)` → `(tokens, out)`. Gradients flow through all three.
pub(super) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (rows, inputs) = x.dims2()?;
    let mut padded = rows.max(least_rows(inputs, weight.dim(0)?));
    if padded <= FEW_ROWS {
        padded = padded.next_multiple_of(8); // other widths have kernels of their own
    }
    let x = if padded > rows { x.pad_with_zeros(0, 0, padded - rows)? } else { x.clone() };
    let y = if padded <= FEW_ROWS {
        weight.matmul(&x.t()?)?.t()?.narrow(0, 0, rows)?.contiguous()?
    } else {
        x.matmul(&weight.t()?)?.narrow(0, 0, rows)?
    };
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

/// x / √(mean(x²) + ε) · w over the last axis.
pub(super) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let root = (x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
    x.broadcast_div(&root)?.broadcast_mul(weight)
}

/// Softmax over the last axis. The maximum is a constant to the gradient, as it cancels.
pub(super) fn softmax(x: &Tensor) -> Result<Tensor> {
    let exp = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?.exp()?;
    exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)
}

/// Cosines and sines of the rotary embedding for given positions, laid out for query and for key heads.
pub(super) struct Rope {
    query: (Tensor, Tensor),
    key: (Tensor, Tensor),
}

impl Rope {
    /// `positions` has one entry a token. Angles are rounded to f32 where the reference implementation rounds.
    pub(super) fn new(
        positions: &[u32],
        theta: f64,
        head_dim: usize,
        heads: usize,
        kv_heads: usize,
        device: &Device,
    ) -> Result<Self> {
        let half = head_dim / 2;
        let frequencies: Vec<f32> =
            (0..half).map(|i| 1.0 / theta.powf((2 * i) as f64 / head_dim as f64) as f32).collect();
        let (mut cos, mut sin) =
            (Vec::with_capacity(positions.len() * half), Vec::with_capacity(positions.len() * half));
        for position in positions {
            for frequency in &frequencies {
                let angle = f64::from(*position as f32 * frequency);
                cos.push(angle.cos() as f32);
                sin.push(angle.sin() as f32);
            }
        }
        let shape = (positions.len(), 1, half);
        let (cos, sin) = (Tensor::from_vec(cos, shape, device)?, Tensor::from_vec(sin, shape, device)?);
        let spread = |x: &Tensor, heads: usize| x.expand((positions.len(), heads, half))?.contiguous();
        Ok(Self {
            query: (spread(&cos, heads)?, spread(&sin, heads)?),
            key: (spread(&cos, kv_heads)?, spread(&sin, kv_heads)?),
        })
    }
}

/// Turns each pair (i, i + half) of a head by its angle. Shape `(tokens, heads, head_dim)`.
fn rotate(x: &Tensor, (cos, sin): &(Tensor, Tensor)) -> Result<Tensor> {
    let half = x.dim(2)? / 2;
    let (a, b) = (x.narrow(2, 0, half)?.contiguous()?, x.narrow(2, half, half)?.contiguous()?);
    Tensor::cat(&[((&a * cos)? - (&b * sin)?)?, ((&a * sin)? + (&b * cos)?)?], 2)
}

/// The weights of one layer.
pub(super) struct Layer {
    pub(super) input_norm: Tensor,
    pub(super) query: Tensor,
    pub(super) query_bias: Option<Tensor>,
    pub(super) query_norm: Option<Tensor>,
    pub(super) key: Tensor,
    pub(super) key_bias: Option<Tensor>,
    pub(super) key_norm: Option<Tensor>,
    pub(super) value: Tensor,
    pub(super) value_bias: Option<Tensor>,
    pub(super) output: Tensor,
    pub(super) output_bias: Option<Tensor>,
    pub(super) post_norm: Tensor,
    pub(super) gate: Tensor,
    pub(super) up: Tensor,
    pub(super) down: Tensor,
}

/// Sizes that the layers share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) eps: f64,
}

impl Sizes {
    fn scale(&self) -> f64 {
        1.0 / (self.head_dim as f64).sqrt()
    }

    /// Query heads that share a key head.
    fn shared(&self) -> usize {
        self.heads / self.kv_heads
    }
}

impl Layer {
    /// Queries `(tokens, heads, head_dim)`, keys and values `(tokens, kv_heads, head_dim)`, rotated.
    pub(super) fn query_key_value(
        &self,
        x: &Tensor,
        rope: &Rope,
        s: &Sizes,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        let tokens = x.dim(0)?;
        let x = rms_norm(x, &self.input_norm, s.eps)?;
        let head = |weight, bias: &Option<Tensor>, norm: &Option<Tensor>, heads| {
            let y = linear(&x, weight, bias.as_ref())?.reshape((tokens, heads, s.head_dim))?;
            match norm {
                Some(norm) => rms_norm(&y, norm, s.eps),
                None => Ok(y),
            }
        };
        let query = head(&self.query, &self.query_bias, &self.query_norm, s.heads)?;
        let key = head(&self.key, &self.key_bias, &self.key_norm, s.kv_heads)?;
        let value = head(&self.value, &self.value_bias, &None, s.kv_heads)?;
        Ok((rotate(&query, &rope.query)?, rotate(&key, &rope.key)?, value))
    }

    /// The residual stream after attention, `(tokens, hidden)`.
    fn add_attended(&self, x: &Tensor, attended: &Tensor) -> Result<Tensor> {
        x + linear(attended, &self.output, self.output_bias.as_ref())?
    }

    /// The normalised input of the gated MLP, `(tokens, hidden)`.
    pub(super) fn mlp_input(&self, x: &Tensor, attended: &Tensor, s: &Sizes) -> Result<Tensor> {
        rms_norm(&self.add_attended(x, attended)?, &self.post_norm, s.eps)
    }

    /// Everything after attention: output projection, gated MLP and both residuals. `(tokens, hidden)`.
    pub(super) fn finish(&self, x: &Tensor, attended: &Tensor, s: &Sizes) -> Result<Tensor> {
        let x = self.add_attended(x, attended)?;
        let y = rms_norm(&x, &self.post_norm, s.eps)?;
        let gated = (linear(&y, &self.gate, None)?.silu()? * linear(&y, &self.up, None)?)?;
        x + linear(&gated, &self.down, None)?
    }
}

/// Where the tokens of unequal rows stand on a `(rows, time)` grid, padded on the right.
pub(super) struct Grid {
    rows: usize,
    time: usize,
    /// Grid cell → token (padding reads token 0), and token → grid cell; absent if nothing is padded.
    gather: Option<(Tensor, Tensor)>,
    /// 0 where a query may look and −∞ where it may not, `(time, time)`. Padding comes after every real token of
    /// its row, so that the causal mask hides it.
    mask: Tensor,
}

impl Grid {
    pub(super) fn new(lengths: &[usize], device: &Device) -> Result<Self> {
        let (rows, time) = (lengths.len(), lengths.iter().copied().max().unwrap_or(0));
        let gather = if lengths.iter().all(|length| *length == time) {
            None
        } else {
            let (mut cells, mut tokens) = (vec![0u32; rows * time], Vec::new());
            for (row, length) in lengths.iter().enumerate() {
                for t in 0..*length {
                    cells[row * time + t] = tokens.len() as u32;
                    tokens.push((row * time + t) as u32);
                }
            }
            Some((Tensor::new(cells, device)?, Tensor::new(tokens, device)?))
        };
        Ok(Self { rows, time, gather, mask: causal_mask(time, time, device)? })
    }

    /// `(tokens, heads, head_dim)` → `(rows · kv_heads, shared · time, head_dim)`, where `shared` heads use one key.
    fn lay_out(&self, x: &Tensor, kv_heads: usize) -> Result<Tensor> {
        let (_, heads, head_dim) = x.dims3()?;
        let x = match &self.gather {
            Some((cells, _)) => x.index_select(cells, 0)?,
            None => x.clone(),
        };
        x.reshape((self.rows, self.time, heads, head_dim))?.transpose(1, 2)?.contiguous()?.reshape((
            self.rows * kv_heads,
            heads / kv_heads * self.time,
            head_dim,
        ))
    }

    /// Causal attention of every row over itself. `(tokens, heads · head_dim)`.
    pub(super) fn attention(&self, q: &Tensor, k: &Tensor, v: &Tensor, s: &Sizes) -> Result<Tensor> {
        let (q, k, v) =
            (self.lay_out(q, s.kv_heads)?, self.lay_out(k, s.kv_heads)?, self.lay_out(v, s.kv_heads)?);
        let scores = (q.matmul(&k.t()?)? * s.scale())?
            .reshape((self.rows * s.heads, self.time, self.time))?
            .broadcast_add(&self.mask)?;
        let y = softmax(&scores)?
            .reshape((self.rows * s.kv_heads, s.shared() * self.time, self.time))?
            .matmul(&v)?;
        let y = y
            .reshape((self.rows, s.heads, self.time, s.head_dim))?
            .transpose(1, 2)?
            .contiguous()?
            .reshape((self.rows * self.time, s.heads * s.head_dim))?;
        match &self.gather {
            Some((_, tokens)) => y.index_select(tokens, 0),
            None => Ok(y),
        }
    }
}

/// Attention of one row's new tokens over all its keys. `q` is `(new, heads, head_dim)`, `k` and `v`
/// `(kv_heads, length, head_dim)` with the new tokens last; the result is `(new, heads · head_dim)`.
pub(super) fn cached_attention(q: &Tensor, k: &Tensor, v: &Tensor, s: &Sizes) -> Result<Tensor> {
    let (new, length) = (q.dim(0)?, k.dim(1)?);
    let q = q.transpose(0, 1)?.contiguous()?.reshape((s.kv_heads, s.shared() * new, s.head_dim))?;
    let mut scores = (q.matmul(&k.t()?)? * s.scale())?;
    if new > 1 {
        let mask = causal_mask(new, length, q.device())?;
        scores = scores.reshape((s.heads, new, length))?.broadcast_add(&mask)?;
        scores = scores.reshape((s.kv_heads, s.shared() * new, length))?;
    }
    let y = softmax(&scores)?.matmul(v)?;
    y.reshape((s.heads, new, s.head_dim))?.transpose(0, 1)?.contiguous()?.reshape((new, s.heads * s.head_dim))
}

/// The last `new` of `length` tokens may each look at themselves and at what came before. `(new, length)`.
fn causal_mask(new: usize, length: usize, device: &Device) -> Result<Tensor> {
    let first = length - new;
    let mask: Vec<f32> = (0..new * length)
        .map(|i| if i % length > first + i / length { f32::NEG_INFINITY } else { 0.0 })
        .collect();
    Tensor::from_vec(mask, (new, length), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_a_product_depends_on_that_row_alone() {
        let device = &Device::Cpu;
        for (inputs, outputs) in [(64, 16), (64, 32), (96, 64), (64, 128), (100, 77), (896, 64), (600, 1000)]
        {
            let weight = Tensor::randn(0f32, 1.0, (outputs, inputs), device).expect("weight");
            let x = Tensor::randn(0f32, 1.0, (150, inputs), device).expect("x");
            let bits = |rows: usize| -> Vec<Vec<u32>> {
                let y = linear(&x.narrow(0, 0, rows).expect("rows"), &weight, None).expect("y");
                let y = y.to_vec2::<f32>().expect("values");
                y.into_iter().map(|row| row.into_iter().map(f32::to_bits).collect()).collect()
            };
            let all = bits(150);
            for rows in (1..70).chain([95, 96, 127, 128, 129]) {
                assert!(bits(rows) == all[..rows], "{rows} rows of {inputs} to {outputs}");
            }
        }
    }
}
