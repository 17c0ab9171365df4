//! Memory that is used again and again: large blocks of f32, aligned to a cache line.
//!
//! A block that is given back waits in a pool, since fresh pages from the system cost more than many of the operations
//! that fill them.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Mutex;

/// Cache lines and AMX rows have 64 bytes.
const ALIGN: usize = 64;

/// A block of f32 on a 64-byte boundary. Its first contents are whatever numbers were there before.
pub struct Buffer {
    block: ManuallyDrop<Block>,
    length: usize,
}

struct Block {
    start: NonNull<f32>,
    capacity: usize,
}

// SAFETY: a block owns its memory alone, as a Vec does.
unsafe impl Send for Block {}
// SAFETY: shared references to it only read.
unsafe impl Sync for Block {}

static POOL: Mutex<Vec<Block>> = Mutex::new(Vec::new());

impl Block {
    fn layout(capacity: usize) -> Layout {
        Layout::array::<f32>(capacity)
            .and_then(|layout| layout.align_to(ALIGN))
            .expect("blocks are far smaller than the address space")
    }

    fn new(capacity: usize) -> Self {
        let layout = Self::layout(capacity);
        // SAFETY: the layout is not empty, as `Buffer::new` asks for at least one cache line.
        let start = unsafe { alloc_zeroed(layout) };
        match NonNull::new(start.cast::<f32>()) {
            Some(start) => Self { start, capacity },
            None => handle_alloc_error(layout),
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: it was allocated by `new` with the same layout, and nothing refers to it any more.
        unsafe { dealloc(self.start.as_ptr().cast(), Self::layout(self.capacity)) }
    }
}

impl Buffer {
    /// `length` numbers of any value.
    pub fn new(length: usize) -> Self {
        let capacity = length.max(16).next_multiple_of(16);
        let mut pool = POOL.lock().expect("no one panics while holding the pool");
        // the smallest that fits and is not mostly waste
        let fitting = pool
            .iter()
            .enumerate()
            .filter(|(_, block)| block.capacity >= capacity && block.capacity <= 2 * capacity + 4096)
            .min_by_key(|(_, block)| block.capacity)
            .map(|(index, _)| index);
        let block = fitting.map(|index| pool.swap_remove(index));
        drop(pool);
        Self { block: ManuallyDrop::new(block.unwrap_or_else(|| Block::new(capacity))), length }
    }

    /// `length` zeros.
    pub fn zeros(length: usize) -> Self {
        let mut buffer = Self::new(length);
        buffer.fill(0.0);
        buffer
    }

    /// A copy of a slice.
    pub fn from_slice(values: &[f32]) -> Self {
        let mut buffer = Self::new(values.len());
        buffer.copy_from_slice(values);
        buffer
    }

    /// The same memory as bare words, for packed operands.
    pub(super) fn words(&self) -> &[u32] {
        // SAFETY: f32 and u32 have the same size and alignment, and every pattern of bits is valid for both.
        unsafe { std::slice::from_raw_parts(self.block.start.as_ptr().cast(), self.length) }
    }

    /// [`Self::words`], to be written.
    pub(super) fn words_mut(&mut self) -> &mut [u32] {
        // SAFETY: as for `words`, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.block.start.as_ptr().cast(), self.length) }
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: the block holds at least `length` numbers, zeros or what was written to them.
        unsafe { std::slice::from_raw_parts(self.block.start.as_ptr(), self.length) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as for `deref`, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.block.start.as_ptr(), self.length) }
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        Self::from_slice(self)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: the block is taken once, here, and the buffer is not used afterwards.
        let block = unsafe { ManuallyDrop::take(&mut self.block) };
        if let Ok(mut pool) = POOL.lock() {
            pool.push(block);
        }
    }
}

/// Gives the pool's idle blocks back to the system.
pub fn trim() {
    if let Ok(mut pool) = POOL.lock() {
        pool.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_and_as_long_as_asked() {
        for length in [0, 1, 15, 16, 17, 100_000] {
            let buffer = Buffer::zeros(length);
            assert_eq!(buffer.len(), length);
            assert_eq!(buffer.as_ptr() as usize % ALIGN, 0);
            assert!(buffer.iter().all(|x| *x == 0.0));
        }
    }

    #[test]
    fn two_buffers_never_share_memory() {
        let mut a = Buffer::zeros(1000);
        let mut b = Buffer::zeros(1000);
        a.fill(1.0);
        b.fill(2.0);
        assert!(a.iter().all(|x| *x == 1.0) && b.iter().all(|x| *x == 2.0));
        drop(a);
        let c = Buffer::zeros(990);
        assert!(b.iter().all(|x| *x == 2.0) && c.iter().all(|x| *x == 0.0));
    }
}
