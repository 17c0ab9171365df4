//! Threads that do not go to sleep between many short pieces of work.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long the threads of the pool may take to arrive; those that are late stay out.
const PATIENCE: Duration = Duration::from_micros(300);
/// Looks for work before a thread offers its core to others.
const LOOKS: u32 = 2000;

/// One call of [`awake`]. The threads that it is sent to share it with the caller, so that neither waits for the other.
#[derive(Default)]
struct Call {
    /// Threads other than the caller that have seen it.
    seen: AtomicUsize,
    /// Its work has begun: who comes now is late.
    closed: AtomicBool,
    /// Its work has ended, by a result or a panic.
    done: AtomicBool,
}

thread_local! {
    /// The last call from this thread, if some of the others had not seen it when its work began.
    static UNSEEN: RefCell<Option<Arc<Call>>> = const { RefCell::new(None) };
    /// Whether this thread makes a call or looks for work in one: then it is awake, and another call must not hold it.
    static AWAKE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` while the other threads of the pool look for work without pause. A decoding step of a small model is
/// hundreds of products of some ten microseconds each, and waking a thread takes as long as one of them.
///
/// It changes no result. Threads that are busy with something else when it begins are left alone, and what a thread takes
/// up meanwhile it may finish after the end: nothing here waits for them, but for less than a millisecond at the beginning.
pub fn awake<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    let others = rayon::current_num_threads() - 1;
    let Some(me) = rayon::current_thread_index().filter(|_| others > 0) else {
        return f();
    };
    // A thread sees calls in the order in which they were made: one that has not seen the last is still at the same work,
    // and is neither waited for nor called again as long as it is the only one.
    let busy = UNSEEN.with_borrow(|unseen| {
        unseen.as_ref().map_or(0, |call| others - call.seen.load(Ordering::SeqCst).min(others))
    });
    if busy == others {
        return f();
    }
    let call = Arc::new(Call::default());
    let theirs = call.clone();
    rayon::spawn_broadcast(move |context| {
        // the caller has work of its own
        if context.index() != me {
            look_for_work(&theirs);
        }
    });
    let begun = Instant::now();
    while call.seen.load(Ordering::SeqCst) < others - busy && begun.elapsed() < PATIENCE {
        std::hint::spin_loop();
    }
    call.closed.store(true, Ordering::SeqCst);
    let all = call.seen.load(Ordering::SeqCst) >= others;
    UNSEEN.set((!all).then(|| call.clone()));
    // also if `f` panics: the others would look for work for ever
    let _done = Done(&call);
    let _inside = Inside::new();
    f()
}

/// Runs whatever the pool has to do until the call's work is done.
fn look_for_work(call: &Call) {
    // A thread that comes late may be in the middle of a piece of the call's work, waiting for the rest of it, which it
    // must be free to notice. The same holds for one that works in another call.
    let late = AWAKE.get() || call.closed.load(Ordering::SeqCst);
    call.seen.fetch_add(1, Ordering::SeqCst);
    if late {
        return;
    }
    let _inside = Inside::new();
    let mut idle = 0;
    while !call.done.load(Ordering::Relaxed) {
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
}

/// Sets the flag when it goes.
struct Done<'a>(&'a Call);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.done.store(true, Ordering::Relaxed);
    }
}

/// Says that this thread is awake until it goes.
struct Inside(bool);

impl Inside {
    fn new() -> Self {
        Self(AWAKE.replace(true))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        AWAKE.set(self.0);
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

    /// Something that holds a thread of the pool until it is told to stop or half a minute is over.
    struct Hold {
        begun: std::sync::mpsc::Receiver<()>,
        stop: std::sync::mpsc::Sender<()>,
        ended: Arc<AtomicBool>,
    }

    fn hold() -> (impl FnOnce() + Send + 'static, Hold) {
        let ((tell, begun), (stop, told)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
        let ended = Arc::new(AtomicBool::new(false));
        let end = ended.clone();
        let work = move || {
            tell.send(()).expect("the test waits");
            let _ = told.recv_timeout(Duration::from_secs(30));
            end.store(true, Ordering::SeqCst);
        };
        (work, Hold { begun, stop, ended })
    }

    fn sums() -> u64 {
        (0..64u64).into_par_iter().map(|i| (0..i).into_par_iter().sum::<u64>()).sum()
    }

    #[test]
    fn a_busy_thread_is_not_waited_for() {
        for threads in [2, 4] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("pool");
            let (work, hold) = hold();
            pool.spawn(work);
            hold.begun.recv_timeout(Duration::from_secs(30)).expect("a thread takes it");
            for _ in 0..100 {
                assert_eq!(pool.install(|| awake(sums)), 41_664);
            }
            assert!(!hold.ended.load(Ordering::SeqCst), "a hundred calls end before the busy thread does");
            hold.stop.send(()).expect("it listens");
            // and it is there again afterwards
            assert_eq!(pool.install(|| awake(sums)), 41_664);
        }
    }

    #[test]
    fn work_that_a_thread_takes_up_meanwhile_is_not_waited_for() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("pool");
        let (work, Hold { begun, stop, ended }) = hold();
        let sum = pool.install(move || {
            awake(move || {
                rayon::spawn(work);
                begun.recv_timeout(Duration::from_secs(30)).expect("the other thread takes it");
                7
            })
        });
        assert_eq!(sum, 7);
        assert!(!ended.load(Ordering::SeqCst), "the call ends before the work that it began");
        stop.send(()).expect("it listens");
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
