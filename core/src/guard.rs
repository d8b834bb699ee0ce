//! Panics: a bug here must not reach Python as anything but a `RuntimeError`, and must not print what it handled.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// Run a function, and turn a panic into a `RuntimeError` with a fixed text.
///
/// `PyO3` would raise `PanicException`, which is not an `Exception` and repeats the message of the panic. All objects
/// are immutable, so none is left half changed.
pub fn guarded<T>(run: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err(internal_error()))
}

/// Make the error for a failure that no input should cause.
pub fn internal_error() -> PyErr {
    PyRuntimeError::new_err("internal error in moq_token_core")
}

/// Print nothing when a panic begins: its message could hold a part of a token or a key.
pub fn keep_panics_quiet() {
    set_hook(Box::new(|_| ()));
}

#[cfg(test)]
mod tests {
    use super::{guarded, keep_panics_quiet};

    #[test]
    fn a_panic_becomes_an_error_with_a_fixed_text() {
        keep_panics_quiet();
        let error = guarded::<()>(|| panic!("what was handled")).expect_err("it panics");
        assert!(pyo3::Python::attach(|py| error.is_instance_of::<pyo3::exceptions::PyRuntimeError>(py)));
        assert_eq!(error.to_string(), "RuntimeError: internal error in moq_token_core");
    }
}
