//! Third-party readers that may panic on damaged files, made to give errors instead.
//!
//! Before: bytes that other people wrote, and a library that trusts them. After: the caller names the file in an error
//! of its own.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    sync::Once,
};

thread_local! {
    /// How many guards this thread is inside of.
    static INSIDE: Cell<usize> = const { Cell::new(0) };
}

/// What `read` gives, or, if it panics, what the panic said. Nothing is printed for such a panic; those of other
/// threads, and of threads that `read` starts, are printed as ever.
///
/// Meant for libraries that read files: what `read` was changing when it panicked must not be used afterwards.
/// # Errors
/// The text of the panic.
pub fn guard<T>(read: impl FnOnce() -> T) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if INSIDE.get() == 0 {
                before(panic);
            }
        }));
    });
    INSIDE.set(INSIDE.get() + 1);
    let outcome = catch_unwind(AssertUnwindSafe(read));
    INSIDE.set(INSIDE.get() - 1);
    outcome.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        text.unwrap_or("it did not say why").to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_text_and_the_thread_goes_on() {
        assert_eq!(guard(|| 7), Ok(7));
        let number = 3;
        assert_eq!(guard(|| -> u8 { panic!("row {number} is torn") }), Err("row 3 is torn".to_owned()));
        assert_eq!(guard(|| -> u8 { panic!("plain") }), Err("plain".to_owned()));
        let nested = guard(|| guard(|| -> u8 { panic!("inner") }));
        assert_eq!(nested, Ok(Err("inner".to_owned())));
        assert_eq!(INSIDE.get(), 0);
    }
}
