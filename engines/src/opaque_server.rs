//! The server's half of OPAQUE-3DH (RFC 9807) with ristretto255-SHA512, HKDF-SHA-512 and
//! HMAC-SHA-512, from an already evaluated element: the OPRF key exists nowhere (`threshold`),
//! so the usual libraries, which want to evaluate by themselves, do not fit.
//!
//! No session is kept: KE3 is never sent, so the session key and the expected client MAC are
//! not computed. Every KE2 takes fresh randomness; a retry's differs in bytes but evaluates the
//! same element (I5). The fixed-nonce form is for the RFC's vectors.

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use rand::rngs::OsRng;
use rand::RngCore;
use sha2::{Digest, Sha512};
use zeroize::{Zeroize, Zeroizing};

use crate::group::{
    derive_scalar, element, exact, kept, secret_scalar, Malformed, ELEMENT_BYTES, HASH_BYTES,
};

pub const NONCE_BYTES: usize = 32;
pub const SEED_BYTES: usize = 32;
pub const KE1_BYTES: usize = 96;
pub const KE2_BYTES: usize = 320;
pub const RECORD_BYTES: usize = 192;
pub const RESPONSE_BYTES: usize = 2 * ELEMENT_BYTES;
const ENVELOPE_BYTES: usize = NONCE_BYTES + HASH_BYTES;
/// server_public_key ‖ envelope, masked.
const MASKED_BYTES: usize = ELEMENT_BYTES + ENVELOPE_BYTES;

/// The server's long-term key pair as bytes.
#[derive(Clone, Copy)]
pub struct KeyPair<'a> {
    pub private: &'a [u8],
    pub public: &'a [u8],
}

/// What client and server agree on beforehand; an absent identity is the party's public key.
#[derive(Clone, Copy, Default)]
pub struct Setting<'a> {
    pub context: &'a [u8],
    pub client_identity: Option<&'a [u8]>,
    pub server_identity: Option<&'a [u8]>,
}

/// The randomness of one KE2. Used twice with one KE1 it repeats the KE2, so it is drawn anew.
pub struct Randomness {
    pub masking_nonce: [u8; NONCE_BYTES],
    pub server_nonce: [u8; NONCE_BYTES],
    pub keyshare_seed: Zeroizing<[u8; SEED_BYTES]>,
}

impl Randomness {
    /// From the operating system.
    #[must_use]
    pub fn fresh() -> Self {
        let mut fresh = Self {
            masking_nonce: [0; NONCE_BYTES],
            server_nonce: [0; NONCE_BYTES],
            keyshare_seed: Zeroizing::new([0; SEED_BYTES]),
        };
        OsRng.fill_bytes(&mut fresh.masking_nonce);
        OsRng.fill_bytes(&mut fresh.server_nonce);
        OsRng.fill_bytes(&mut *fresh.keyshare_seed);
        fresh
    }
}

fn derive_pair(seed: &[u8; SEED_BYTES]) -> Result<(Zeroizing<Scalar>, [u8; 32]), Malformed> {
    let private = derive_scalar(seed, b"OPAQUE-DeriveDiffieHellmanKeyPair")?;
    let public = RistrettoPoint::mul_base(&private).compress().to_bytes();
    Ok((private, public))
}

/// DeriveDiffieHellmanKeyPair: (private, public).
pub fn derive_key_pair(seed: &[u8]) -> Result<(Zeroizing<[u8; 32]>, [u8; 32]), Malformed> {
    let (private, public) = derive_pair(exact::<SEED_BYTES>("key pair seed", seed)?)?;
    Ok((Zeroizing::new(private.to_bytes()), public))
}

/// RegistrationResponse: evaluated element ‖ server public key.
pub fn registration_response(
    evaluated: &[u8],
    server_public_key: &[u8],
) -> Result<[u8; RESPONSE_BYTES], Malformed> {
    element("evaluated element", evaluated)?;
    element("server public key", server_public_key)?;
    let mut response = [0; RESPONSE_BYTES];
    response[..ELEMENT_BYTES].copy_from_slice(evaluated);
    response[ELEMENT_BYTES..].copy_from_slice(server_public_key);
    Ok(response)
}

/// KE2 for the vault's profile: empty context, identities = public keys, fresh randomness.
pub fn ke2(
    ke1: &[u8],
    record: &[u8],
    evaluated: &[u8],
    server: KeyPair<'_>,
) -> Result<[u8; KE2_BYTES], Malformed> {
    ke2_with(
        &Randomness::fresh(),
        Setting::default(),
        ke1,
        record,
        evaluated,
        server,
    )
}

/// GenerateKE2 of RFC 9807 (section 6.2.2) with everything given.
pub fn ke2_with(
    randomness: &Randomness,
    setting: Setting<'_>,
    ke1: &[u8],
    record: &[u8],
    evaluated: &[u8],
    server: KeyPair<'_>,
) -> Result<[u8; KE2_BYTES], Malformed> {
    let ke1 = exact::<KE1_BYTES>("KE1", ke1)?;
    let record = exact::<RECORD_BYTES>("OPAQUE record", record)?;
    element("KE1's blinded element", &ke1[..ELEMENT_BYTES])?;
    let client_keyshare = element("KE1's key share", &ke1[ELEMENT_BYTES + NONCE_BYTES..])?;
    let (client_public_key, rest) = record.split_at(ELEMENT_BYTES);
    let (masking_key, envelope) = rest.split_at(HASH_BYTES);
    let client_key = element("OPAQUE record's client public key", client_public_key)?;
    element("evaluated element", evaluated)?;
    element("server public key", server.public)?;
    let private = secret_scalar("server private key", server.private)?;
    let (ephemeral, keyshare) = derive_pair(&randomness.keyshare_seed)?;

    let mut message = Vec::with_capacity(KE2_BYTES);
    message.extend_from_slice(evaluated);
    message.extend_from_slice(&randomness.masking_nonce);
    message.extend(masked(
        masking_key,
        &randomness.masking_nonce,
        server.public,
        envelope,
    )?);

    let mut preamble = Sha512::new().chain_update(b"OPAQUEv1-");
    update_sized(&mut preamble, setting.context)?;
    update_sized(
        &mut preamble,
        setting.client_identity.unwrap_or(client_public_key),
    )?;
    preamble.update(ke1);
    update_sized(
        &mut preamble,
        setting.server_identity.unwrap_or(server.public),
    )?;
    preamble.update(&message);
    preamble.update(randomness.server_nonce);
    preamble.update(keyshare);
    let transcript = preamble.finalize();

    let secrets = [
        client_keyshare * *ephemeral,
        client_keyshare * *private,
        client_key * *ephemeral,
    ];
    let mac_key = server_mac_key(secrets, &transcript)?;
    message.extend_from_slice(&randomness.server_nonce);
    message.extend_from_slice(&keyshare);
    message.extend_from_slice(&*hmac(&*mac_key, &transcript));
    Ok(*exact::<KE2_BYTES>("KE2", &message)?)
}

/// masked_response: (server_public_key ‖ envelope) XOR a pad from the record's masking key.
fn masked(
    masking_key: &[u8],
    nonce: &[u8],
    server_public_key: &[u8],
    envelope: &[u8],
) -> Result<[u8; MASKED_BYTES], Malformed> {
    let mut pad = [0; MASKED_BYTES];
    expand(masking_key, &[nonce, b"CredentialResponsePad"], &mut pad)?;
    for (byte, plain) in pad.iter_mut().zip(server_public_key.iter().chain(envelope)) {
        *byte ^= plain;
    }
    Ok(pad)
}

/// Km2 of the key schedule (RFC 9807 section 6.4.2) from the three Diffie-Hellman results.
fn server_mac_key(
    mut secrets: [RistrettoPoint; 3],
    transcript: &[u8],
) -> Result<Zeroizing<[u8; HASH_BYTES]>, Malformed> {
    let mut ikm = Zeroizing::new([0; 3 * ELEMENT_BYTES]);
    for (chunk, secret) in ikm.chunks_exact_mut(ELEMENT_BYTES).zip(&mut secrets) {
        let mut encoded = secret.compress();
        chunk.copy_from_slice(encoded.as_bytes());
        encoded.zeroize();
        secret.zeroize();
    }
    let prk = hmac(&[], &*ikm);
    let handshake = expand_label(&*prk, b"HandshakeSecret", transcript)?;
    expand_label(&*handshake, b"ServerMAC", b"")
}

/// Expand-Label of RFC 9807 (section 6.4.2.1), 64 bytes.
fn expand_label(
    secret: &[u8],
    label: &[u8],
    context: &[u8],
) -> Result<Zeroizing<[u8; HASH_BYTES]>, Malformed> {
    let too_long = |_| Malformed::new("Expand-Label: label or context too long");
    let label_bytes = u8::try_from(b"OPAQUE-".len() + label.len()).map_err(too_long)?;
    let context_bytes = u8::try_from(context.len()).map_err(too_long)?;
    let info: [&[u8]; 6] = [
        &[0, HASH_BYTES as u8],
        &[label_bytes],
        b"OPAQUE-",
        label,
        &[context_bytes],
        context,
    ];
    let mut out = Zeroizing::new([0; HASH_BYTES]);
    expand(secret, &info, &mut *out)?;
    Ok(out)
}

fn expand(prk: &[u8], info: &[&[u8]], out: &mut [u8]) -> Result<(), Malformed> {
    Hkdf::<Sha512>::from_prk(prk)
        .map_err(|_| Malformed::new("HKDF: the key must be at least 64 bytes"))?
        .expand_multi_info(info, out)
        .map_err(|_| Malformed::new("HKDF: output too long"))
}

/// HMAC-SHA-512, which is also HKDF-Extract with the key as salt.
fn hmac(key: &[u8], message: &[u8]) -> Zeroizing<[u8; HASH_BYTES]> {
    let mac = Hmac::<Sha512>::new_from_slice(key).expect("HMAC takes keys of any length");
    kept(mac.chain_update(message).finalize().into_bytes())
}

fn update_sized(hash: &mut Sha512, field: &[u8]) -> Result<(), Malformed> {
    let length = u16::try_from(field.len())
        .map_err(|_| Malformed::new("OPAQUE context or identity: at most 65,535 bytes"))?;
    hash.update(length.to_be_bytes());
    hash.update(field);
    Ok(())
}
