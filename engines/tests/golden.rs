//! The golden vectors made by unrelated code: what only Rust can see of them (a seat's scalar,
//! the Lagrange coefficients, the proof under a fixed w); `test_golden.py` checks the rest.

mod common;

use _engines::dleq::{share_proven_with, verify, Binding};
use _engines::enc::enc;
use _engines::group::secret_scalar;
use _engines::threshold::{combine, consistent, lagrange, liars, seat_scalar, Scheme, Verdict};
use common::{bytes, golden, hex_of, list};
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha512;

const CLUSTER_ID: [u8; 16] = [
    0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff,
];

fn prf(key: &[u8], label: &str, fields: &[&[u8]]) -> Vec<u8> {
    let mac = Hmac::<Sha512>::new_from_slice(key).unwrap();
    mac.chain_update(enc(label, fields).unwrap())
        .finalize()
        .into_bytes()
        .to_vec()
}

/// The five-seat vector with its written-out keys.
fn five_seats() -> Value {
    let all = golden();
    list(&all["threshold"])
        .iter()
        .find(|case| case["n"] == 5)
        .unwrap()
        .clone()
}

fn subset_prfs(case: &Value, seat: u8) -> Vec<(Vec<u8>, Vec<u8>)> {
    let registration_id = hex_of(case, "registration_id");
    let keys = case["oprf_keys"].as_object().unwrap();
    keys.iter()
        .map(|(seats, key)| {
            (
                seats.bytes().map(|digit| digit - b'0').collect::<Vec<u8>>(),
                key,
            )
        })
        .filter(|(seats, _)| seats.contains(&seat))
        .map(|(seats, key)| (seats, prf(&bytes(key), "oprf-subset", &[&registration_id])))
        .collect()
}

fn borrowed(prfs: &[(Vec<u8>, Vec<u8>)]) -> Vec<(&[u8], &[u8])> {
    prfs.iter()
        .map(|(seats, prf)| (seats.as_slice(), prf.as_slice()))
        .collect()
}

#[test]
fn enc_gives_the_golden_bytes() {
    for case in list(&golden()["enc"]) {
        let fields: Vec<Vec<u8>> = list(&case["fields"]).iter().map(bytes).collect();
        let fields: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
        assert_eq!(
            enc(case["label"].as_str().unwrap(), &fields).unwrap(),
            hex_of(case, "out")
        );
    }
}

#[test]
fn the_scalar_of_seat_one_is_the_golden_one() {
    let case = five_seats();
    let scalar = seat_scalar(
        Scheme::new(5, 3).unwrap(),
        1,
        &borrowed(&subset_prfs(&case, 1)),
    )
    .unwrap();
    assert_eq!(
        scalar.to_bytes().to_vec(),
        hex_of(&case, "seat_1_scalar_le")
    );
}

#[test]
fn the_lagrange_coefficients_are_the_golden_ones() {
    let case = five_seats();
    let expected = ["1", "3", "4"].map(|seat| hex_of(&case["lagrange_1_3_4_le"], seat));
    let computed: Vec<Vec<u8>> = lagrange(&[1, 3, 4], 0)
        .iter()
        .map(|scalar| scalar.to_bytes().to_vec())
        .collect();
    assert_eq!(computed, expected);
}

#[test]
fn the_proof_under_a_fixed_w_is_the_golden_one() {
    let case = five_seats();
    let (registration_id, element) = (hex_of(&case, "registration_id"), hex_of(&case, "element"));
    let w = secret_scalar("w", &hex_of(&case["dleq_seat_2"], "w_le")).unwrap();
    let binding = Binding {
        cluster_id: &CLUSTER_ID,
        registration_id: &registration_id,
        seat: 2,
    };
    let prfs = subset_prfs(&case, 2);
    let scheme = Scheme::new(5, 3).unwrap();
    let proven = share_proven_with(&w, binding, scheme, &borrowed(&prfs), &element).unwrap();
    assert_eq!(proven.share.to_vec(), hex_of(&case["shares"][1], "share"));
    assert_eq!(proven.point.to_vec(), hex_of(&case["shares"][1], "point"));
    assert_eq!(proven.proof.to_vec(), hex_of(&case["dleq_seat_2"], "proof"));
    assert!(verify(
        binding,
        &element,
        &proven.share,
        &proven.point,
        &proven.proof
    ));
}

#[test]
fn every_choice_of_threshold_seats_combines_to_the_golden_evaluation() {
    for case in list(&golden()["threshold"]) {
        let threshold = u8::try_from(case["t"].as_u64().unwrap()).unwrap();
        let shares: Vec<(u8, Vec<u8>)> = list(&case["shares"])
            .iter()
            .map(|s| {
                (
                    u8::try_from(s["seat"].as_u64().unwrap()).unwrap(),
                    hex_of(s, "share"),
                )
            })
            .collect();
        let shares: Vec<(u8, &[u8])> = shares.iter().map(|(j, s)| (*j, s.as_slice())).collect();
        for mask in 0_u32..1 << shares.len() {
            let chosen: Vec<(u8, &[u8])> = (0..shares.len())
                .filter(|i| mask & (1 << i) != 0)
                .map(|i| shares[i])
                .collect();
            if mask.count_ones() == u32::from(threshold) {
                let evaluation = combine(&chosen).unwrap().to_vec();
                assert_eq!(evaluation, hex_of(case, "evaluation"));
            } else if mask.count_ones() > u32::from(threshold) {
                assert!(consistent(threshold, &chosen).unwrap());
                let expected = hex_of(case, "evaluation").try_into().unwrap();
                let verdict = liars(threshold, &chosen).unwrap();
                assert_eq!(verdict, Verdict::Evaluation(expected, Vec::new()));
            }
        }
    }
}
