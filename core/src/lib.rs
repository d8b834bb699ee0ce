//! The compiled core of moq-token (the extra `fast`): make and check compact JWS (RFC 7515) with a prepared key.
//!
//! It computes what `moq_token.jws` and `moq_token.primitives` compute in Python, with one call per token. It knows no
//! claims, no JSON and no policy: Python checks the key material before, the claims after, and writes all messages.

#![forbid(unsafe_code)]

mod compact;
mod guard;
mod keys;

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use compact::Parts;
use guard::guarded;
use keys::{SigningKey, VerifyingKey};

/// Make tokens with one key and one header.
#[pyclass(frozen, module = "moq_token_core")]
struct Signer {
    key: SigningKey,
    header: String,
}

#[pymethods]
impl Signer {
    #[new]
    fn new(algorithm: &str, header: String, key: &[u8]) -> PyResult<Self> {
        guarded(|| {
            let key = SigningKey::new(algorithm, key).ok_or_else(unsupported)?;
            Ok(Self { key, header })
        })
    }

    /// Return the token of a payload: header, payload and signature.
    fn sign(&self, py: Python<'_>, payload: &[u8]) -> PyResult<String> {
        guarded(|| {
            let join = || compact::join(&self.header, payload, |data, out| self.key.sign(data, out));
            let token = if self.key.is_quick() { join() } else { py.detach(join) };
            token.ok_or_else(guard::internal_error)
        })
    }
}

/// Check tokens of one key.
#[pyclass(frozen, module = "moq_token_core")]
struct Verifier {
    key: VerifyingKey,
    headers: Vec<String>,
}

#[pymethods]
impl Verifier {
    #[new]
    fn new(algorithm: &str, headers: Vec<String>, key: &[u8]) -> PyResult<Self> {
        guarded(|| {
            let key = VerifyingKey::new(algorithm, key).ok_or_else(unsupported)?;
            Ok(Self { key, headers })
        })
    }

    /// Return the payload of a token, the code of a refusal, or None if Python has to look at the token.
    ///
    /// The codes are "malformed", if it is not three segments of canonical base64url, and "bad-signature". None means
    /// that it is no text, too long, or has none of the known headers. The signature was not checked then.
    fn verify<'py>(&self, py: Python<'py>, token: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        guarded(|| {
            Ok(match self.open(py, token)? {
                Opened::Known { signed, payload, signature } if self.matches(py, signed, &signature) => {
                    payload.into_any()
                }
                Opened::Known { .. } => intern!(py, "bad-signature").clone().into_any(),
                Opened::Malformed => intern!(py, "malformed").clone().into_any(),
                Opened::Unknown => py.None().into_bound(py),
            })
        })
    }

    /// Return whether a signature matches these bytes.
    fn check(&self, py: Python<'_>, signature: &[u8], data: &[u8]) -> PyResult<bool> {
        guarded(|| Ok(self.matches(py, data, signature)))
    }
}

/// A token whose signature has not been checked.
enum Opened<'a, 'py> {
    /// It has a known header. `signed` are its bytes that were signed.
    Known {
        signed: &'a [u8],
        payload: Bound<'py, PyBytes>,
        signature: Vec<u8>,
    },
    Malformed,
    Unknown,
}

impl Verifier {
    /// Decode a token.
    fn open<'a, 'py>(&self, py: Python<'py>, token: &'a Bound<'py, PyAny>) -> PyResult<Opened<'a, 'py>> {
        let Ok(text) = token.cast::<PyString>() else { return Ok(Opened::Unknown) };
        // The length is compared before `to_str`, which would make a copy of a long text that is not ASCII.
        if text.len()? > compact::MAX_TOKEN_BYTES {
            return Ok(Opened::Unknown);
        }
        let Some(parts) = text.to_str().ok().and_then(Parts::split) else { return Ok(Opened::Malformed) };
        let mut canonical = false;
        let payload = PyBytes::new_with(py, parts.payload_len(), |out| {
            canonical = parts.decode_payload(out);
            Ok(())
        })?;
        let Some(signature) = parts.signature().filter(|_| canonical) else { return Ok(Opened::Malformed) };
        if !self.headers.iter().any(|known| known == parts.header) {
            return Ok(Opened::Unknown);
        }
        Ok(Opened::Known { signed: parts.signed, payload, signature })
    }

    fn matches(&self, py: Python<'_>, data: &[u8], signature: &[u8]) -> bool {
        let check = || self.key.verify(data, signature);
        if self.key.is_quick() { check() } else { py.detach(check) }
    }
}

/// The error for a key that is valid, but not one that this library computes with. It says nothing of the key.
fn unsupported() -> PyErr {
    PyValueError::new_err("unsupported algorithm or key")
}

#[pymodule(gil_used = false)]
mod moq_token_core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::{Signer, Verifier};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::guard::keep_panics_quiet();
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
