//! Ed25519 (RFC 8032), verified in the one strict way that every replica uses inside `apply`
//! (crypto.md, OPAQUE): all replicas must agree on every byte string, so there is one pinned
//! implementation and no second opinion. Keeps I6: a proof is a signature that passes here.

use curve25519_dalek::edwards::CompressedEdwardsY;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::group::{exact, Malformed};

pub const SEED_BYTES: usize = 32;
pub const PUBLIC_KEY_BYTES: usize = 32;
pub const SIGNATURE_BYTES: usize = 64;

fn signing_key(seed: &[u8]) -> Result<SigningKey, Malformed> {
    Ok(SigningKey::from_bytes(exact::<SEED_BYTES>(
        "Ed25519 seed",
        seed,
    )?))
}

/// The public key of a 32-byte seed.
pub fn public_key(seed: &[u8]) -> Result<[u8; PUBLIC_KEY_BYTES], Malformed> {
    Ok(signing_key(seed)?.verifying_key().to_bytes())
}

/// The signature of `message` under a 32-byte seed.
pub fn sign(seed: &[u8], message: &[u8]) -> Result<[u8; SIGNATURE_BYTES], Malformed> {
    Ok(signing_key(seed)?.sign(message).to_bytes())
}

/// `verify_strict`: no small-order key or nonce point, canonical s. False for malformed input.
#[must_use]
pub fn verify(public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let (Ok(key), Ok(signature)) = (
        <&[u8; PUBLIC_KEY_BYTES]>::try_from(public_key),
        <&[u8; SIGNATURE_BYTES]>::try_from(signature),
    ) else {
        return false;
    };
    VerifyingKey::from_bytes(key).is_ok_and(|key| {
        key.verify_strict(message, &Signature::from_bytes(signature))
            .is_ok()
    })
}

/// True for the canonical bytes of a point that is not of small order. Register asks this, so
/// that no key is ever stored that would accept signatures which nobody made.
#[must_use]
pub fn is_usable(public_key: &[u8]) -> bool {
    let Ok(bytes) = <[u8; PUBLIC_KEY_BYTES]>::try_from(public_key) else {
        return false;
    };
    CompressedEdwardsY(bytes)
        .decompress()
        .is_some_and(|point| point.compress().0 == bytes && !point.is_small_order())
}
