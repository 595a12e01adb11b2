//! The proof that a share of a registration start was made with the seat's own key (crypto.md):
//! S = k·B and K = k·G for one k. Without it one owned data center could choose the OPRF key of
//! a new registration; the combiner verifies it before any use of the share.
//!
//! Chaum-Pedersen, made non-interactive: T1 = w·G, T2 = w·B,
//! c = wide(SHA-512(enc("dleq", cluster_id, registration_id, u8 seat, B, K, S, T1, T2))),
//! z = w + c·k, proof = c ‖ z.

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::VartimeMultiscalarMul;
use rand::rngs::OsRng;
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

use crate::enc::enc;
use crate::group::{element, encode, exact, Malformed, ELEMENT_BYTES, SCALAR_BYTES};
use crate::threshold::{seat_scalar, Scheme, SubsetPrf, MAX_SEATS};

pub const CLUSTER_ID_BYTES: usize = 16;
pub const REGISTRATION_ID_BYTES: usize = 32;
pub const PROOF_BYTES: usize = 2 * SCALAR_BYTES;

/// What the proof is bound to besides the elements.
#[derive(Debug, Clone, Copy)]
pub struct Binding<'a> {
    pub cluster_id: &'a [u8],
    pub registration_id: &'a [u8],
    pub seat: u8,
}

/// A share with K = k·G and the proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    pub share: [u8; ELEMENT_BYTES],
    pub point: [u8; ELEMENT_BYTES],
    pub proof: [u8; PROOF_BYTES],
}

fn challenge(binding: Binding<'_>, elements: [&[u8]; 5]) -> Result<Scalar, Malformed> {
    exact::<CLUSTER_ID_BYTES>("cluster_id", binding.cluster_id)?;
    exact::<REGISTRATION_ID_BYTES>("registration_id", binding.registration_id)?;
    let seat = [binding.seat];
    let mut fields = vec![binding.cluster_id, binding.registration_id, &seat[..]];
    fields.extend(elements);
    let hash = Sha512::digest(enc("dleq", &fields)?);
    Ok(Scalar::from_bytes_mod_order_wide(&hash.into()))
}

/// The share of a registration start, with its proof, under a fresh random w.
pub fn share_proven(
    binding: Binding<'_>,
    scheme: Scheme,
    subset_prfs: &[SubsetPrf<'_>],
    blinded: &[u8],
) -> Result<Proven, Malformed> {
    let w = Zeroizing::new(Scalar::random(&mut OsRng));
    share_proven_with(&w, binding, scheme, subset_prfs, blinded)
}

/// As `share_proven`, under a given w: a w used twice gives the key away, so this is for golden
/// vectors and not in the Python interface.
pub fn share_proven_with(
    w: &Scalar,
    binding: Binding<'_>,
    scheme: Scheme,
    subset_prfs: &[SubsetPrf<'_>],
    blinded: &[u8],
) -> Result<Proven, Malformed> {
    let base = element("blinded element", blinded)?;
    let k = seat_scalar(scheme, binding.seat, subset_prfs)?;
    let share = encode("share", &(base * *k))?;
    let point = encode("share's point", &RistrettoPoint::mul_base(&k))?;
    let t1 = RistrettoPoint::mul_base(w).compress();
    let t2 = (base * w).compress();
    let c = challenge(
        binding,
        [blinded, &point, &share, t1.as_bytes(), t2.as_bytes()],
    )?;
    let ck = Zeroizing::new(c * *k);
    let z = w + *ck;
    let mut proof = [0; PROOF_BYTES];
    proof[..SCALAR_BYTES].copy_from_slice(c.as_bytes());
    proof[SCALAR_BYTES..].copy_from_slice(z.as_bytes());
    Ok(Proven {
        share,
        point,
        proof,
    })
}

/// True when the proof shows share = k·blinded and point = k·G for one k; false for anything
/// malformed. Variable time: all of it is public.
#[must_use]
pub fn verify(
    binding: Binding<'_>,
    blinded: &[u8],
    share: &[u8],
    point: &[u8],
    proof: &[u8],
) -> bool {
    try_verify(binding, blinded, share, point, proof).unwrap_or(false)
}

fn try_verify(
    binding: Binding<'_>,
    blinded: &[u8],
    share: &[u8],
    point: &[u8],
    proof: &[u8],
) -> Result<bool, Malformed> {
    if binding.seat == 0 || binding.seat > MAX_SEATS {
        return Ok(false);
    }
    let proof = exact::<PROOF_BYTES>("DLEQ proof", proof)?;
    let (c, z) = proof.split_at(SCALAR_BYTES);
    let (c, z) = (canonical(c)?, canonical(z)?);
    let b = element("blinded element", blinded)?;
    let s = element("share", share)?;
    let k = element("share's point", point)?;
    let t1 = RistrettoPoint::vartime_double_scalar_mul_basepoint(&-c, &k, &z).compress();
    let t2 = RistrettoPoint::vartime_multiscalar_mul([z, -c], [b, s]).compress();
    Ok(challenge(
        binding,
        [blinded, point, share, t1.as_bytes(), t2.as_bytes()],
    )? == c)
}

fn canonical(bytes: &[u8]) -> Result<Scalar, Malformed> {
    Option::from(Scalar::from_canonical_bytes(*exact::<SCALAR_BYTES>(
        "DLEQ scalar",
        bytes,
    )?))
    .ok_or_else(|| Malformed::new("DLEQ proof must be two canonical scalars"))
}
