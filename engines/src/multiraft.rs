//! All Raft groups of one node behind one Python object (I4, I8). `_engines.pyi` says what each
//! call takes, returns and raises; raft-host.md says in which order the host makes them.
//!
//! - `group`: one group and the order of calls that raft-rs 0.7 needs;
//! - `storage`: its log in RAM, and snapshots only as the host built them;
//! - `values`: what it hands to Python;
//! - `wire`: which messages a peer may have stepped;
//! - `guard`: a panic or a second thread ends the process.
//!
//! No clock, disk, socket or hash map: the same calls give the same results, but for the
//! election timeouts, which the host overrides.

mod group;
mod guard;
mod storage;
mod values;
mod wire;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread::{self, ThreadId};

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use raft::eraftpb::MessageType;
use raft::Config;

use group::{Group, Refusal};
use storage::Stored;
use values::{entry_from, ready_to_python, status, GroupStatus, PyEntry, PyReady, PyStaged};
use wire::Inbound;

create_exception!(
    engines._engines,
    ProposalDropped,
    PyException,
    "Not the leader, a transfer is under way, or the uncommitted log is too large."
);

struct Core {
    config: Config,
    groups: BTreeMap<u64, Group>,
    /// Ticks since the last beat, at which all leaders send their heartbeats.
    since_beat: usize,
}

impl Core {
    fn group(&mut self, shard: u64) -> Result<&mut Group, Refusal> {
        self.groups
            .get_mut(&shard)
            .ok_or_else(|| Refusal::Value(format!("unknown shard {shard}")))
    }

    fn with_ready(&self) -> Vec<u64> {
        let ready = self.groups.iter().filter(|(_, group)| group.has_ready());
        ready.map(|(shard, _)| *shard).collect()
    }
}

#[pyclass(frozen, module = "engines._engines")]
struct MultiRaft {
    home: ThreadId,
    core: Mutex<Core>,
}

impl MultiRaft {
    fn enter<T>(
        &self,
        entry: &'static str,
        body: impl FnOnce(&mut Core) -> Result<T, Refusal>,
    ) -> PyResult<T> {
        if thread::current().id() != self.home {
            guard::stop(
                entry,
                "called from a second thread, one thread owns all groups",
            );
        }
        guard::or_abort(entry, || {
            let mut core = self.core.try_lock().expect("a call inside another call");
            body(&mut core)
        })
        .map_err(|refusal| raised(entry, refusal))
    }
}

fn raised(entry: &str, refusal: Refusal) -> PyErr {
    match refusal {
        Refusal::Value(why) => PyValueError::new_err(format!("MultiRaft.{entry}: {why}")),
        Refusal::Order(why) => PyRuntimeError::new_err(format!("MultiRaft.{entry}: {why}")),
        Refusal::Dropped(why) => ProposalDropped::new_err(format!("MultiRaft.{entry}: {why}")),
    }
}

#[pymethods]
impl MultiRaft {
    #[new]
    #[pyo3(signature = (node_id, *, heartbeat_tick, election_tick, min_election_tick,
        max_election_tick, max_size_per_msg, max_inflight, max_uncommitted,
        max_committed_per_ready))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        node_id: u64,
        heartbeat_tick: usize,
        election_tick: usize,
        min_election_tick: usize,
        max_election_tick: usize,
        max_size_per_msg: u64,
        max_inflight: usize,
        max_uncommitted: u64,
        max_committed_per_ready: u64,
    ) -> PyResult<Self> {
        let config = Config {
            id: node_id,
            heartbeat_tick,
            election_tick,
            min_election_tick,
            max_election_tick,
            max_size_per_msg,
            max_inflight_msgs: max_inflight,
            max_uncommitted_size: max_uncommitted,
            max_committed_size_per_ready: max_committed_per_ready,
            pre_vote: true,
            check_quorum: true,
            batch_append: true,
            // Followers learn of a commit at once, so that they can serve.
            skip_bcast_commit: false,
            // Anything else can deadlock elections.
            priority: 0,
            ..Config::default()
        };
        config
            .validate()
            .map_err(|error| PyValueError::new_err(format!("MultiRaft: {error}")))?;
        let core = Mutex::new(Core {
            config,
            groups: BTreeMap::new(),
            since_beat: 0,
        });
        Ok(MultiRaft {
            home: thread::current().id(),
            core,
        })
    }

    #[pyo3(signature = (shard, *, term, vote, commit, applied, truncated_index, truncated_term,
        voters, learners, entries))]
    #[allow(clippy::too_many_arguments)]
    fn add_group(
        &self,
        shard: u64,
        term: u64,
        vote: u64,
        commit: u64,
        applied: u64,
        truncated_index: u64,
        truncated_term: u64,
        voters: Vec<u64>,
        learners: Vec<u64>,
        entries: Vec<PyEntry<'_>>,
    ) -> PyResult<()> {
        let entries = entries.iter().map(entry_from).collect();
        self.enter("add_group", |core| {
            if core.groups.contains_key(&shard) {
                return Err(Refusal::Value(format!("shard {shard} is already here")));
            }
            let stored = Stored {
                term,
                vote,
                commit,
                applied,
                truncated_index,
                truncated_term,
                voters,
                learners,
                entries,
            };
            core.groups
                .insert(shard, Group::load(&core.config, stored)?);
            Ok(())
        })
    }

    fn shards(&self) -> PyResult<Vec<u64>> {
        self.enter("shards", |core| Ok(core.groups.keys().copied().collect()))
    }

    fn step_frame<'py>(
        &self,
        py: Python<'py>,
        from_node: u64,
        messages: Vec<(u64, Bound<'py, PyBytes>)>,
    ) -> PyResult<Vec<PyStaged<'py>>> {
        let staged = self.enter("step_frame", |core| {
            let to = core.config.id;
            let mut staged = Vec::new();
            for (shard, message) in messages {
                let cut = |why| Refusal::Value(format!("cut the link to node {from_node}: {why}"));
                let group = core
                    .groups
                    .get_mut(&shard)
                    .ok_or_else(|| cut(format!("unknown shard {shard}")))?;
                match wire::admit(message.as_bytes(), from_node, to)
                    .map_err(|why| cut(format!("shard {shard}: {why}")))?
                {
                    Inbound::Step(inner) => group.step(inner)?,
                    Inbound::Stage(snapshot) => staged.push((shard, snapshot.data, message)),
                    Inbound::Drop => (),
                }
            }
            Ok(staged)
        })?;
        let with_manifest = staged
            .into_iter()
            .map(|(shard, manifest, message)| (shard, PyBytes::new(py, &manifest), message));
        Ok(with_manifest.collect())
    }

    fn peek(&self, message: &[u8]) -> PyResult<(i32, u64, u64, u64, u64, u64, u64)> {
        self.enter("peek", |_| {
            let m = wire::decode(message).map_err(Refusal::Value)?;
            let (index, log_term) = match m.get_msg_type() {
                MessageType::MsgSnapshot => {
                    let metadata = m.get_snapshot().get_metadata();
                    (metadata.index, metadata.term)
                }
                _ => (m.index, m.log_term),
            };
            Ok((m.msg_type, m.from, m.to, m.term, index, log_term, m.commit))
        })
    }

    fn entries_of(&self, message: &[u8]) -> PyResult<Vec<(i32, Vec<u8>)>> {
        self.enter("entries_of", |_| {
            let m = wire::decode(message).map_err(Refusal::Value)?;
            Ok(m.entries
                .into_iter()
                .map(|entry| (entry.entry_type, entry.data.to_vec()))
                .collect())
        })
    }

    fn members_of(&self, message: &[u8]) -> PyResult<(Vec<u64>, Vec<u64>)> {
        self.enter("members_of", |_| {
            let m = wire::decode(message).map_err(Refusal::Value)?;
            let conf_state = m.get_snapshot().get_metadata().get_conf_state();
            Ok((conf_state.voters.clone(), conf_state.learners.clone()))
        })
    }

    fn step_snapshot(&self, shard: u64, message: &[u8]) -> PyResult<bool> {
        self.enter("step_snapshot", |core| {
            let to = core.config.id;
            let group = core.group(shard)?;
            let message = wire::decode(message).map_err(Refusal::Value)?;
            if message.get_msg_type() != MessageType::MsgSnapshot || message.to != to {
                return Err(Refusal::Value(format!("not a snapshot for node {to}")));
            }
            wire::check_snapshot(&message).map_err(Refusal::Value)?;
            group.step_snapshot(message)
        })
    }

    fn tick_all(&self) -> PyResult<Vec<u64>> {
        self.enter("tick_all", |core| {
            for (shard, group) in &mut core.groups {
                group.check_free().map_err(|refusal| at(*shard, refusal))?;
            }
            core.since_beat = (core.since_beat + 1) % core.config.heartbeat_tick;
            for group in core.groups.values_mut() {
                group.tick(core.since_beat == 0)?;
            }
            Ok(core.with_ready())
        })
    }

    fn campaign(&self, shard: u64) -> PyResult<()> {
        self.enter("campaign", |core| core.group(shard)?.campaign())
    }

    fn propose(&self, shard: u64, data: &[u8]) -> PyResult<(u64, u64)> {
        self.enter("propose", |core| core.group(shard)?.propose(data))
    }

    fn propose_conf_change(&self, shard: u64, data: &[u8]) -> PyResult<(u64, u64)> {
        self.enter("propose_conf_change", |core| {
            core.group(shard)?.propose_conf_change(data)
        })
    }

    fn apply_conf_change(
        &self,
        shard: u64,
        kind: i32,
        data: &[u8],
    ) -> PyResult<(Vec<u64>, Vec<u64>)> {
        self.enter("apply_conf_change", |core| {
            core.group(shard)?.apply_conf_change(kind, data)
        })
    }

    fn transfer_leader(&self, shard: u64, to: u64) -> PyResult<()> {
        self.enter("transfer_leader", |core| {
            core.group(shard)?.transfer_leader(to)
        })
    }

    fn report_unreachable(&self, shard: u64, node: u64) -> PyResult<()> {
        self.enter("report_unreachable", |core| {
            core.group(shard)?.report_unreachable(node)
        })
    }

    fn report_snapshot(&self, shard: u64, node: u64, ok: bool) -> PyResult<()> {
        self.enter("report_snapshot", |core| {
            core.group(shard)?.report_snapshot(node, ok)
        })
    }

    fn has_ready(&self) -> PyResult<Vec<u64>> {
        self.enter("has_ready", |core| Ok(core.with_ready()))
    }

    fn ready(&self, py: Python<'_>, shard: u64) -> PyResult<PyReady> {
        let taken = self.enter("ready", |core| core.group(shard)?.ready())?;
        ready_to_python(py, taken)
    }

    fn advance_append_async(&self, shard: u64) -> PyResult<()> {
        self.enter("advance_append_async", |core| {
            core.group(shard)?.advance_append_async()
        })
    }

    fn on_persist_ready(&self, shard: u64, number: u64) -> PyResult<()> {
        self.enter("on_persist_ready", |core| {
            core.group(shard)?.on_persist_ready(number)
        })
    }

    fn advance_apply_to(&self, shard: u64, index: u64) -> PyResult<()> {
        self.enter("advance_apply_to", |core| {
            core.group(shard)?.advance_apply_to(index)
        })
    }

    fn compact(&self, shard: u64, index: u64) -> PyResult<()> {
        self.enter("compact", |core| core.group(shard)?.compact(index))
    }

    fn set_snapshot(
        &self,
        shard: u64,
        manifest: &[u8],
        index: u64,
        term: u64,
        voters: Vec<u64>,
        learners: Vec<u64>,
    ) -> PyResult<()> {
        self.enter("set_snapshot", |core| {
            let members = wire::conf_state(voters, learners);
            core.group(shard)?
                .set_snapshot(manifest.to_vec(), (index, term), members)
        })
    }

    fn clear_snapshot(&self, shard: u64) -> PyResult<()> {
        self.enter("clear_snapshot", |core| {
            core.group(shard)?.clear_snapshot();
            Ok(())
        })
    }

    fn snapshots_wanted(&self) -> PyResult<Vec<(u64, u64)>> {
        self.enter("snapshots_wanted", |core| {
            let groups = core.groups.iter();
            Ok(groups
                .flat_map(|(shard, group)| group.take_wanted().map(|node| (*shard, node)))
                .collect())
        })
    }

    fn status(&self, shard: u64) -> PyResult<GroupStatus> {
        self.enter("status", |core| Ok(status(core.group(shard)?)))
    }

    fn election_timeout(&self, shard: u64) -> PyResult<(usize, usize)> {
        self.enter("election_timeout", |core| {
            Ok(core.group(shard)?.election_timeout())
        })
    }

    fn set_election_timeout(&self, shard: u64, ticks: usize) -> PyResult<()> {
        self.enter("set_election_timeout", |core| {
            let allowed = core.config.min_election_tick()..core.config.max_election_tick();
            if !allowed.contains(&ticks) {
                return Err(Refusal::Value(format!(
                    "{ticks} ticks are not in {allowed:?}"
                )));
            }
            core.group(shard)?.set_election_timeout(ticks);
            Ok(())
        })
    }

    fn set_reluctant(&self, shard: u64, reluctant: bool) -> PyResult<()> {
        self.enter("set_reluctant", |core| {
            core.group(shard)?.set_reluctant(reluctant)
        })
    }

    fn term_at(&self, shard: u64, index: u64) -> PyResult<Option<u64>> {
        self.enter("term_at", |core| Ok(core.group(shard)?.term_at(index)))
    }
}

fn at(shard: u64, refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::Value(why) => Refusal::Value(format!("shard {shard}: {why}")),
        Refusal::Order(why) => Refusal::Order(format!("shard {shard}: {why}")),
        Refusal::Dropped(why) => Refusal::Dropped(format!("shard {shard}: {why}")),
    }
}

#[pyfunction]
#[pyo3(signature = (changes, context = None))]
fn encode_conf_change<'py>(
    py: Python<'py>,
    changes: Vec<(u8, u64)>,
    context: Option<&[u8]>,
) -> PyResult<Bound<'py, PyBytes>> {
    wire::encode_conf_change(&changes, context.unwrap_or_default())
        .map(|bytes| PyBytes::new(py, &bytes))
        .map_err(|why| PyValueError::new_err(format!("encode_conf_change: {why}")))
}

#[pyfunction]
fn decode_conf_change<'py>(
    py: Python<'py>,
    kind: i32,
    data: &[u8],
) -> Option<(u8, u64, Bound<'py, PyBytes>)> {
    let (kind, node, context) = wire::read_conf_change(kind, data)?;
    Some((kind, node, PyBytes::new(py, &context)))
}

/// Adds the Raft half of the boundary to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<MultiRaft>()?;
    module.add_class::<PyReady>()?;
    module.add_class::<GroupStatus>()?;
    module.add("ProposalDropped", module.py().get_type::<ProposalDropped>())?;
    module.add_function(wrap_pyfunction!(encode_conf_change, module)?)?;
    module.add_function(wrap_pyfunction!(decode_conf_change, module)?)
}
