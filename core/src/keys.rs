//! The signature algorithms (RFC 7518, section 3.1; RFC 8037) with the keys of aws-lc-rs, each prepared once.
//!
//! Python has checked the material. The library overwrites its keys when it frees them, and nothing here copies one. What aws-lc-rs refuses nevertheless gives None, and Python uses `cryptography`.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED, ECDSA_P384_SHA384_FIXED_SIGNING,
    ED25519, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding, RsaKeyPair, VerificationAlgorithm,
};
use aws_lc_rs::{digest, hmac};

use crate::compact::MAX_SIGNATURE_BYTES;

const ED25519_BYTES: usize = 32;

/// A key that signs.
pub enum SigningKey {
    Hmac(Box<hmac::Key>),
    Rsa(&'static dyn RsaEncoding, RsaKeyPair),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    /// Prepare a key.
    ///
    /// `key` is the secret for HMAC, a DER `RSAPrivateKey` (RFC 8017, appendix A.1.2), for ECDSA the private value
    /// followed by the uncompressed point, and for Ed25519 the seed followed by the public key.
    pub fn new(algorithm: &str, key: &[u8]) -> Option<Self> {
        if let Some(hash) = hmac_hash(algorithm) {
            return Some(Self::Hmac(Box::new(hmac::Key::new(hash, key))));
        }
        let rsa = |padding| Some(Self::Rsa(padding, RsaKeyPair::from_der(key).ok()?));
        let ecdsa = |curve: &'static EcdsaSigningAlgorithm, size| {
            let (private, public) = key.split_at_checked(size)?;
            Some(Self::Ecdsa(EcdsaKeyPair::from_private_key_and_public_key(curve, private, public).ok()?))
        };
        match algorithm {
            "RS256" => rsa(&RSA_PKCS1_SHA256),
            "RS384" => rsa(&RSA_PKCS1_SHA384),
            "RS512" => rsa(&RSA_PKCS1_SHA512),
            "PS256" => rsa(&RSA_PSS_SHA256),
            "PS384" => rsa(&RSA_PSS_SHA384),
            "PS512" => rsa(&RSA_PSS_SHA512),
            "ES256" => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, 32),
            "ES384" => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, 48),
            "EdDSA" => {
                let (seed, public) = key.split_at_checked(ED25519_BYTES)?;
                Some(Self::Ed25519(Ed25519KeyPair::from_seed_and_public_key(seed, public).ok()?))
            }
            _ => None,
        }
    }

    /// Whether a signature takes less time than to release the lock of the interpreter and to take it again.
    pub fn is_quick(&self) -> bool {
        matches!(self, Self::Hmac(_))
    }

    /// Write the signature of `data` and return its length, or None if the library fails.
    pub fn sign(&self, data: &[u8], out: &mut [u8; MAX_SIGNATURE_BYTES]) -> Option<usize> {
        let random = SystemRandom::new();
        match self {
            Self::Hmac(key) => Some(hmac::sign_to_buffer(key, data, out).ok()?.len()),
            Self::Rsa(padding, key) => {
                let len = key.public_modulus_len();
                key.sign(*padding, &random, data, out.get_mut(..len)?).ok()?;
                Some(len)
            }
            Self::Ecdsa(key) => copy(key.sign(&random, data).ok()?.as_ref(), out),
            Self::Ed25519(key) => copy(key.try_sign(data).ok()?.as_ref(), out),
        }
    }
}

fn copy(signature: &[u8], out: &mut [u8]) -> Option<usize> {
    out.get_mut(..signature.len())?.copy_from_slice(signature);
    Some(signature.len())
}

/// A key that verifies.
pub enum VerifyingKey {
    Hmac(Box<hmac::Key>),
    Public(ParsedPublicKey),
    Ed25519(ParsedPublicKey),
}

impl VerifyingKey {
    /// Prepare a key.
    ///
    /// `key` is the secret for HMAC, a DER `RSAPublicKey` (RFC 8017, appendix A.1.1), for ECDSA the uncompressed point,
    /// and for Ed25519 the public key.
    pub fn new(algorithm: &str, key: &[u8]) -> Option<Self> {
        if let Some(hash) = hmac_hash(algorithm) {
            return Some(Self::Hmac(Box::new(hmac::Key::new(hash, key))));
        }
        let parsed = |form: &'static dyn VerificationAlgorithm| ParsedPublicKey::new(form, key).ok();
        match algorithm {
            "RS256" => parsed(&RSA_PKCS1_2048_8192_SHA256).map(Self::Public),
            "RS384" => parsed(&RSA_PKCS1_2048_8192_SHA384).map(Self::Public),
            "RS512" => parsed(&RSA_PKCS1_2048_8192_SHA512).map(Self::Public),
            "PS256" => parsed(&RSA_PSS_2048_8192_SHA256).map(Self::Public),
            "PS384" => parsed(&RSA_PSS_2048_8192_SHA384).map(Self::Public),
            "PS512" => parsed(&RSA_PSS_2048_8192_SHA512).map(Self::Public),
            "ES256" => parsed(&ECDSA_P256_SHA256_FIXED).map(Self::Public),
            "ES384" => parsed(&ECDSA_P384_SHA384_FIXED).map(Self::Public),
            "EdDSA" => parsed(&ED25519).map(Self::Ed25519),
            _ => None,
        }
    }

    /// Whether a check takes less time than to release the lock of the interpreter and to take it again.
    pub fn is_quick(&self) -> bool {
        matches!(self, Self::Hmac(_))
    }

    pub fn verify(&self, data: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Hmac(key) => {
                let mut buffer = [0; digest::MAX_OUTPUT_LEN];
                hmac::sign_to_buffer(key, data, &mut buffer)
                    .is_ok_and(|mac| verify_slices_are_equal(mac, signature).is_ok())
            }
            Self::Public(key) => key.verify_sig(data, signature).is_ok(),
            Self::Ed25519(key) => !begins_with_small_order(signature) && key.verify_sig(data, signature).is_ok(),
        }
    }
}

fn hmac_hash(algorithm: &str) -> Option<hmac::Algorithm> {
    match algorithm {
        "HS256" => Some(hmac::HMAC_SHA256),
        "HS384" => Some(hmac::HMAC_SHA384),
        "HS512" => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

/// The `y` of the points of Ed25519 whose order divides 8, and 0 and 1 with the prime added: those of `primitives.py`.
///
/// The owner of a key can make a signature that begins with one of them and that only some libraries accept.
const SMALL_ORDER: [[u8; ED25519_BYTES]; 7] = [
    small(0x00, 0x00, 0x00),
    small(0x01, 0x00, 0x00),
    small(0xec, 0xff, 0x7f),
    small(0xed, 0xff, 0x7f),
    small(0xee, 0xff, 0x7f),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

const fn small(first: u8, between: u8, last: u8) -> [u8; ED25519_BYTES] {
    let mut bytes = [between; ED25519_BYTES];
    bytes[0] = first;
    bytes[ED25519_BYTES - 1] = last;
    bytes
}

fn begins_with_small_order(signature: &[u8]) -> bool {
    let Some(mut y) = signature.first_chunk::<ED25519_BYTES>().copied() else { return false };
    y[ED25519_BYTES - 1] &= 0x7f; // without the sign of x
    SMALL_ORDER.contains(&y)
}
