//! The threshold OPRF of crypto.md: shares from pseudo-random secret sharing (Cramer, Damgård,
//! Ishai 2005), combination by Lagrange at 0, and the consistency of more than t shares.
//!
//! The OPRF key k = Σ_A r_A exists nowhere, here neither: a seat computes only its own
//! k_j = Σ_{A∋j} f_A(j)·r_A, uses it for one multiplication and wipes it. Any t shares give the
//! evaluation; t-1 seats miss at least one r_A. Keeps I1 and I2 at their root: without three
//! seats there is no evaluation.

use std::sync::LazyLock;

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::VartimeMultiscalarMul;
use zeroize::Zeroizing;

use crate::group::{element, encode, wide, Malformed, ELEMENT_BYTES};

/// Seats are numbered from 1. Nine keep the search for liars below 512 subsets and every
/// interpolation weight below 2^63; a cluster has five.
pub const MAX_SEATS: u8 = 9;

/// The scheme: t of n seats evaluate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheme {
    seats: u8,
    threshold: u8,
}

impl Scheme {
    /// Refuses anything but 1 ≤ t ≤ n ≤ `MAX_SEATS`.
    pub fn new(seats: u8, threshold: u8) -> Result<Self, Malformed> {
        if threshold == 0 || threshold > seats || seats > MAX_SEATS {
            return Err(Malformed::new(format!(
                "threshold scheme: 1 <= t <= n <= {MAX_SEATS} must hold, not n={seats}, t={threshold}"
            )));
        }
        Ok(Self { seats, threshold })
    }

    /// Size of every set A: n-t+1.
    #[must_use]
    pub fn set_size(self) -> u32 {
        u32::from(self.seats - self.threshold + 1)
    }

    /// How many sets A contain one seat: C(n-1, n-t).
    #[must_use]
    pub fn sets_per_seat(self) -> usize {
        let (top, chosen) = (
            u64::from(self.seats - 1),
            u64::from(self.seats - self.threshold),
        );
        let product = (1..=chosen).fold(1, |result, i| result * (top - chosen + i) / i);
        usize::try_from(product).expect("at most 70 for nine seats")
    }
}

/// A set of seats as bits: bit j for seat j.
type SeatSet = u16;

/// `PRF(oprf/A, "oprf-subset", registration_id)` with the ascending seats of A.
pub type SubsetPrf<'a> = (&'a [u8], &'a [u8]);

fn seat_set(scheme: Scheme, own: u8, seats: &[u8]) -> Result<SeatSet, Malformed> {
    let ascending = seats.windows(2).all(|pair| pair[0] < pair[1]);
    let in_range = seats.iter().all(|seat| (1..=scheme.seats).contains(seat));
    if !ascending || !in_range || seats.len() != scheme.set_size() as usize || !seats.contains(&own)
    {
        return Err(Malformed::new(format!(
            "subset PRFs of seat {own}: every set must be {} ascending seats of 1..={} with {own} among them",
            scheme.set_size(),
            scheme.seats,
        )));
    }
    Ok(seats.iter().fold(0, |set, seat| set | 1 << seat))
}

/// 1/n! for every n up to `MAX_SEATS`: the common denominator of all f_A(j).
static INVERSE_FACTORIALS: LazyLock<[Scalar; MAX_SEATS as usize + 1]> = LazyLock::new(|| {
    let mut factorial = 1;
    std::array::from_fn(|n| {
        factorial *= (n as u64).max(1);
        Scalar::from(factorial).invert()
    })
});

/// n!·f_A(j), an integer: f_A(j) = Π_{i∉A} (i-j)/i, which is 1 at j = 0 and 0 at every i ∉ A.
fn scaled_weight(scheme: Scheme, set: SeatSet, seat: u8) -> i64 {
    (1..=scheme.seats)
        .map(|i| {
            if set & (1 << i) == 0 {
                i64::from(i) - i64::from(seat)
            } else {
                i64::from(i)
            }
        })
        .product()
}

fn signed(value: i64) -> Scalar {
    let magnitude = Scalar::from(value.unsigned_abs());
    if value < 0 {
        -magnitude
    } else {
        magnitude
    }
}

/// k_j, from exactly the C(n-1, n-t) sets that contain the seat.
pub fn seat_scalar(
    scheme: Scheme,
    seat: u8,
    subset_prfs: &[SubsetPrf<'_>],
) -> Result<Zeroizing<Scalar>, Malformed> {
    if seat == 0 || seat > scheme.seats {
        return Err(Malformed::new(format!(
            "seat must be 1..={}, not {seat}",
            scheme.seats
        )));
    }
    if subset_prfs.len() != scheme.sets_per_seat() {
        return Err(Malformed::new(format!(
            "subset PRFs of seat {seat}: {} sets contain it, {} were given",
            scheme.sets_per_seat(),
            subset_prfs.len(),
        )));
    }
    let mut seen = Vec::with_capacity(subset_prfs.len());
    let mut sum = Zeroizing::new(Scalar::ZERO);
    for (seats, prf) in subset_prfs {
        let set = seat_set(scheme, seat, seats)?;
        if seen.contains(&set) {
            return Err(Malformed::new(format!(
                "subset PRFs of seat {seat}: a set given twice"
            )));
        }
        seen.push(set);
        let r = Zeroizing::new(wide("subset PRF", prf)?);
        let term = Zeroizing::new(*r * signed(scaled_weight(scheme, set, seat)));
        *sum += *term;
    }
    let scalar = Zeroizing::new(*sum * INVERSE_FACTORIALS[usize::from(scheme.seats)]);
    if *scalar == Scalar::ZERO {
        return Err(Malformed::new(format!(
            "subset PRFs of seat {seat}: the share is zero"
        )));
    }
    Ok(scalar)
}

/// S_j = k_j·B.
pub fn share(
    scheme: Scheme,
    seat: u8,
    subset_prfs: &[SubsetPrf<'_>],
    blinded: &[u8],
) -> Result<[u8; ELEMENT_BYTES], Malformed> {
    let blinded = element("blinded element", blinded)?;
    let scalar = seat_scalar(scheme, seat, subset_prfs)?;
    encode("share", &(blinded * *scalar))
}

/// A share as it came over the wire: seat and 32 bytes.
pub type WireShare<'a> = (u8, &'a [u8]);

#[derive(Debug, Clone, Copy)]
struct Share {
    seat: u8,
    point: RistrettoPoint,
}

fn parse(shares: &[WireShare<'_>]) -> Result<Vec<Share>, Malformed> {
    let mut seen: SeatSet = 0;
    shares
        .iter()
        .map(|&(seat, bytes)| {
            if seat == 0 || seat > MAX_SEATS {
                return Err(Malformed::new(format!(
                    "share: seat must be 1..={MAX_SEATS}"
                )));
            }
            if seen & (1 << seat) != 0 {
                return Err(Malformed::new(format!("share: seat {seat} given twice")));
            }
            seen |= 1 << seat;
            let point = element(&format!("share of seat {seat}"), bytes)?;
            Ok(Share { seat, point })
        })
        .collect()
}

/// Lagrange coefficients λ_j(x) = Π_{m≠j} (x-m)/(j-m) for these distinct seats.
#[must_use]
pub fn lagrange(seats: &[u8], at: u8) -> Vec<Scalar> {
    let difference = |a: u8, b: u8| i64::from(a) - i64::from(b);
    let product = |own: u8, from: u8| {
        let others = seats.iter().filter(|&&other| other != own);
        signed(others.map(|&other| difference(from, other)).product())
    };
    let mut denominators: Vec<Scalar> = seats.iter().map(|&own| product(own, own)).collect();
    Scalar::batch_invert(&mut denominators);
    seats
        .iter()
        .zip(denominators)
        .map(|(&own, inverse)| product(own, at) * inverse)
        .collect()
}

/// The polynomial through `basis`, in the exponent, at seat `at`. Variable time: shares and
/// seats are no secrets of the combiner.
fn interpolate(basis: &[Share], at: u8) -> RistrettoPoint {
    let seats: Vec<u8> = basis.iter().map(|share| share.seat).collect();
    let points = basis.iter().map(|share| share.point);
    RistrettoPoint::vartime_multiscalar_mul(lagrange(&seats, at), points)
}

/// The evaluation E = Σ λ_j(0)·S_j over exactly these shares, which the caller makes t.
pub fn combine(shares: &[WireShare<'_>]) -> Result<[u8; ELEMENT_BYTES], Malformed> {
    if shares.is_empty() {
        return Err(Malformed::new("combine: no shares"));
    }
    encode("combined evaluation", &interpolate(&parse(shares)?, 0))
}

fn on_one_polynomial(threshold: usize, shares: &[Share]) -> bool {
    let (basis, others) = shares.split_at(threshold);
    others
        .iter()
        .all(|other| interpolate(basis, other.seat) == other.point)
}

fn more_than(threshold: u8, shares: &[WireShare<'_>]) -> Result<Vec<Share>, Malformed> {
    if threshold == 0 || shares.len() <= usize::from(threshold) {
        return Err(Malformed::new(format!(
            "consistency needs more than t={threshold} >= 1 shares, not {}",
            shares.len()
        )));
    }
    parse(shares)
}

/// True when all shares, more than t of them, lie on one polynomial of degree t-1.
pub fn consistent(threshold: u8, shares: &[WireShare<'_>]) -> Result<bool, Malformed> {
    Ok(on_one_polynomial(
        usize::from(threshold),
        &more_than(threshold, shares)?,
    ))
}

/// What more than t shares tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The evaluation by the single largest consistent set; the ascending seats outside it.
    Evaluation([u8; ELEMENT_BYTES], Vec<u8>),
    /// No consistent set of more than t shares, or more than one of the largest size.
    Undecided,
}

/// Find the single largest consistent set of at least t+1 shares.
pub fn liars(threshold: u8, shares: &[WireShare<'_>]) -> Result<Verdict, Malformed> {
    let shares = more_than(threshold, shares)?;
    let threshold = usize::from(threshold);
    for size in (threshold + 1..=shares.len()).rev() {
        let mut found = subsets(&shares, size).filter(|set| on_one_polynomial(threshold, set));
        let Some(honest) = found.next() else { continue };
        if found.next().is_some() {
            return Ok(Verdict::Undecided);
        }
        let evaluation = interpolate(&honest[..threshold], 0);
        let is_honest = |seat: u8| honest.iter().any(|share| share.seat == seat);
        let mut outside: Vec<u8> = shares
            .iter()
            .map(|share| share.seat)
            .filter(|&seat| !is_honest(seat))
            .collect();
        outside.sort_unstable();
        return Ok(Verdict::Evaluation(
            encode("combined evaluation", &evaluation)?,
            outside,
        ));
    }
    Ok(Verdict::Undecided)
}

fn subsets(shares: &[Share], size: usize) -> impl Iterator<Item = Vec<Share>> + '_ {
    (0_u32..1 << shares.len())
        .filter(move |mask| mask.count_ones() as usize == size)
        .map(move |mask| {
            let chosen = shares
                .iter()
                .enumerate()
                .filter(|(i, _)| mask & (1 << i) != 0);
            chosen.map(|(_, share)| *share).collect()
        })
}
