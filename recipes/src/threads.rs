//! How many threads candle uses, settled before its first operation.
//!
//! Candle splits element-wise operations over threads that spin at a barrier and serve one operation at a time. What it
//! computes here, losses and the composed policy, comes from threads that already run side by side, so its own only get in
//! their way: when every layer still went through candle, a supervised step of the tiny model took 2.3 s with them and
//! 0.7 s without on a busy machine with two cores. And unless the number of
//! threads for matrix products is set, candle reads the list of processors anew at every product.
#![allow(unsafe_code)]

/// Sets the two variables that candle reads, unless the user did. Called first thing in the program.
pub(crate) fn settle() {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    for (variable, threads) in [("CANDLE_NUM_THREADS", 1), ("RAYON_NUM_THREADS", cores)] {
        if std::env::var_os(variable).is_none() {
            // SAFETY: `App::run` is documented to be called before the program starts threads, so nothing reads or
            // writes the environment at the same time.
            unsafe { std::env::set_var(variable, threads.to_string()) };
        }
    }
}
