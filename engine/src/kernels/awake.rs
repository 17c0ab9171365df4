//! Threads that do not go to sleep between many short pieces of work.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long the threads of the pool may take to arrive; those that are late stay out.
const PATIENCE: Duration = Duration::from_micros(300);
/// Looks for work before a thread offers its core to others.
const LOOKS: u32 = 2000;

/// Runs `f` while the other threads of the pool look for work without pause. A decoding step of a small model is
/// hundreds of products of some ten microseconds each, and waking a thread takes as long as one of them.
///
/// It changes no result. Threads that are busy with something else when it begins are left alone.
pub fn awake<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    if rayon::current_num_threads() < 2 || rayon::current_thread_index().is_none() {
        return f();
    }
    let me = rayon::current_thread_index();
    let (closed, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let arrived = AtomicUsize::new(0);
    rayon::in_place_scope(|scope| {
        scope.spawn_broadcast(|_, context| {
            // The caller has work of its own. A thread that comes late may be in the middle of a piece of `f`, waiting
            // for the rest of it, which it must be free to notice.
            arrived.fetch_add(1, Ordering::SeqCst);
            if Some(context.index()) == me || closed.load(Ordering::SeqCst) {
                return;
            }
            let mut idle = 0;
            while !done.load(Ordering::Relaxed) {
                match rayon::yield_now() {
                    Some(rayon::Yield::Executed) => idle = 0,
                    _ => idle += 1,
                }
                if idle > LOOKS {
                    std::thread::yield_now();
                } else {
                    std::hint::spin_loop();
                }
            }
        });
        let others = rayon::current_num_threads() - 1;
        let begun = Instant::now();
        while arrived.load(Ordering::SeqCst) < others && begun.elapsed() < PATIENCE {
            std::hint::spin_loop();
        }
        closed.store(true, Ordering::SeqCst);
        // also if `f` panics: the others would look for work for ever, and the scope waits for them
        let _done = Done(&done);
        f()
    })
}

/// Sets the flag when it goes.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;

    #[test]
    fn work_inside_is_done_and_returns() {
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("pool");
            for _ in 0..50 {
                let sum = pool.install(|| {
                    awake(|| {
                        (0..20)
                            .map(|_| {
                                (0..64u64)
                                    .into_par_iter()
                                    .map(|i| (0..i).into_par_iter().sum::<u64>())
                                    .sum::<u64>()
                            })
                            .sum::<u64>()
                    })
                });
                assert_eq!(sum, 20 * (0..64u64).map(|i| i * i.saturating_sub(1) / 2).sum::<u64>());
            }
        }
    }

    #[test]
    fn a_panic_inside_comes_out() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("pool");
        let inside = std::panic::AssertUnwindSafe(|| pool.install(|| awake(|| panic!("inside"))));
        let caught = std::panic::catch_unwind(inside);
        assert_eq!(caught.expect_err("it came out").downcast_ref(), Some(&"inside"));
        assert_eq!(pool.install(|| awake(|| 7)), 7);
    }

    #[test]
    fn several_at_once_do_not_wait_for_each_other_for_ever() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("pool");
        let sums: Vec<u64> = pool.install(|| {
            (0..40u64)
                .into_par_iter()
                .map(|n| awake(|| (0..1000u64).into_par_iter().map(|i| i % (n + 1)).sum()))
                .collect()
        });
        assert_eq!(sums[0], 0);
        assert_eq!(sums[1], 500);
    }
}
