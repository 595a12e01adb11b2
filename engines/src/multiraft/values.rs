//! What crosses the boundary: raft's entries, messages and states as plain Python values.
//! Converts and decides nothing.

use prost::Message as _;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use raft::eraftpb::{Entry, Message};

use super::group::{self, Group, PeerProgress, Taken};

/// (index, term, kind, data)
pub type PyEntry<'py> = (u64, u64, i32, Bound<'py, PyBytes>);
/// (shard, manifest, message)
pub type PyStaged<'py> = (u64, Bound<'py, PyBytes>, Bound<'py, PyBytes>);

#[pyclass(frozen, get_all, name = "Ready", module = "engines._engines")]
pub struct PyReady {
    number: u64,
    must_sync: bool,
    messages: Py<PyList>,
    persisted_messages: Py<PyList>,
    hard_state: Option<(u64, u64, u64)>,
    entries: Py<PyList>,
    committed: Py<PyList>,
    snapshot: Option<Py<PyBytes>>,
    leader: Option<u64>,
    role: Option<u8>,
}

#[pyclass(frozen, get_all, module = "engines._engines")]
pub struct GroupStatus {
    role: u8,
    term: u64,
    vote: u64,
    leader: u64,
    commit: u64,
    applied: u64,
    first_index: u64,
    last_index: u64,
    transferring_to: u64,
    voters: Vec<u64>,
    learners: Vec<u64>,
    progress: Vec<PeerProgress>,
}

pub fn entry_from((index, term, kind, data): &PyEntry<'_>) -> Entry {
    Entry {
        index: *index,
        term: *term,
        entry_type: *kind,
        data: data.as_bytes().to_vec(),
        ..Entry::default()
    }
}

pub fn ready_to_python(py: Python<'_>, taken: Taken) -> PyResult<PyReady> {
    Ok(PyReady {
        number: taken.number,
        must_sync: taken.must_sync,
        messages: messages_to_python(py, &taken.messages)?,
        persisted_messages: messages_to_python(py, &taken.persisted_messages)?,
        hard_state: taken.hard_state,
        entries: entries_to_python(py, &taken.entries)?,
        committed: entries_to_python(py, &taken.committed)?,
        snapshot: taken
            .snapshot
            .map(|manifest| PyBytes::new(py, &manifest).unbind()),
        leader: taken.soft_state.map(|(leader, _)| leader),
        role: taken.soft_state.map(|(_, role)| role),
    })
}

fn messages_to_python(py: Python<'_>, messages: &[Message]) -> PyResult<Py<PyList>> {
    let encoded = messages
        .iter()
        .map(|message| (message.to, PyBytes::new(py, &message.encode_to_vec())));
    Ok(PyList::new(py, encoded.collect::<Vec<_>>())?.unbind())
}

fn entries_to_python(py: Python<'_>, entries: &[Entry]) -> PyResult<Py<PyList>> {
    let tuples = entries.iter().map(|entry| {
        let data = PyBytes::new(py, &entry.data);
        (entry.index, entry.term, entry.entry_type, data)
    });
    Ok(PyList::new(py, tuples.collect::<Vec<_>>())?.unbind())
}

pub fn status(group: &Group) -> GroupStatus {
    let (voters, learners) = group.members();
    let raft = group.raft();
    GroupStatus {
        role: group::role_number(raft.state),
        term: raft.term,
        vote: raft.vote,
        leader: raft.leader_id,
        commit: raft.raft_log.committed,
        applied: raft.raft_log.applied,
        first_index: raft.raft_log.first_index(),
        last_index: raft.raft_log.last_index(),
        transferring_to: raft.lead_transferee.unwrap_or(0),
        voters,
        learners,
        progress: group.progress(),
    }
}
