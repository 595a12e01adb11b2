//! The two engines behind a narrow bytes-in, bytes-out boundary (design section 4):
//! Raft (`multiraft`) and everything that touches group elements (`group`, `threshold`, `dleq`,
//! `opaque_server`, `opaque_client`), with the encoding and the signatures that go with it
//! (`enc`, `sign`). What each function takes, returns and raises is written once, in
//! `_engines.pyi`; `boundary` turns these pure modules into that interface and decides nothing.

pub mod dleq;
pub mod enc;
pub mod group;
pub mod opaque_client;
pub mod opaque_server;
pub mod sign;
pub mod threshold;

#[cfg(feature = "python")]
mod boundary;
#[cfg(feature = "python")]
mod multiraft;

#[cfg(feature = "python")]
#[pyo3::pymodule]
fn _engines(module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
    boundary::register(module)?;
    multiraft::register(module)?;
    Ok(())
}
