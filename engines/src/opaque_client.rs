//! The client's half of OPAQUE: `opaque-ke` 4 in the vault's profile (crypto.md): ristretto255,
//! 3DH, SHA-512, empty context, identities = public keys, Argon2id as key stretching. The
//! library's own deserialisers tolerate trailing bytes; here every length is exact.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use generic_array::{ArrayLength, GenericArray};
use opaque_ke::errors::{InternalError, ProtocolError};
use opaque_ke::{
    CipherSuite, ClientLogin, ClientLoginFinishParameters, ClientRegistration,
    ClientRegistrationFinishParameters, CredentialResponse, Identifiers, RegistrationResponse,
    Ristretto255, TripleDh,
};
use rand::rngs::OsRng;
use sha2::Sha512;
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

use crate::group::{exact, Malformed, ELEMENT_BYTES, HASH_BYTES, SCALAR_BYTES};
use crate::opaque_server::{KE1_BYTES, KE2_BYTES, RECORD_BYTES, RESPONSE_BYTES};

/// Blind ‖ blinded element.
pub const REGISTRATION_STATE_BYTES: usize = SCALAR_BYTES + ELEMENT_BYTES;
/// Blind ‖ KE1 ‖ ephemeral private key ‖ client nonce.
pub const LOGIN_STATE_BYTES: usize = SCALAR_BYTES + KE1_BYTES + SCALAR_BYTES + 32;

/// RFC 9497 frames an OPRF input with two bytes of length; the library would notice a longer
/// password only in the last step, when the guess is already spent.
pub const MAX_PASSWORD_BYTES: usize = 65_535;

const ARGON2_MEMORY_KIB: u32 = 65_536;
const ARGON2_PASSES: u32 = 3;
const ARGON2_LANES: u32 = 4;
const ARGON2_SALT: [u8; 16] = [0; 16];

/// The key-stretching function. `Identity` is for load clients alone: it makes a stolen record
/// as cheap to guess against as the password is weak.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ksf {
    #[default]
    Argon2id,
    Identity,
}

impl opaque_ke::ksf::Ksf for Ksf {
    fn hash<L: ArrayLength<u8>>(
        &self,
        input: GenericArray<u8, L>,
    ) -> Result<GenericArray<u8, L>, InternalError> {
        match self {
            Self::Identity => Ok(input),
            Self::Argon2id => {
                let mut output = GenericArray::default();
                argon2id(&input, &mut output).map_err(|_| InternalError::KsfError)?;
                Ok(output)
            }
        }
    }
}

/// The profile's Argon2id over memory that is wiped afterwards.
fn argon2id(input: &[u8], output: &mut [u8]) -> Result<(), argon2::Error> {
    let params = Params::new(
        ARGON2_MEMORY_KIB,
        ARGON2_PASSES,
        ARGON2_LANES,
        Some(output.len()),
    )?;
    let mut memory = vec![Block::default(); params.block_count()];
    let result = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(input, &ARGON2_SALT, output, &mut memory);
    memory.iter_mut().for_each(Zeroize::zeroize);
    result
}

struct Suite;

impl CipherSuite for Suite {
    type OprfCs = Ristretto255;
    type KeyExchange = TripleDh<Ristretto255, Sha512>;
    type Ksf = Ksf;
}

/// Why a client step failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientError {
    Malformed(Malformed),
    /// The envelope or the server's MAC did not verify under this password.
    DoesNotOpen,
}

impl fmt::Display for ClientError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => error.fmt(formatter),
            Self::DoesNotOpen => {
                formatter.write_str("KE2 does not open: a wrong password, or a wrong share in it")
            }
        }
    }
}

impl std::error::Error for ClientError {}

impl From<Malformed> for ClientError {
    fn from(error: Malformed) -> Self {
        Self::Malformed(error)
    }
}

fn malformed(name: &str) -> impl Fn(ProtocolError) -> ClientError + '_ {
    move |error| ClientError::Malformed(Malformed::new(format!("{name}: {error}")))
}

fn checked(password: &[u8]) -> Result<&[u8], Malformed> {
    if password.len() > MAX_PASSWORD_BYTES {
        return Err(Malformed::new(format!(
            "password must be at most {MAX_PASSWORD_BYTES} bytes, not {}",
            password.len()
        )));
    }
    Ok(password)
}

/// A client state and the message to send.
pub struct Started<const N: usize, const M: usize> {
    pub state: Zeroizing<[u8; N]>,
    pub message: [u8; M],
}

/// What a finished registration gives.
pub struct Registered {
    pub record: [u8; RECORD_BYTES],
    pub export_key: Zeroizing<[u8; HASH_BYTES]>,
    pub server_public_key: [u8; ELEMENT_BYTES],
}

/// What an opened login gives.
pub struct Opened {
    pub export_key: Zeroizing<[u8; HASH_BYTES]>,
    pub server_public_key: [u8; ELEMENT_BYTES],
}

/// Blind the password for a registration.
pub fn registration_start(
    password: &[u8],
) -> Result<Started<REGISTRATION_STATE_BYTES, ELEMENT_BYTES>, ClientError> {
    let start = ClientRegistration::<Suite>::start(&mut OsRng, checked(password)?)
        .map_err(malformed("password"))?;
    let mut state = start.state.serialize();
    let started = Started {
        state: Zeroizing::new(*exact("registration state", &state)?),
        message: *exact("registration request", &start.message.serialize())?,
    };
    state.zeroize();
    Ok(started)
}

/// Make the record from the server's response. Stretches the password.
pub fn registration_finish(
    state: &[u8],
    password: &[u8],
    response: &[u8],
    ksf: Ksf,
) -> Result<Registered, ClientError> {
    let state = exact::<REGISTRATION_STATE_BYTES>("registration state", state)?;
    let response = exact::<RESPONSE_BYTES>("registration response", response)?;
    let client =
        ClientRegistration::<Suite>::deserialize(state).map_err(malformed("registration state"))?;
    let response = RegistrationResponse::<Suite>::deserialize(response)
        .map_err(malformed("registration response"))?;
    let parameters = ClientRegistrationFinishParameters::new(Identifiers::default(), Some(&ksf));
    let mut finish = client
        .finish(&mut OsRng, checked(password)?, response, parameters)
        .map_err(malformed("registration response"))?;
    let registered = Registered {
        record: *exact("OPAQUE record", &finish.message.serialize())?,
        export_key: Zeroizing::new(*exact("export_key", &finish.export_key)?),
        server_public_key: *exact("server public key", &finish.server_s_pk.serialize())?,
    };
    finish.export_key.zeroize();
    Ok(registered)
}

/// Blind the password for a login: KE1.
pub fn login_start(password: &[u8]) -> Result<Started<LOGIN_STATE_BYTES, KE1_BYTES>, ClientError> {
    let start = ClientLogin::<Suite>::start(&mut OsRng, checked(password)?)
        .map_err(malformed("password"))?;
    let mut state = start.state.serialize();
    let started = Started {
        state: Zeroizing::new(*exact("login state", &state)?),
        message: *exact("KE1", &start.message.serialize())?,
    };
    state.zeroize();
    Ok(started)
}

/// Open KE2. Stretches the password.
///
/// An element reflected by the server counts as a KE2 that does not open: it is well-formed, and
/// only a wrong share can bring it about.
pub fn login_finish(
    state: &[u8],
    password: &[u8],
    ke2: &[u8],
    ksf: Ksf,
) -> Result<Opened, ClientError> {
    let state = exact::<LOGIN_STATE_BYTES>("login state", state)?;
    let ke2 = exact::<KE2_BYTES>("KE2", ke2)?;
    let client = ClientLogin::<Suite>::deserialize(state).map_err(malformed("login state"))?;
    let response = CredentialResponse::<Suite>::deserialize(ke2).map_err(malformed("KE2"))?;
    let parameters = ClientLoginFinishParameters::new(None, Identifiers::default(), Some(&ksf));
    let mut finish = client
        .finish(&mut OsRng, checked(password)?, response, parameters)
        .map_err(|error| match error {
            ProtocolError::InvalidLoginError | ProtocolError::ReflectedValueError => {
                ClientError::DoesNotOpen
            }
            other => malformed("KE2")(other),
        })?;
    let opened = Opened {
        export_key: Zeroizing::new(*exact("export_key", &finish.export_key)?),
        server_public_key: *exact("server public key", &finish.server_s_pk.serialize())?,
    };
    finish.export_key.zeroize();
    finish.session_key.zeroize();
    Ok(opened)
}
