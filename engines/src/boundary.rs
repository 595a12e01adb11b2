//! The Python face of everything but Raft: converts arguments, releases the GIL where a call is
//! heavy, turns errors into exceptions. Decides nothing; `_engines.pyi` is its specification.
//! A Rust panic becomes RuntimeError, never a dead interpreter: these functions keep no state.

use std::panic::{catch_unwind, AssertUnwindSafe};

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyOverflowError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::dleq::{self, Binding};
use crate::group::{self, Malformed};
use crate::opaque_client::{self, ClientError, Ksf};
use crate::opaque_server::{self, KeyPair};
use crate::threshold::{self, Scheme, Verdict};
use crate::{enc as encoding, sign};

create_exception!(
    engines._engines,
    OpaqueOpenError,
    PyException,
    "The envelope or the server's MAC did not verify under this password."
);

impl From<Malformed> for PyErr {
    fn from(error: Malformed) -> Self {
        PyValueError::new_err(error.to_string())
    }
}

impl From<ClientError> for PyErr {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Malformed(error) => error.into(),
            ClientError::DoesNotOpen => OpaqueOpenError::new_err(error.to_string()),
        }
    }
}

/// Run `work` without the GIL.
fn heavy<T: Send, E: Send + Into<PyErr>>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, E> + Send,
) -> PyResult<T> {
    match py.detach(|| catch_unwind(AssertUnwindSafe(work))) {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err(PyRuntimeError::new_err(
            "internal error in the cryptographic engine; its reason is on stderr",
        )),
    }
}

type Bytes<'py> = Bound<'py, PyBytes>;

/// A seat as Python gives it: an integer outside 0…255 is no seat, which is 0 inside.
struct Seat(u8);

impl<'py> FromPyObject<'_, 'py> for Seat {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match object.extract::<u8>() {
            Ok(seat) => Ok(Self(seat)),
            Err(error) if error.is_instance_of::<PyOverflowError>(object.py()) => Ok(Self(0)),
            Err(error) => Err(error),
        }
    }
}

type Shares = Vec<(Seat, PyBackedBytes)>;
type SubsetPrfs = Vec<(PyBackedBytes, PyBackedBytes)>;

fn borrowed(shares: &Shares) -> Vec<(u8, &[u8])> {
    shares
        .iter()
        .map(|(seat, bytes)| (seat.0, &**bytes))
        .collect()
}

fn borrowed_prfs(prfs: &SubsetPrfs) -> Vec<(&[u8], &[u8])> {
    prfs.iter().map(|(seats, prf)| (&**seats, &**prf)).collect()
}

#[pyfunction]
fn enc<'py>(py: Python<'py>, label: &str, fields: Vec<PyBackedBytes>) -> PyResult<Bytes<'py>> {
    let fields: Vec<&[u8]> = fields.iter().map(|field| &**field).collect();
    Ok(PyBytes::new(py, &encoding::enc(label, &fields)?))
}

#[pyfunction]
fn ed25519_public_key<'py>(py: Python<'py>, seed: &[u8]) -> PyResult<Bytes<'py>> {
    Ok(PyBytes::new(py, &sign::public_key(seed)?))
}

#[pyfunction]
fn ed25519_sign<'py>(py: Python<'py>, seed: &[u8], message: &[u8]) -> PyResult<Bytes<'py>> {
    Ok(PyBytes::new(py, &sign::sign(seed, message)?))
}

#[pyfunction]
fn ed25519_verify(public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    sign::verify(public_key, message, signature)
}

#[pyfunction]
fn ed25519_is_usable(public_key: &[u8]) -> bool {
    sign::is_usable(public_key)
}

#[pyfunction]
fn element_is_valid(element: &[u8]) -> bool {
    group::element_is_valid(element)
}

#[pyfunction]
fn threshold_share<'py>(
    py: Python<'py>,
    seat: Seat,
    n: Seat,
    t: Seat,
    subset_prfs: SubsetPrfs,
    element: &[u8],
) -> PyResult<Bytes<'py>> {
    let share = heavy(py, || {
        let scheme = Scheme::new(n.0, t.0)?;
        threshold::share(scheme, seat.0, &borrowed_prfs(&subset_prfs), element)
    })?;
    Ok(PyBytes::new(py, &share))
}

#[pyfunction]
#[allow(
    clippy::too_many_arguments,
    reason = "the protocol's own list, as in the .pyi"
)]
fn threshold_share_proven<'py>(
    py: Python<'py>,
    cluster_id: &[u8],
    registration_id: &[u8],
    seat: Seat,
    n: Seat,
    t: Seat,
    subset_prfs: SubsetPrfs,
    element: &[u8],
) -> PyResult<(Bytes<'py>, Bytes<'py>, Bytes<'py>)> {
    let proven = heavy(py, || {
        let binding = Binding {
            cluster_id,
            registration_id,
            seat: seat.0,
        };
        let scheme = Scheme::new(n.0, t.0)?;
        dleq::share_proven(binding, scheme, &borrowed_prfs(&subset_prfs), element)
    })?;
    Ok((
        PyBytes::new(py, &proven.share),
        PyBytes::new(py, &proven.point),
        PyBytes::new(py, &proven.proof),
    ))
}

#[pyfunction]
#[allow(
    clippy::too_many_arguments,
    reason = "the protocol's own list, as in the .pyi"
)]
fn threshold_verify(
    py: Python<'_>,
    cluster_id: &[u8],
    registration_id: &[u8],
    seat: Seat,
    element: &[u8],
    share: &[u8],
    point: &[u8],
    proof: &[u8],
) -> PyResult<bool> {
    heavy(py, || {
        let binding = Binding {
            cluster_id,
            registration_id,
            seat: seat.0,
        };
        Ok::<_, Malformed>(dleq::verify(binding, element, share, point, proof))
    })
}

#[pyfunction]
fn threshold_combine(py: Python<'_>, shares: Shares) -> PyResult<Bytes<'_>> {
    let evaluation = heavy(py, || threshold::combine(&borrowed(&shares)))?;
    Ok(PyBytes::new(py, &evaluation))
}

#[pyfunction]
fn threshold_consistent(py: Python<'_>, t: Seat, shares: Shares) -> PyResult<bool> {
    heavy(py, || threshold::consistent(t.0, &borrowed(&shares)))
}

#[pyfunction]
fn threshold_liars(
    py: Python<'_>,
    t: Seat,
    shares: Shares,
) -> PyResult<(Option<Bytes<'_>>, Vec<u16>)> {
    match heavy(py, || threshold::liars(t.0, &borrowed(&shares)))? {
        Verdict::Undecided => Ok((None, Vec::new())),
        // u16: a Vec<u8> would arrive in Python as bytes.
        Verdict::Evaluation(evaluation, liars) => Ok((
            Some(PyBytes::new(py, &evaluation)),
            liars.into_iter().map(u16::from).collect(),
        )),
    }
}

#[pyfunction]
fn opaque_derive_key_pair<'py>(py: Python<'py>, seed: &[u8]) -> PyResult<(Bytes<'py>, Bytes<'py>)> {
    let (private, public) = heavy(py, || opaque_server::derive_key_pair(seed))?;
    Ok((PyBytes::new(py, &*private), PyBytes::new(py, &public)))
}

#[pyfunction]
fn opaque_registration_response<'py>(
    py: Python<'py>,
    evaluated: &[u8],
    server_public_key: &[u8],
) -> PyResult<Bytes<'py>> {
    let response = opaque_server::registration_response(evaluated, server_public_key)?;
    Ok(PyBytes::new(py, &response))
}

#[pyfunction]
fn opaque_ke2<'py>(
    py: Python<'py>,
    ke1: &[u8],
    record: &[u8],
    evaluated: &[u8],
    server_private_key: &[u8],
    server_public_key: &[u8],
) -> PyResult<Bytes<'py>> {
    let ke2 = heavy(py, || {
        let server = KeyPair {
            private: server_private_key,
            public: server_public_key,
        };
        opaque_server::ke2(ke1, record, evaluated, server)
    })?;
    Ok(PyBytes::new(py, &ke2))
}

fn ksf(hazmat_identity_ksf: bool) -> Ksf {
    if hazmat_identity_ksf {
        Ksf::Identity
    } else {
        Ksf::Argon2id
    }
}

#[pyfunction]
fn opaque_registration_start<'py>(
    py: Python<'py>,
    password: &[u8],
) -> PyResult<(Bytes<'py>, Bytes<'py>)> {
    let started = heavy(py, || opaque_client::registration_start(password))?;
    Ok((
        PyBytes::new(py, &*started.state),
        PyBytes::new(py, &started.message),
    ))
}

#[pyfunction]
#[pyo3(signature = (state, password, response, *, hazmat_identity_ksf = false))]
fn opaque_registration_finish<'py>(
    py: Python<'py>,
    state: &[u8],
    password: &[u8],
    response: &[u8],
    hazmat_identity_ksf: bool,
) -> PyResult<(Bytes<'py>, Bytes<'py>, Bytes<'py>)> {
    let registered = heavy(py, || {
        opaque_client::registration_finish(state, password, response, ksf(hazmat_identity_ksf))
    })?;
    Ok((
        PyBytes::new(py, &registered.record),
        PyBytes::new(py, &*registered.export_key),
        PyBytes::new(py, &registered.server_public_key),
    ))
}

#[pyfunction]
fn opaque_login_start<'py>(py: Python<'py>, password: &[u8]) -> PyResult<(Bytes<'py>, Bytes<'py>)> {
    let started = heavy(py, || opaque_client::login_start(password))?;
    Ok((
        PyBytes::new(py, &*started.state),
        PyBytes::new(py, &started.message),
    ))
}

#[pyfunction]
#[pyo3(signature = (state, password, ke2, *, hazmat_identity_ksf = false))]
fn opaque_login_finish<'py>(
    py: Python<'py>,
    state: &[u8],
    password: &[u8],
    ke2: &[u8],
    hazmat_identity_ksf: bool,
) -> PyResult<(Bytes<'py>, Bytes<'py>)> {
    let opened = heavy(py, || {
        opaque_client::login_finish(state, password, ke2, ksf(hazmat_identity_ksf))
    })?;
    Ok((
        PyBytes::new(py, &*opened.export_key),
        PyBytes::new(py, &opened.server_public_key),
    ))
}

/// Put every function of this file into the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("OpaqueOpenError", module.py().get_type::<OpaqueOpenError>())?;
    module.add_function(wrap_pyfunction!(enc, module)?)?;
    module.add_function(wrap_pyfunction!(ed25519_public_key, module)?)?;
    module.add_function(wrap_pyfunction!(ed25519_sign, module)?)?;
    module.add_function(wrap_pyfunction!(ed25519_verify, module)?)?;
    module.add_function(wrap_pyfunction!(ed25519_is_usable, module)?)?;
    module.add_function(wrap_pyfunction!(element_is_valid, module)?)?;
    module.add_function(wrap_pyfunction!(threshold_share, module)?)?;
    module.add_function(wrap_pyfunction!(threshold_share_proven, module)?)?;
    module.add_function(wrap_pyfunction!(threshold_verify, module)?)?;
    module.add_function(wrap_pyfunction!(threshold_combine, module)?)?;
    module.add_function(wrap_pyfunction!(threshold_consistent, module)?)?;
    module.add_function(wrap_pyfunction!(threshold_liars, module)?)?;
    module.add_function(wrap_pyfunction!(opaque_derive_key_pair, module)?)?;
    module.add_function(wrap_pyfunction!(opaque_registration_response, module)?)?;
    module.add_function(wrap_pyfunction!(opaque_ke2, module)?)?;
    module.add_function(wrap_pyfunction!(opaque_registration_start, module)?)?;
    module.add_function(wrap_pyfunction!(opaque_registration_finish, module)?)?;
    module.add_function(wrap_pyfunction!(opaque_login_start, module)?)?;
    module.add_function(wrap_pyfunction!(opaque_login_finish, module)?)?;
    Ok(())
}
