//! Every ristretto255-SHA512 vector of RFC 9807, real and fake, against the server's half.

mod common;

use _engines::group::{derive_scalar, element, encode};
use _engines::opaque_server::{
    derive_key_pair, ke2_with, registration_response, KeyPair, Randomness, Setting,
};
use common::{array, hex_of, list, rfc};
use hkdf::Hkdf;
use serde_json::Value;
use sha2::Sha512;
use zeroize::Zeroizing;

/// What a single server does (RFC 9807 section 6.3.2.2) and the vault's nodes do together.
fn evaluate(inputs: &Value, blinded: &[u8]) -> Vec<u8> {
    let mut seed = [0; 32];
    Hkdf::<Sha512>::from_prk(&hex_of(inputs, "oprf_seed"))
        .unwrap()
        .expand_multi_info(
            &[&hex_of(inputs, "credential_identifier"), b"OprfKey"],
            &mut seed,
        )
        .unwrap();
    let key = derive_scalar(&seed, b"OPAQUE-DeriveKeyPair").unwrap();
    encode("evaluation", &(element("blinded", blinded).unwrap() * *key))
        .unwrap()
        .to_vec()
}

fn ke2_of(vector: &Value, ke1: &[u8], record: &[u8]) -> Vec<u8> {
    let inputs = &vector["inputs"];
    let identity = |name: &str| Some(hex_of(inputs, name)).filter(|bytes| !bytes.is_empty());
    let (client, server) = (identity("client_identity"), identity("server_identity"));
    let context = hex_of(&vector["config"], "Context");
    let setting = Setting {
        context: &context,
        client_identity: client.as_deref(),
        server_identity: server.as_deref(),
    };
    let randomness = Randomness {
        masking_nonce: array(&hex_of(inputs, "masking_nonce")),
        server_nonce: array(&hex_of(inputs, "server_nonce")),
        keyshare_seed: Zeroizing::new(array(&hex_of(inputs, "server_keyshare_seed"))),
    };
    let (private, public) = (
        hex_of(inputs, "server_private_key"),
        hex_of(inputs, "server_public_key"),
    );
    let keys = KeyPair {
        private: &private,
        public: &public,
    };
    let evaluated = evaluate(inputs, &ke1[..32]);
    ke2_with(&randomness, setting, ke1, record, &evaluated, keys)
        .unwrap()
        .to_vec()
}

fn vectors(fake: &str) -> Vec<Value> {
    let found: Vec<Value> = list(&rfc()["rfc9807"])
        .iter()
        .filter(|vector| vector["config"]["Fake"] == fake)
        .cloned()
        .collect();
    assert!(!found.is_empty(), "no vector with Fake = {fake}");
    found
}

#[test]
fn the_registration_response_of_every_real_vector_is_made() {
    for vector in vectors("False") {
        let (inputs, outputs) = (&vector["inputs"], &vector["outputs"]);
        let evaluated = evaluate(inputs, &hex_of(outputs, "registration_request"));
        let response =
            registration_response(&evaluated, &hex_of(inputs, "server_public_key")).unwrap();
        assert_eq!(response.to_vec(), hex_of(outputs, "registration_response"));
    }
}

#[test]
fn ke2_of_every_real_vector_is_made() {
    for vector in vectors("False") {
        let outputs = &vector["outputs"];
        let record = hex_of(outputs, "registration_upload");
        assert_eq!(
            ke2_of(&vector, &hex_of(outputs, "KE1"), &record),
            hex_of(outputs, "KE2")
        );
    }
}

#[test]
fn ke2_of_every_fake_vector_is_made() {
    for vector in vectors("True") {
        let inputs = &vector["inputs"];
        let record = [
            hex_of(inputs, "client_public_key"),
            hex_of(inputs, "masking_key"),
            vec![0; 96],
        ]
        .concat();
        let ke2 = ke2_of(&vector, &hex_of(inputs, "KE1"), &record);
        assert_eq!(ke2, hex_of(&vector["outputs"], "KE2"));
    }
}

#[test]
fn the_key_share_of_ke2_is_derived_from_its_seed() {
    for vector in vectors("False") {
        let (_, public) =
            derive_key_pair(&hex_of(&vector["inputs"], "server_keyshare_seed")).unwrap();
        assert_eq!(public.to_vec(), hex_of(&vector["outputs"], "KE2")[224..256]);
    }
}
