//! Keeps candle's element-wise operations on the thread that asks for them.
//!
//! Candle splits them over threads that spin at a barrier and serve one operation at a time. Here micro-batches and
//! rows already run side by side, so those threads only get in each other's way: a step of the tiny recipe takes three
//! times as long with them on a busy machine. Matrix products are not affected.
#![allow(unsafe_code)]

const VARIABLE: &str = "CANDLE_NUM_THREADS";

/// Sets the variable that candle reads at its first operation, unless the user did. Called first thing in the program.
pub(crate) fn one_for_elementwise() {
    if std::env::var_os(VARIABLE).is_none() {
        // SAFETY: `App::run` is documented to be called before the program starts threads, so nothing reads or
        // writes the environment at the same time.
        unsafe { std::env::set_var(VARIABLE, "1") };
    }
}
