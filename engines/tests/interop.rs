//! `opaque-ke` as the oracle: its server against our client module, its client against our
//! server, also with the context and the identities that the vault itself leaves empty.

mod common;

use _engines::group::{element, encode};
use _engines::opaque_client::{
    login_finish, login_start, registration_finish, registration_start, ClientError, Ksf,
};
use _engines::opaque_server::{
    derive_key_pair, ke2, ke2_with, registration_response, KeyPair, Randomness, Setting,
};
use curve25519_dalek::scalar::Scalar;
use opaque_ke::{
    CipherSuite, ClientLogin, ClientLoginFinishParameters, ClientRegistration,
    ClientRegistrationFinishParameters, CredentialRequest, CredentialResponse, Identifiers,
    RegistrationRequest, RegistrationResponse, RegistrationUpload, Ristretto255, ServerLogin,
    ServerLoginParameters, ServerRegistration, ServerSetup, TripleDh,
};
use rand::rngs::OsRng;
use sha2::Sha512;

struct Oracle;

impl CipherSuite for Oracle {
    type OprfCs = Ristretto255;
    type KeyExchange = TripleDh<Ristretto255, Sha512>;
    type Ksf = Ksf;
}

const PASSWORD: &[u8] = b"correct horse";

fn evaluate(key: &Scalar, blinded: &[u8]) -> [u8; 32] {
    encode("evaluation", &(element("blinded", blinded).unwrap() * key)).unwrap()
}

#[test]
fn our_client_registers_and_logs_in_at_the_oracle() {
    let setup = ServerSetup::<Oracle>::new(&mut OsRng);
    let started = registration_start(PASSWORD).unwrap();
    let request = RegistrationRequest::<Oracle>::deserialize(&started.message).unwrap();
    let response = ServerRegistration::start(&setup, request, b"id")
        .unwrap()
        .message
        .serialize();
    let registered =
        registration_finish(&*started.state, PASSWORD, &response, Ksf::Argon2id).unwrap();
    let upload = RegistrationUpload::<Oracle>::deserialize(&registered.record).unwrap();
    let file = ServerRegistration::finish(upload);

    let login = login_start(PASSWORD).unwrap();
    let request = CredentialRequest::<Oracle>::deserialize(&login.message).unwrap();
    let answer = ServerLogin::start(
        &mut OsRng,
        &setup,
        Some(file),
        request,
        b"id",
        ServerLoginParameters::default(),
    )
    .unwrap();
    let ke2 = answer.message.serialize();
    let opened = login_finish(&*login.state, PASSWORD, &ke2, Ksf::Argon2id).unwrap();
    assert_eq!(*opened.export_key, *registered.export_key);
    assert_eq!(opened.server_public_key, registered.server_public_key);
    let wrong_ksf = login_finish(&*login.state, PASSWORD, &ke2, Ksf::Identity);
    assert_eq!(wrong_ksf.err(), Some(ClientError::DoesNotOpen));
}

#[test]
fn the_oracles_client_opens_our_ke2_under_any_context_and_identities() {
    let key = Scalar::random(&mut OsRng);
    let (private, public) = derive_key_pair(&[7; 32]).unwrap();
    let settings = [
        (&b""[..], None, None),
        (&b"context"[..], None, None),
        (&b""[..], Some(&b"alice"[..]), None),
        (&b"context"[..], Some(&b"alice"[..]), Some(&b"vault"[..])),
    ];
    for (context, client_identity, server_identity) in settings {
        let identifiers = Identifiers {
            client: client_identity,
            server: server_identity,
        };
        let start = ClientRegistration::<Oracle>::start(&mut OsRng, PASSWORD).unwrap();
        let evaluated = evaluate(&key, &start.message.serialize());
        let response = registration_response(&evaluated, &public).unwrap();
        let finish = start
            .state
            .finish(
                &mut OsRng,
                PASSWORD,
                RegistrationResponse::deserialize(&response).unwrap(),
                ClientRegistrationFinishParameters::new(identifiers, Some(&Ksf::Identity)),
            )
            .unwrap();
        let record = finish.message.serialize();

        let login = ClientLogin::<Oracle>::start(&mut OsRng, PASSWORD).unwrap();
        let ke1 = login.message.serialize();
        let ke2 = ke2_with(
            &Randomness::fresh(),
            Setting {
                context,
                client_identity,
                server_identity,
            },
            &ke1,
            &record,
            &evaluate(&key, &ke1[..32]),
            KeyPair {
                private: &*private,
                public: &public,
            },
        )
        .unwrap();
        let open = |context: &[u8]| {
            login.state.clone().finish(
                &mut OsRng,
                PASSWORD,
                CredentialResponse::deserialize(&ke2).unwrap(),
                ClientLoginFinishParameters::new(Some(context), identifiers, Some(&Ksf::Identity)),
            )
        };
        let opened = open(context).unwrap();
        assert_eq!(opened.export_key, finish.export_key);
        assert!(open(b"another context").is_err());
    }
}

#[test]
fn every_ke2_is_fresh_and_evaluates_the_same_element() {
    let key = Scalar::random(&mut OsRng);
    let (private, public) = derive_key_pair(&[9; 32]).unwrap();
    let keys = KeyPair {
        private: &*private,
        public: &public,
    };
    let started = registration_start(PASSWORD).unwrap();
    let response = registration_response(&evaluate(&key, &started.message), &public).unwrap();
    let registered =
        registration_finish(&*started.state, PASSWORD, &response, Ksf::Identity).unwrap();
    let login = login_start(PASSWORD).unwrap();
    let evaluated = evaluate(&key, &login.message[..32]);
    let [first, second] =
        [(); 2].map(|()| ke2(&login.message, &registered.record, &evaluated, keys).unwrap());
    assert_eq!(first[..32], second[..32]);
    for fresh in [32..64, 64..192, 192..224, 224..256, 256..320] {
        assert_ne!(first[fresh.clone()], second[fresh]);
    }
    for answer in [first, second] {
        let opened = login_finish(&*login.state, PASSWORD, &answer, Ksf::Identity).unwrap();
        assert_eq!(*opened.export_key, *registered.export_key);
    }
}

#[test]
fn a_reflected_element_does_not_open() {
    let (private, public) = derive_key_pair(&[9; 32]).unwrap();
    let keys = KeyPair {
        private: &*private,
        public: &public,
    };
    let started = registration_start(PASSWORD).unwrap();
    let key = Scalar::random(&mut OsRng);
    let response = registration_response(&evaluate(&key, &started.message), &public).unwrap();
    let registered =
        registration_finish(&*started.state, PASSWORD, &response, Ksf::Identity).unwrap();
    let login = login_start(PASSWORD).unwrap();
    let reflected = ke2(
        &login.message,
        &registered.record,
        &login.message[..32],
        keys,
    )
    .unwrap();
    let result = login_finish(&*login.state, PASSWORD, &reflected, Ksf::Identity);
    assert_eq!(result.err(), Some(ClientError::DoesNotOpen));
}
