//! One Raft group: raft-rs's RawNode, its RAM log and the Ready that the host is working on.
//! Keeps I4 and I8 by holding the host to the one order that is safe with raft-rs 0.7:
//! ready, advance_append_async, on_persist_ready, advance_apply_to. Each rule that raft-rs
//! leaves to its caller, and would answer with a panic or with silence, is checked here first.

use raft::eraftpb::{ConfState, Entry, EntryType, Message, MessageType, Snapshot};
use raft::{Changer, Config, ProgressState, RawNode, SnapshotStatus, StateRole};

use super::storage::{GroupStorage, Stored};
use super::wire;

/// Why a call was refused; nothing has changed then.
#[derive(Debug)]
pub enum Refusal {
    /// The arguments are wrong.
    Value(String),
    /// The host broke the order of calls.
    Order(String),
    /// Not now, and not an error: the proposal may be sent again.
    Dropped(String),
}

/// A Ready taken apart for the host.
pub struct Taken {
    pub number: u64,
    pub must_sync: bool,
    pub messages: Vec<Message>,
    pub persisted_messages: Vec<Message>,
    pub hard_state: Option<(u64, u64, u64)>,
    pub entries: Vec<Entry>,
    pub committed: Vec<Entry>,
    pub snapshot: Option<Vec<u8>>,
    /// (leader, role) when the soft state changed.
    pub soft_state: Option<(u64, u8)>,
}

/// (node, matched, next_idx, recent_active, state: 0 probe, 1 replicate, 2 snapshot)
pub type PeerProgress = (u64, u64, u64, bool, u8);

pub struct Group {
    raw: RawNode<GroupStorage>,
    /// Taken and not yet advanced; until then nothing else touches the group.
    held: Option<raft::Ready>,
    /// Number of the last Ready advanced.
    advanced: u64,
    /// Index of the last entry or snapshot given to the host to apply.
    handed_out: u64,
    /// It must not ask to be elected.
    reluctant: bool,
}

pub fn role_number(role: StateRole) -> u8 {
    match role {
        StateRole::Follower => 0,
        StateRole::Candidate => 1,
        StateRole::Leader => 2,
        StateRole::PreCandidate => 3,
    }
}

impl Group {
    pub fn load(config: &Config, stored: Stored) -> Result<Self, Refusal> {
        stored.check().map_err(Refusal::Value)?;
        let applied = stored.applied;
        let storage = GroupStorage::new(stored);
        let config = Config {
            applied,
            ..config.clone()
        };
        let silent = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&config, storage, &silent)
            .map_err(|error| Refusal::Value(error.to_string()))?;
        Ok(Group {
            raw,
            held: None,
            advanced: 0,
            handed_out: applied,
            reluctant: false,
        })
    }

    /// The core, when no Ready is out.
    fn free(&mut self) -> Result<&mut RawNode<GroupStorage>, Refusal> {
        match &self.held {
            None => Ok(&mut self.raw),
            Some(ready) => Err(Refusal::Order(format!(
                "Ready {} is out: call advance_append_async before anything else",
                ready.number()
            ))),
        }
    }

    pub fn check_free(&mut self) -> Result<(), Refusal> {
        self.free().map(|_| ())
    }

    /// Between a snapshot's arrival in the RAM log and its advance_apply_to, raft-rs panics when
    /// it campaigns (it reads from applied + 1, which is below the log then); a lone voter panics
    /// while its own log is not durable.
    fn may_campaign(&self) -> bool {
        let raft = &self.raw.raft;
        let installing = raft.raft_log.applied < self.raw.store().truncated();
        let lone = raft.prs().is_singleton() && raft.promotable();
        !installing && (!lone || raft.raft_log.persisted == raft.raft_log.last_index())
    }

    /// The next tick is the one that starts an election. A reluctant group stops just before it:
    /// it waits long enough to forget a lost leader's lease, and never speaks up itself.
    fn would_campaign(&self) -> bool {
        let raft = &self.raw.raft;
        raft.election_elapsed + 1 >= raft.randomized_election_timeout()
    }

    /// While reluctant the group follows, votes and goes on leading as before, and asks nobody to
    /// elect it; a round of pre-votes that is under way ends.
    pub fn set_reluctant(&mut self, reluctant: bool) -> Result<(), Refusal> {
        self.free()?;
        self.reluctant = reluctant;
        let raft = &mut self.raw.raft;
        if reluctant && raft.state == StateRole::PreCandidate {
            let term = raft.term;
            raft.become_follower(term, raft::INVALID_ID);
        }
        Ok(())
    }

    pub fn step(&mut self, message: Message) -> Result<(), Refusal> {
        self.free()?;
        self.check_not_rolled_back(&message);
        let told_to_campaign = message.get_msg_type() == MessageType::MsgTimeoutNow;
        if told_to_campaign && (self.reluctant || !self.may_campaign()) {
            return Ok(());
        }
        match self.raw.step(message) {
            // An answer of a node that has left the configuration.
            Ok(()) | Err(raft::Error::StepPeerNotFound) => Ok(()),
            Err(error) => panic!("raft refused a message from the wire: {error}"),
        }
    }

    /// What only a disk older than before can bring about stops the node. The host looks before
    /// it steps and says it better; raft-rs itself would count the impossible index.
    fn check_not_rolled_back(&self, message: &Message) {
        let raft = &self.raw.raft;
        let last = raft.raft_log.last_index();
        if message.term != raft.term || raft.state != StateRole::Leader {
            return;
        }
        let answer = matches!(
            message.get_msg_type(),
            MessageType::MsgAppendResponse | MessageType::MsgHeartbeatResponse
        );
        assert!(
            !answer || (message.index <= last && message.commit <= last),
            "node {} of term {} has index {} or commit {} above this leader's last index {last}: \
             this node's log was rolled back",
            message.from,
            message.term,
            message.index,
            message.commit
        );
    }

    pub fn step_snapshot(&mut self, message: Message) -> Result<bool, Refusal> {
        let index = message.get_snapshot().get_metadata().index;
        let before = self.pending_snapshot();
        self.free()?;
        self.step(message)?;
        Ok(before != Some(index) && self.pending_snapshot() == Some(index))
    }

    fn pending_snapshot(&self) -> Option<u64> {
        self.raw
            .snap()
            .map(|snapshot| snapshot.get_metadata().index)
    }

    /// One tick. Heartbeats leave only at a `beat`, so that those of all groups share a frame; a
    /// new leader waits for it at most once, with its first heartbeat.
    pub fn tick(&mut self, beat: bool) -> Result<(), Refusal> {
        let leader = self.raw.raft.state == StateRole::Leader;
        let due = self.raw.raft.heartbeat_elapsed() + 1 >= self.raw.raft.heartbeat_timeout();
        let may_tick = if leader {
            beat || !due
        } else {
            self.may_campaign() && !(self.reluctant && self.would_campaign())
        };
        let raw = self.free()?;
        if may_tick {
            raw.tick();
        }
        Ok(())
    }

    pub fn campaign(&mut self) -> Result<(), Refusal> {
        let allowed = self.may_campaign() && self.raw.raft.promotable() && !self.reluctant;
        let raw = self.free()?;
        if allowed {
            raw.campaign()
                .map_err(|error| Refusal::Order(error.to_string()))?;
        }
        Ok(())
    }

    fn leading(&mut self) -> Result<&mut RawNode<GroupStorage>, Refusal> {
        let raw = self.free()?;
        if raw.raft.state != StateRole::Leader {
            return Err(Refusal::Dropped(format!(
                "not the leader of term {}: send it to node {}",
                raw.raft.term, raw.raft.leader_id
            )));
        }
        if let Some(node) = raw.raft.lead_transferee {
            return Err(Refusal::Dropped(format!(
                "leadership is being transferred to node {node}: try again there"
            )));
        }
        Ok(raw)
    }

    pub fn propose(&mut self, data: &[u8]) -> Result<(u64, u64), Refusal> {
        let raw = self.leading()?;
        if data.is_empty() {
            return Err(Refusal::Value(
                "an empty entry is a new leader's own: propose at least one byte".to_owned(),
            ));
        }
        let expected = raw.raft.raft_log.last_index() + 1;
        raw.propose(Vec::new(), data.to_vec()).map_err(dropped)?;
        Ok(appended(raw, expected))
    }

    pub fn propose_conf_change(&mut self, data: &[u8]) -> Result<(u64, u64), Refusal> {
        let raw = self.leading()?;
        let change = wire::decode_conf_change(data).map_err(Refusal::Value)?;
        if raw.raft.has_pending_conf() {
            // raft-rs would put an empty entry in its place and say nothing.
            return Err(Refusal::Dropped(
                "another configuration change may not be applied yet: try again".to_owned(),
            ));
        }
        Changer::new(raw.raft.prs())
            .simple(&change.changes)
            .map_err(|error| Refusal::Value(format!("impossible change: {error}")))?;
        let expected = raw.raft.raft_log.last_index() + 1;
        raw.propose_conf_change(Vec::new(), change)
            .map_err(dropped)?;
        Ok(appended(raw, expected))
    }

    /// Voters and learners after a committed change, both ascending. An entry that does not apply
    /// to this configuration (a leader checks before it proposes) changes nothing, and so on
    /// every replica alike.
    pub fn apply_conf_change(
        &mut self,
        kind: i32,
        data: &[u8],
    ) -> Result<(Vec<u64>, Vec<u64>), Refusal> {
        let change = match EntryType::from_i32(kind) {
            Some(EntryType::EntryConfChange) => wire::decode_conf_change_v1(data).ok(),
            Some(EntryType::EntryConfChangeV2) => wire::decode_conf_change(data).ok(),
            Some(EntryType::EntryNormal) | None => {
                return Err(Refusal::Value(format!(
                    "an entry of kind {kind} changes no configuration: 1 or 2 does"
                )))
            }
        };
        if let Some(Ok(state)) = change.map(|change| self.raw.apply_conf_change(&change)) {
            let ConfState {
                voters, learners, ..
            } = state;
            self.raw
                .mut_store()
                .set_conf_state(wire::conf_state(voters, learners));
            let raft = &mut self.raw.raft;
            if raft.state == StateRole::Leader && !raft.promotable() {
                // A leader without a seat panics in raft-rs at the next commit.
                let term = raft.term;
                raft.become_follower(term, raft::INVALID_ID);
            }
        }
        Ok(self.members())
    }

    pub fn members(&self) -> (Vec<u64>, Vec<u64>) {
        let state = self.raw.raft.prs().conf().to_conf_state();
        let sorted = wire::conf_state(state.voters, state.learners);
        (sorted.voters, sorted.learners)
    }

    pub fn transfer_leader(&mut self, to: u64) -> Result<(), Refusal> {
        let raw = self.free()?;
        // A follower would forward it.
        if raw.raft.state == StateRole::Leader {
            raw.transfer_leader(to);
        }
        Ok(())
    }

    pub fn report_unreachable(&mut self, node: u64) -> Result<(), Refusal> {
        self.free()?.report_unreachable(node);
        Ok(())
    }

    pub fn report_snapshot(&mut self, node: u64, ok: bool) -> Result<(), Refusal> {
        let status = if ok {
            SnapshotStatus::Finish
        } else {
            SnapshotStatus::Failure
        };
        self.free()?.report_snapshot(node, status);
        Ok(())
    }

    pub fn has_ready(&self) -> bool {
        self.held.is_none() && self.raw.has_ready()
    }

    pub fn ready(&mut self) -> Result<Taken, Refusal> {
        let mut ready = self.free()?.ready();
        let snapshot = (!ready.snapshot().is_empty()).then(|| ready.snapshot().clone());
        let entries = ready.take_entries();
        let committed = ready.take_committed_entries();

        // The RAM log must show all of it before the Ready is advanced: snapshot first.
        let store = self.raw.mut_store();
        if let Some(snapshot) = &snapshot {
            store.reset_to(snapshot.get_metadata());
            self.handed_out = snapshot.get_metadata().index;
        }
        store.replace_tail(&entries);
        if let Some(hard_state) = ready.hs() {
            store.set_hard_state(hard_state.clone());
        }
        if let Some(last) = committed.last() {
            assert_eq!(
                committed[0].index,
                self.handed_out + 1,
                "a gap in the committed entries"
            );
            self.handed_out = last.index;
        }
        self.check_invariants();

        let taken = Taken {
            number: ready.number(),
            must_sync: ready.must_sync(),
            messages: sendable(ready.take_messages()),
            persisted_messages: sendable(ready.take_persisted_messages()),
            hard_state: ready.hs().map(|hs| (hs.term, hs.vote, hs.commit)),
            entries,
            committed,
            snapshot: snapshot.map(|snapshot| snapshot.data),
            soft_state: ready
                .ss()
                .map(|ss| (ss.leader_id, role_number(ss.raft_state))),
        };
        self.held = Some(ready);
        Ok(taken)
    }

    fn check_invariants(&self) {
        let log = &self.raw.raft.raft_log;
        let (cut, last) = (self.raw.store().truncated(), self.raw.store().last());
        assert!(
            cut <= self.handed_out
                && log.applied <= self.handed_out
                && self.handed_out <= log.committed
                && log.committed <= last,
            "cut {cut}, applied {}, handed out {}, commit {}, last {last} are out of order",
            log.applied,
            self.handed_out,
            log.committed
        );
    }

    pub fn advance_append_async(&mut self) -> Result<(), Refusal> {
        let ready = self.held.take().ok_or_else(|| {
            Refusal::Order("no Ready is out: take one with ready first".to_owned())
        })?;
        self.advanced = ready.number();
        self.raw.advance_append_async(ready);
        Ok(())
    }

    pub fn on_persist_ready(&mut self, number: u64) -> Result<(), Refusal> {
        let advanced = self.advanced;
        let raw = self.free()?;
        if number > advanced {
            return Err(Refusal::Order(format!(
                "Ready {number} was never advanced, the last one is {advanced}"
            )));
        }
        raw.on_persist_ready(number);
        Ok(())
    }

    pub fn advance_apply_to(&mut self, index: u64) -> Result<(), Refusal> {
        let handed_out = self.handed_out;
        let raw = self.free()?;
        let log = &raw.raft.raft_log;
        let highest = handed_out.min(log.committed).min(log.persisted);
        if index < log.applied || index > highest {
            return Err(Refusal::Order(format!(
                "index {index} is not in {}..={highest}, what is given out, durable and not yet \
                 applied: call on_persist_ready first",
                log.applied
            )));
        }
        raw.advance_apply_to(index);
        Ok(())
    }

    pub fn compact(&mut self, index: u64) -> Result<(), Refusal> {
        let raw = self.free()?;
        let applied = raw.raft.raft_log.applied;
        if index > applied {
            return Err(Refusal::Order(format!(
                "a cut at {index}, above the applied index {applied}"
            )));
        }
        if index > raw.store().last() {
            return Err(Refusal::Order(format!("a cut at {index}, above the log")));
        }
        raw.mut_store().cut(index);
        Ok(())
    }

    pub fn set_snapshot(
        &mut self,
        manifest: Vec<u8>,
        (index, term): (u64, u64),
        conf_state: ConfState,
    ) -> Result<(), Refusal> {
        let log = &self.raw.raft.raft_log;
        let cut = self.raw.store().truncated();
        if index == 0 || index < cut || index > log.committed || !log.match_term(index, term) {
            return Err(Refusal::Value(format!(
                "a snapshot at index {index} of term {term} is not of this log, cut at {cut}, \
                 committed to {}: build a new one",
                log.committed
            )));
        }
        wire::check_members(&conf_state.voters, &conf_state.learners).map_err(Refusal::Value)?;
        if manifest.is_empty() || conf_state.voters.is_empty() {
            return Err(Refusal::Value(
                "a snapshot needs a manifest and voters".to_owned(),
            ));
        }
        let mut snapshot = Snapshot {
            data: manifest,
            metadata: None,
        };
        let metadata = snapshot.mut_metadata();
        metadata.index = index;
        metadata.term = term;
        metadata.conf_state = Some(conf_state);
        self.raw.mut_store().offer(Some(snapshot));
        Ok(())
    }

    pub fn clear_snapshot(&mut self) {
        self.raw.mut_store().offer(None);
    }

    pub fn take_wanted(&self) -> impl Iterator<Item = u64> {
        self.raw.store().take_wanted().into_iter()
    }

    pub fn election_timeout(&self) -> (usize, usize) {
        let raft = &self.raw.raft;
        (raft.randomized_election_timeout(), raft.election_elapsed)
    }

    /// The caller has checked the range.
    pub fn set_election_timeout(&mut self, ticks: usize) {
        self.raw.raft.set_randomized_election_timeout(ticks);
    }

    /// None outside the log; the index of the cut still has its term.
    pub fn term_at(&self, index: u64) -> Option<u64> {
        let log = &self.raw.raft.raft_log;
        if index + 1 < log.first_index() || index > log.last_index() {
            return None;
        }
        log.term(index).ok()
    }

    pub fn raft(&self) -> &raft::Raft<GroupStorage> {
        &self.raw.raft
    }

    /// A leader's view of every member, ascending; empty for anyone else.
    pub fn progress(&self) -> Vec<PeerProgress> {
        if self.raw.raft.state != StateRole::Leader {
            return Vec::new();
        }
        let mut all: Vec<PeerProgress> = self
            .raw
            .raft
            .prs()
            .iter()
            .map(|(node, progress)| {
                let state = match progress.state {
                    ProgressState::Probe => 0,
                    ProgressState::Replicate => 1,
                    ProgressState::Snapshot => 2,
                };
                (
                    *node,
                    progress.matched,
                    progress.next_idx,
                    progress.recent_active,
                    state,
                )
            })
            .collect();
        all.sort_unstable();
        all
    }
}

fn sendable(mut messages: Vec<Message>) -> Vec<Message> {
    messages.retain(wire::is_sendable);
    messages
}

fn dropped(error: raft::Error) -> Refusal {
    Refusal::Dropped(match error {
        raft::Error::ProposalDropped => {
            "the uncommitted log is too large or this node has no seat: try again later".to_owned()
        }
        other => other.to_string(),
    })
}

fn appended(raw: &RawNode<GroupStorage>, expected: u64) -> (u64, u64) {
    let (term, last) = (raw.raft.term, raw.raft.raft_log.last_index());
    assert_eq!(last, expected, "one proposal must append one entry");
    (term, last)
}
