//! How many threads candle uses, settled before its first operation.
//!
//! Candle splits element-wise operations over threads that spin at a barrier and serve one operation at a time. What it
//! computes here, losses and the composed policy, comes from threads that already run side by side, so its own only get in
//! their way: when every layer still went through candle, a supervised step of the tiny model took 2.3 s with them and
//! 0.7 s without on a busy machine with two cores. And unless the number of
//! threads for matrix products is set, candle reads the list of processors anew at every product.
//!
//! It can be told by the environment alone, which a program may change only while no other thread reads it. So it is told
//! where this thread is the only one, and left to its defaults elsewhere: slower, but no different in any result.
#![allow(unsafe_code)]

/// Sets the two variables that candle reads, unless the user did or the program has other threads.
pub(crate) fn settle() {
    if !alone() {
        return;
    }
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    for (variable, threads) in [("CANDLE_NUM_THREADS", 1), ("RAYON_NUM_THREADS", cores)] {
        if std::env::var_os(variable).is_none() {
            // SAFETY: this is the only thread of the process, by the system's word, and nothing here starts another: no
            // one reads or writes the environment at the same time.
            unsafe { std::env::set_var(variable, threads.to_string()) };
        }
    }
}

/// True if this process has no thread but this one. Where the system does not say, it may have.
fn alone() -> bool {
    // one entry a thread
    cfg!(target_os = "linux")
        && std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| matches!(*Vec::from_iter(tasks), [Ok(_)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beside_other_threads_the_environment_stays_as_it_is() {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let _ = stopped.recv();
            });
            let variables = || ["CANDLE_NUM_THREADS", "RAYON_NUM_THREADS"].map(std::env::var_os);
            let before = variables();
            assert!(!alone());
            settle();
            assert_eq!(variables(), before);
            drop(stop);
        });
    }
}
