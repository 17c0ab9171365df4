//! New tokens behind cached ones.
//!
//! Before and after: see [`super`].

use rayon::prelude::*;

use super::{Fused, guard};
use crate::kernels::Buffer;
use crate::kernels::attention::{Keys, Segment, attend};
use crate::model::cache::SlabRow;
use crate::model::error::Result;
use crate::model::policy::PassEnd;

impl Fused {
    /// What a pass over new tokens ends with, `(new tokens of all rows, hidden)`. Rows have room for their new tokens.
    pub(in crate::model) fn extend(
        &self,
        rows: &mut [(&mut SlabRow, &[u32])],
        end: PassEnd,
    ) -> Result<Buffer> {
        let s = &self.sizes;
        let (mut tokens, mut positions, mut firsts) = (Vec::new(), Vec::new(), Vec::new());
        for (row, new) in rows.iter() {
            firsts.push(tokens.len());
            positions.extend(row.length as u32..(row.length + new.len()) as u32);
            tokens.extend_from_slice(new);
        }
        let rope = self.rope(&positions);
        let mut x = self.embed(&tokens);
        let mut attended = Buffer::new(tokens.len() * s.query);
        for layer in 0..self.names.len() {
            let (projected, rotated) = self.project(layer, &x, &rope);
            rows.par_iter_mut().with_min_len(8).zip(&firsts).for_each(|((row, new), first)| {
                let k = &rotated[first * s.rotated() + s.query..];
                let v = &projected[first * s.all() + s.rotated()..];
                row.write(layer, new.len(), (k, s.rotated()), (v, s.all()));
            });
            let (mut chunks, mut ends) = (Vec::new(), Vec::new());
            for (row, _) in rows.iter() {
                chunks.extend(row.chunks(layer));
                ends.push(chunks.len());
            }
            let mut segments = Vec::with_capacity(rows.len());
            let mut begin = 0;
            for (((row, new), first), end) in rows.iter().zip(&firsts).zip(ends) {
                if !new.is_empty() {
                    let keys = Keys::Chunks(&chunks[begin..end]);
                    segments.push(Segment { first: *first, count: new.len(), base: row.length, keys });
                }
                begin = end;
            }
            attend(self.kernel, s.shape, &rotated, s.rotated(), &segments, &mut attended, s.query);
            self.add_attended(layer, &attended, &mut x);
            if end == PassEnd::MlpInput && layer + 1 == self.names.len() {
                guard(layer, &x)?;
                break;
            }
            let gate_up = self.gate_up(layer, &x);
            self.add_gated(layer, &gate_up, &mut x);
            guard(layer, &x)?;
        }
        for (row, new) in rows.iter_mut() {
            row.advance(new.len());
        }
        Ok(match end {
            PassEnd::Hidden => self.final_norm(&x),
            PassEnd::MlpInput => self.post_norm(self.names.len() - 1, &x),
        })
    }
}
