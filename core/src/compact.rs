//! The compact form (RFC 7515, section 7.1) and strict base64url, as in `moq_token/jws.py` and `encoding.py`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The bound of `jws.py`. Longer tokens are refused before anything is decoded.
pub const MAX_TOKEN_BYTES: usize = 64 * 1024;
/// The signature of an RSA key of 8192 bits, the longest that a key here makes.
pub const MAX_SIGNATURE_BYTES: usize = 1024;

/// The segments of a token, still encoded.
pub struct Parts<'a> {
    /// What was signed: header and payload with the dot between them.
    pub signed: &'a [u8],
    pub header: &'a str,
    payload: &'a str,
    signature: &'a str,
}

impl<'a> Parts<'a> {
    /// Split a token at its first and its last dot. A payload with another dot fails to decode.
    pub fn split(token: &'a str) -> Option<Self> {
        if !token.is_ascii() {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        Some(Self { signed: signed.as_bytes(), header, payload, signature })
    }

    /// The number of bytes that the payload decodes to.
    pub fn payload_len(&self) -> usize {
        self.payload.len() * 3 / 4
    }

    /// Decode the payload into `payload_len` bytes, and return whether it is canonical base64url.
    pub fn decode_payload(&self, out: &mut [u8]) -> bool {
        URL_SAFE_NO_PAD.decode_slice(self.payload, out) == Ok(out.len())
    }

    /// Decode the signature, or return None if it is not canonical base64url.
    pub fn signature(&self) -> Option<Vec<u8>> {
        URL_SAFE_NO_PAD.decode(self.signature).ok()
    }
}

/// Join header, payload and signature. `sign` writes the signature and returns its length, or None if it fails.
pub fn join(
    header: &str,
    payload: &[u8],
    sign: impl FnOnce(&[u8], &mut [u8; MAX_SIGNATURE_BYTES]) -> Option<usize>,
) -> Option<String> {
    // With room for all signatures but those of RSA, for which it grows: the allocator is slower with larger pieces.
    let mut token = String::with_capacity(header.len() + payload.len() / 3 * 4 + 160);
    token.push_str(header);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut token);
    let mut signature = [0; MAX_SIGNATURE_BYTES];
    let len = sign(token.as_bytes(), &mut signature)?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(&signature[..len], &mut token);
    Some(token)
}
