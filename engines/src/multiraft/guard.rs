//! Keeps a broken Raft core from living on (I8): a panic, a second thread or a re-entered call
//! ends the process with a reason. A Python exception would leave a half-changed core alive.

use std::any::Any;
use std::panic::{catch_unwind, AssertUnwindSafe};

/// Runs one entry point; a panic inside it ends the process.
pub fn or_abort<T>(entry: &str, body: impl FnOnce() -> T) -> T {
    // The panic hook has already printed the message and its place when `Err` comes back.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(value) => value,
        Err(payload) => stop(entry, reason(payload.as_ref())),
    }
}

/// Ends the process and says why on stderr.
pub fn stop(entry: &str, reason: &str) -> ! {
    eprintln!(
        "engines: MultiRaft.{entry}: {reason}; the process stops because its Raft state can no \
         longer be trusted: restart the node, and keep this line if it stops again"
    );
    std::process::abort()
}

fn reason(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("panicked without a message")
}
