//! The prime-order group ristretto255 at the boundary: what is accepted as an element or a
//! scalar, and the hashing to scalars of RFC 9497 and RFC 9380. Everything that enters the crate
//! as an element passes `element`: 32 bytes, canonical, not the identity (crypto.md, Encoding).

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity;
use sha2::digest::Output;
use sha2::{Digest, Sha512};
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

pub const ELEMENT_BYTES: usize = 32;
pub const SCALAR_BYTES: usize = 32;
/// Input of a wide reduction: twice the group order, so that the result is uniform.
pub const WIDE_BYTES: usize = 64;

pub const HASH_BYTES: usize = 64;
const HASH_BLOCK_BYTES: usize = 128;
/// contextString of RFC 9497 for mode OPRF: "OPRFV1-" ‖ I2OSP(0, 1) ‖ "-" ‖ identifier.
const OPRF_CONTEXT: &[u8] = b"OPRFV1-\x00-ristretto255-SHA512";

/// Input that is not what the protocol says: the message names it and never quotes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(String);

impl Malformed {
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

/// `bytes` as an array of exactly N bytes.
pub fn exact<'a, const N: usize>(name: &str, bytes: &'a [u8]) -> Result<&'a [u8; N], Malformed> {
    <&[u8; N]>::try_from(bytes)
        .map_err(|_| Malformed::new(format!("{name} must be {N} bytes, not {}", bytes.len())))
}

/// A canonical element other than the identity.
pub fn element(name: &str, bytes: &[u8]) -> Result<RistrettoPoint, Malformed> {
    CompressedRistretto(*exact::<ELEMENT_BYTES>(name, bytes)?)
        .decompress()
        .filter(|point| !point.is_identity())
        .ok_or_else(|| {
            Malformed::new(format!(
                "{name} must be a canonical ristretto255 element other than the identity"
            ))
        })
}

/// True for 32 bytes that are an acceptable element.
#[must_use]
pub fn element_is_valid(bytes: &[u8]) -> bool {
    element("element", bytes).is_ok()
}

/// A canonical scalar other than zero.
pub fn secret_scalar(name: &str, bytes: &[u8]) -> Result<Zeroizing<Scalar>, Malformed> {
    Option::<Scalar>::from(Scalar::from_canonical_bytes(*exact::<SCALAR_BYTES>(
        name, bytes,
    )?))
    .filter(|scalar| *scalar != Scalar::ZERO)
    .map(Zeroizing::new)
    .ok_or_else(|| Malformed::new(format!("{name} must be a canonical non-zero scalar")))
}

/// The 32 bytes of a result that has to be an element other than the identity.
pub fn encode(name: &str, point: &RistrettoPoint) -> Result<[u8; ELEMENT_BYTES], Malformed> {
    if point.is_identity() {
        return Err(Malformed::new(format!("{name} is the identity element")));
    }
    Ok(point.compress().to_bytes())
}

/// 64 bytes, little-endian, reduced modulo the group order.
pub fn wide(name: &str, bytes: &[u8]) -> Result<Scalar, Malformed> {
    Ok(Scalar::from_bytes_mod_order_wide(exact::<WIDE_BYTES>(
        name, bytes,
    )?))
}

/// A hash or MAC that is a secret, in memory that is wiped; the library's own copy is wiped here.
pub fn kept(mut output: Output<Sha512>) -> Zeroizing<[u8; HASH_BYTES]> {
    let mut copy = Zeroizing::new([0; HASH_BYTES]);
    copy.copy_from_slice(&output);
    output.zeroize();
    copy
}

/// expand_message_xmd of RFC 9380 with SHA-512 and an output of 64 bytes, which is one block.
///
/// Refuses a tag of more than 255 bytes.
pub fn expand_message_xmd(
    message: &[&[u8]],
    tag: &[&[u8]],
) -> Result<Zeroizing<[u8; WIDE_BYTES]>, Malformed> {
    let tag = tag.concat();
    let tag_bytes = u8::try_from(tag.len())
        .map_err(|_| Malformed::new("expand_message_xmd: the tag must be at most 255 bytes"))?;
    let mut first = Sha512::new().chain_update([0; HASH_BLOCK_BYTES]);
    for part in message {
        first.update(part);
    }
    let b_0 = kept(
        first
            .chain_update([0, WIDE_BYTES as u8, 0])
            .chain_update(&tag)
            .chain_update([tag_bytes])
            .finalize(),
    );
    let b_1 = Sha512::new()
        .chain_update(*b_0)
        .chain_update([1])
        .chain_update(&tag)
        .chain_update([tag_bytes])
        .finalize();
    Ok(kept(b_1))
}

/// DeriveKeyPair of RFC 9497 (section 3.2.1) for ristretto255-SHA512, mode OPRF: the scalar.
pub fn derive_scalar(seed: &[u8; 32], info: &[u8]) -> Result<Zeroizing<Scalar>, Malformed> {
    let info_bytes = u16::try_from(info.len())
        .map_err(|_| Malformed::new("DeriveKeyPair: info must be at most 65,535 bytes"))?
        .to_be_bytes();
    for counter in 0..=u8::MAX {
        let uniform = expand_message_xmd(
            &[seed, &info_bytes, info, &[counter]],
            &[b"DeriveKeyPair", OPRF_CONTEXT],
        )?;
        let scalar = Zeroizing::new(Scalar::from_bytes_mod_order_wide(&uniform));
        if *scalar != Scalar::ZERO {
            return Ok(scalar);
        }
    }
    Err(Malformed::new(
        "DeriveKeyPair: no key for this seed; draw another one",
    ))
}
