//! Memory that is used again and again: large blocks of f32, aligned to a cache line.
//!
//! A block that is given back waits in a pool, since fresh pages from the system cost more than many of the operations
//! that fill them.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::MmapMut;

/// Cache lines and AMX rows have 64 bytes.
const ALIGN: usize = 64;

/// A block of f32 on a 64-byte boundary. Its first contents are whatever numbers were there before.
pub struct Buffer {
    block: ManuallyDrop<Block>,
    length: usize,
    /// Whether the block goes back to the system and not to the pool.
    fresh: bool,
}

struct Block {
    start: NonNull<f32>,
    capacity: usize,
    /// What holds the memory of a large block; a small one is the allocator's.
    map: Option<MmapMut>,
    /// Large requests that had been made when it was given back.
    idle_since: u64,
}

// SAFETY: a block owns its memory alone, as a Vec does.
unsafe impl Send for Block {}
// SAFETY: shared references to it only read.
unsafe impl Sync for Block {}

static POOL: Mutex<Vec<Block>> = Mutex::new(Vec::new());

/// Numbers up to which a block stays with the thread that used it.
const SMALL: usize = 1 << 16;
/// Numbers from which a block has pages of its own.
const LARGE: usize = 1 << 20;
/// Small blocks that a thread keeps.
const KEPT: usize = 16;

thread_local! {
    static OWN: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
}

/// Requests for large blocks so far.
static REQUESTS: AtomicU64 = AtomicU64::new(0);
/// A block that was idle for so many of them is given back to the system when memory is needed for another size.
const PATIENCE: u64 = 1 << 14;

/// Numbers that a block may be asked for: a slice has no more bytes than `isize::MAX`, and a block is at most an eighth
/// longer than what is asked for.
const MOST: usize = isize::MAX as usize / 4 / 2;

/// One of the sizes that blocks come in, at most an eighth more than is asked for. So what is given back in one step of
/// some work fits the next.
fn size_of(length: usize) -> usize {
    // beyond it the sums below would wrap to a small block for a long slice
    assert!(length <= MOST, "a buffer of {length} numbers is larger than the address space");
    let length = length.max(16);
    let step = (length.next_power_of_two() / 16).max(16);
    length.next_multiple_of(step)
}

/// The smallest block that is large enough, and at most twice as large: batches of many lengths then share the blocks of the
/// longest, where blocks of exactly their sizes would add up to several times what is ever in use at once. Of equal ones the
/// last, which is the likeliest to be in a cache.
fn take(blocks: &mut Vec<Block>, capacity: usize) -> Option<Block> {
    let exact = blocks.iter().rposition(|block| block.capacity == capacity);
    let place = exact.or_else(|| {
        let larger = |block: &Block| block.capacity > capacity && block.capacity / 2 <= capacity;
        let all = blocks.iter().enumerate().filter(|(_, block)| larger(block));
        all.min_by_key(|(_, block)| block.capacity).map(|(place, _)| place)
    });
    place.map(|place| blocks.swap_remove(place))
}

impl Block {
    fn layout(capacity: usize) -> Layout {
        Layout::array::<f32>(capacity)
            .and_then(|layout| layout.align_to(ALIGN))
            .expect("blocks are far smaller than the address space")
    }

    fn new(capacity: usize) -> Self {
        if capacity >= LARGE {
            return Self::mapped(capacity);
        }
        let layout = Self::layout(capacity);
        // SAFETY: the layout is not empty, as `Buffer::new` asks for at least one cache line.
        let start = unsafe { alloc_zeroed(layout) };
        match NonNull::new(start.cast::<f32>()) {
            Some(start) => Self { start, capacity, map: None, idle_since: 0 },
            None => handle_alloc_error(layout),
        }
    }

    /// Pages of zeros from the system, large ones where it has them: far fewer to be fetched and to be looked up.
    fn mapped(capacity: usize) -> Self {
        let layout = Self::layout(capacity);
        let Ok(mut map) = MmapMut::map_anon(layout.size()) else { handle_alloc_error(layout) };
        #[cfg(target_os = "linux")]
        {
            // only a hint: a system without large pages gives small ones
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        let start = NonNull::new(map.as_mut_ptr().cast::<f32>()).expect("a map has a place");
        Self { start, capacity, map: Some(map), idle_since: 0 }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.map.is_none() {
            // SAFETY: `new` allocated it with the same layout, and nothing refers to it any more.
            unsafe { dealloc(self.start.as_ptr().cast(), Self::layout(self.capacity)) }
        }
    }
}

impl Buffer {
    /// `length` numbers of any value.
    ///
    /// # Panics
    /// If so many are more than an address space holds.
    pub fn new(length: usize) -> Self {
        let capacity = size_of(length);
        let own = if capacity <= SMALL { OWN.with_borrow_mut(|own| take(own, capacity)) } else { None };
        let block = own.or_else(|| {
            let now = if capacity >= LARGE { REQUESTS.fetch_add(1, Ordering::Relaxed) } else { 0 };
            let mut pool = POOL.lock().expect("no one panics while holding the pool");
            let found = take(&mut pool, capacity);
            if found.is_none() && capacity >= LARGE {
                pool.retain(|block| block.capacity < LARGE || block.idle_since + PATIENCE > now);
            }
            found
        });
        Self { block: ManuallyDrop::new(block.unwrap_or_else(|| Block::new(capacity))), length, fresh: false }
    }

    /// `length` zeros straight from the system, which get them back at the end: for what lives long and has a size of its
    /// own. Pages that are never used cost nothing.
    ///
    /// # Panics
    /// As [`Self::new`].
    pub fn fresh(length: usize) -> Self {
        Self { block: ManuallyDrop::new(Block::new(size_of(length))), length, fresh: true }
    }

    /// `length` zeros.
    ///
    /// # Panics
    /// As [`Self::new`].
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
        if self.fresh {
            let mut copy = Self::fresh(self.length);
            copy.copy_from_slice(self);
            return copy;
        }
        Self::from_slice(self)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: the block is taken once, here, and the buffer is not used afterwards.
        let block = unsafe { ManuallyDrop::take(&mut self.block) };
        if self.fresh {
            return;
        }
        let mut block = Some(block);
        if block.as_ref().is_some_and(|block| block.capacity <= SMALL) {
            // a thread that is ending has no list of its own any more
            let _ = OWN.try_with(|own| {
                let mut own = own.borrow_mut();
                if own.len() < KEPT {
                    own.extend(block.take());
                }
            });
        }
        if let (Some(mut block), Ok(mut pool)) = (block, POOL.lock()) {
            block.idle_since = REQUESTS.load(Ordering::Relaxed);
            pool.push(block);
        }
    }
}

/// Gives what the allocator holds of memory that was freed back to the system, where it can: glibc keeps the numbers of a
/// checkpoint, once they are copied to where they live, below whatever was allocated after them.
pub fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes a number, and the allocator locks its own lists.
    unsafe {
        libc::malloc_trim(0);
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

    /// 2⁶² numbers are 2⁶⁴ bytes, which is 0 in a word.
    #[test]
    fn more_numbers_than_there_are_addresses_are_refused() {
        for length in
            [MOST + 1, 1 << 62, (1 << 62) + (1 << 20), usize::MAX / 4 + 1, usize::MAX - 15, usize::MAX]
        {
            for make in [Buffer::new, Buffer::fresh, Buffer::zeros] {
                let refused = std::panic::catch_unwind(|| make(length)).err().expect("no such buffer");
                let message = refused.downcast::<String>().expect("a message");
                assert!(message.contains("larger than the address space"), "{message}");
            }
        }
    }

    #[test]
    fn a_block_serves_what_is_somewhat_smaller_and_the_smallest_that_fits_is_taken() {
        let blocks = |capacities: &[usize]| capacities.iter().map(|c| Block::new(*c)).collect::<Vec<_>>();
        let taken = |capacities: &[usize], wanted| take(&mut blocks(capacities), wanted).map(|b| b.capacity);
        assert_eq!(taken(&[64, 128, 96], 80), Some(96));
        assert_eq!(taken(&[64, 128, 96], 32), Some(64));
        assert_eq!(taken(&[64, 128], 160), None, "too small");
        assert_eq!(taken(&[64], 16), None, "far too large: its own size may be wanted next");
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
