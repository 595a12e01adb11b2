//! One group's log in RAM, as raft-rs reads it. It keeps I4 and I8: raft sees exactly what the
//! host was told to store, in the order it was told.
//!
//! It deliberately knows no disk: the host stores the same entries itself. A snapshot is never
//! made up here (raft-rs's own `MemStorage` invents empty ones, and a follower would "catch up"
//! to nothing): only a manifest that the host has built is handed out.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};

use prost::Message as _;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot, SnapshotMetadata};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

use super::wire;

/// A group as the host has it on disk.
pub struct Stored {
    pub term: u64,
    pub vote: u64,
    pub commit: u64,
    pub applied: u64,
    pub truncated_index: u64,
    pub truncated_term: u64,
    pub voters: Vec<u64>,
    pub learners: Vec<u64>,
    pub entries: Vec<Entry>,
}

impl Stored {
    pub fn check(&self) -> Result<(), String> {
        let last = self.truncated_index + self.entries.len() as u64;
        if !(self.truncated_index <= self.applied
            && self.applied <= self.commit
            && self.commit <= last
            && last < wire::MAX_COUNTER)
        {
            return Err(format!(
                "truncated {} <= applied {} <= commit {} <= last {last} does not hold",
                self.truncated_index, self.applied, self.commit
            ));
        }
        let mut previous = (self.truncated_index, self.truncated_term);
        for entry in &self.entries {
            wire::check_follows(previous, entry)?;
            previous = (entry.index, entry.term);
        }
        if previous.1 > self.term || self.term >= wire::MAX_COUNTER {
            return Err(format!(
                "the log is of term {}, the vote of {}",
                previous.1, self.term
            ));
        }
        if self.voters.is_empty() {
            // Changes replayed from the log need the configuration that they change.
            return Err("no voters: an empty log starts with the shard's first ones".to_owned());
        }
        wire::check_members(&self.voters, &self.learners)
    }
}

pub struct GroupStorage {
    hard_state: HardState,
    /// As of the last applied entry or installed snapshot.
    conf_state: ConfState,
    truncated_index: u64,
    truncated_term: u64,
    /// entries[i] has index truncated_index + 1 + i.
    entries: VecDeque<Entry>,
    offered: Option<Snapshot>,
    /// Nodes for which raft asked for a snapshot that is not there; taken by the host.
    wanted: RefCell<BTreeSet<u64>>,
}

impl GroupStorage {
    /// `stored` must have passed its check.
    pub fn new(stored: Stored) -> Self {
        GroupStorage {
            hard_state: HardState {
                term: stored.term,
                vote: stored.vote,
                commit: stored.commit,
            },
            conf_state: wire::conf_state(stored.voters, stored.learners),
            truncated_index: stored.truncated_index,
            truncated_term: stored.truncated_term,
            entries: stored.entries.into(),
            offered: None,
            wanted: RefCell::new(BTreeSet::new()),
        }
    }

    pub fn last(&self) -> u64 {
        self.truncated_index + self.entries.len() as u64
    }

    pub fn truncated(&self) -> u64 {
        self.truncated_index
    }

    pub fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    pub fn set_conf_state(&mut self, conf_state: ConfState) {
        self.conf_state = conf_state;
    }

    /// Starts the log anew behind an installed snapshot.
    pub fn reset_to(&mut self, metadata: &SnapshotMetadata) {
        self.truncated_index = metadata.index;
        self.truncated_term = metadata.term;
        self.entries.clear();
        self.conf_state = metadata.get_conf_state().clone();
        self.offered = None;
    }

    /// Truncates at the first new entry, then appends.
    ///
    /// # Panics
    ///
    /// When the new entries would leave a gap or reach below the cut: raft never asks for either.
    pub fn replace_tail(&mut self, new: &[Entry]) {
        let Some(first) = new.first() else { return };
        assert!(
            first.index > self.truncated_index && first.index <= self.last() + 1,
            "entry {} does not follow the log ({}, {}]",
            first.index,
            self.truncated_index,
            self.last()
        );
        let kept = (first.index - self.truncated_index - 1) as usize;
        self.entries.truncate(kept);
        self.entries.extend(new.iter().cloned());
    }

    /// Drops entries up to and including `index`, which must be in the log.
    pub fn cut(&mut self, index: u64) {
        if index <= self.truncated_index {
            return;
        }
        let gone = (index - self.truncated_index) as usize;
        self.truncated_term = self.entries[gone - 1].term;
        self.truncated_index = index;
        self.entries.drain(..gone);
    }

    pub fn offer(&mut self, snapshot: Option<Snapshot>) {
        self.offered = snapshot;
    }

    pub fn take_wanted(&self) -> BTreeSet<u64> {
        self.wanted.take()
    }
}

impl Storage for GroupStorage {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(
            self.hard_state.clone(),
            self.conf_state.clone(),
        ))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.truncated_index {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 {
            return Err(Error::Store(StorageError::Unavailable));
        }
        // Sized while copying: a follower that is far behind must not cost a copy of the whole
        // tail for each message. The first entry is always given.
        let limit = max_size.into().unwrap_or(u64::MAX);
        let from = (low - self.truncated_index - 1) as usize;
        let until = (high - self.truncated_index - 1) as usize;
        let mut size = 0_u64;
        let mut found = Vec::new();
        for entry in self.entries.range(from..until) {
            size = size.saturating_add(entry.encoded_len() as u64);
            if size > limit && !found.is_empty() {
                break;
            }
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.truncated_index {
            return Ok(self.truncated_term);
        }
        if index < self.truncated_index {
            return Err(Error::Store(StorageError::Compacted));
        }
        self.entries
            .get((index - self.truncated_index - 1) as usize)
            .map(|entry| entry.term)
            .ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.truncated_index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        // One below the cut helps nobody: the receiver would need entries that are gone.
        let useful = self.offered.as_ref().filter(|snapshot| {
            let index = snapshot.get_metadata().index;
            index >= request_index && index >= self.truncated_index
        });
        match useful {
            Some(snapshot) => Ok(snapshot.clone()),
            None => {
                self.wanted.borrow_mut().insert(to);
                Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
            }
        }
    }
}
