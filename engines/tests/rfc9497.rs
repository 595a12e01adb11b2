//! The ristretto255-SHA512 vectors of RFC 9497, mode OPRF.

mod common;

use _engines::group::{derive_scalar, element, encode, expand_message_xmd, secret_scalar};
use common::{array, hex_of, list, rfc};
use curve25519_dalek::ristretto::RistrettoPoint;
use sha2::{Digest, Sha512};

fn hash_to_group(input: &[u8]) -> RistrettoPoint {
    let tag = b"HashToGroup-OPRFV1-\x00-ristretto255-SHA512";
    RistrettoPoint::from_uniform_bytes(&expand_message_xmd(&[input], &[tag]).unwrap())
}

#[test]
fn the_key_is_derived_from_seed_and_info() {
    for suite in list(&rfc()["rfc9497"]) {
        let seed = array(&hex_of(suite, "seed"));
        let key = derive_scalar(&seed, &hex_of(suite, "keyInfo")).unwrap();
        assert_eq!(key.to_bytes().to_vec(), hex_of(suite, "skSm"));
    }
}

#[test]
fn blinding_evaluation_and_output_agree() {
    for suite in list(&rfc()["rfc9497"]) {
        let key = secret_scalar("skSm", &hex_of(suite, "skSm")).unwrap();
        for vector in list(&suite["vectors"]) {
            let input = hex_of(vector, "Input");
            let blind = secret_scalar("Blind", &hex_of(vector, "Blind")).unwrap();
            let blinded = encode("blinded", &(hash_to_group(&input) * *blind)).unwrap();
            assert_eq!(blinded.to_vec(), hex_of(vector, "BlindedElement"));
            let evaluated = element("blinded", &blinded).unwrap() * *key;
            let wire = encode("evaluation", &evaluated).unwrap();
            assert_eq!(wire.to_vec(), hex_of(vector, "EvaluationElement"));
            let unblinded = encode("unblinded", &(evaluated * blind.invert())).unwrap();
            let output = Sha512::new()
                .chain_update(u16::try_from(input.len()).unwrap().to_be_bytes())
                .chain_update(&input)
                .chain_update([0, 32])
                .chain_update(unblinded)
                .chain_update(b"Finalize")
                .finalize();
            assert_eq!(output.to_vec(), hex_of(vector, "Output"));
        }
    }
}
