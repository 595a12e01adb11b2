//! The two engines behind a narrow bytes-in, bytes-out boundary (design section 4):
//! Raft (`multiraft`) and everything that touches group elements (`enc`, `threshold`,
//! `opaque_server`, `opaque_client`, `sign`). What each function takes, returns and raises
//! is written once, in `_engines.pyi`.

use pyo3::prelude::*;

#[pymodule]
fn _engines(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    Ok(())
}
