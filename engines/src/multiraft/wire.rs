//! Which Raft messages a peer may have stepped here (I8, I9). raft-rs trusts its caller: it
//! forwards, panics or takes a message for a local one where a peer sends what no honest node
//! would. Every such message is refused before it reaches the core.

use prost::Message as _;
use raft::eraftpb::{
    ConfChange, ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState, Entry, EntryType,
    Message, MessageType, Snapshot,
};

/// Terms and indexes stay below it: arithmetic on them cannot overflow, and they stay exact in
/// whatever shows them.
pub const MAX_COUNTER: u64 = 1 << 53;

/// What to do with a well-formed message.
pub enum Inbound {
    Step(Message),
    /// For the stager: stepped only when its file is here and checked.
    Stage(Snapshot),
    /// Only ever local, or (MsgPropose, MsgReadIndex and its answer, MsgTransferLeader) forwarded
    /// by a follower, which this system never does.
    Drop,
}

pub fn decode(bytes: &[u8]) -> Result<Message, String> {
    let message =
        Message::decode(bytes).map_err(|error| format!("undecodable message: {error}"))?;
    if MessageType::from_i32(message.msg_type).is_none() {
        return Err(format!("unknown message type {}", message.msg_type));
    }
    Ok(message)
}

/// Decodes and judges one message that came over `from`'s link to node `to`.
pub fn admit(bytes: &[u8], from: u64, to: u64) -> Result<Inbound, String> {
    let message = decode(bytes)?;
    if message.from != from || message.to != to {
        return Err(format!(
            "a message from {} to {} on the link from {from} to {to}",
            message.from, message.to
        ));
    }
    let kind = message.get_msg_type();
    match kind {
        MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgPropose
        | MessageType::MsgUnreachable
        | MessageType::MsgSnapStatus
        | MessageType::MsgCheckQuorum
        | MessageType::MsgTransferLeader
        | MessageType::MsgReadIndex
        | MessageType::MsgReadIndexResp => Ok(Inbound::Drop),
        MessageType::MsgSnapshot => {
            check_counters(&message)?;
            check_snapshot(&message)?;
            Ok(Inbound::Stage(message.get_snapshot().clone()))
        }
        MessageType::MsgAppend => {
            check_counters(&message)?;
            check_entries(&message)?;
            Ok(Inbound::Step(message))
        }
        MessageType::MsgAppendResponse
        | MessageType::MsgRequestVote
        | MessageType::MsgRequestVoteResponse
        | MessageType::MsgHeartbeat
        | MessageType::MsgHeartbeatResponse
        | MessageType::MsgTimeoutNow
        | MessageType::MsgRequestPreVote
        | MessageType::MsgRequestPreVoteResponse => {
            check_counters(&message)?;
            Ok(Inbound::Step(message))
        }
    }
}

fn check_counters(message: &Message) -> Result<(), String> {
    if message.term == 0 {
        // raft-rs takes term 0 for a local message and skips every term check.
        return Err("a message without a term".to_owned());
    }
    if message.request_snapshot != 0 {
        return Err("a request for a snapshot, which no node sends".to_owned());
    }
    let counters = [
        message.term,
        message.log_term,
        message.index,
        message.commit,
        message.commit_term,
        message.reject_hint,
    ];
    match counters.iter().find(|counter| **counter >= MAX_COUNTER) {
        Some(counter) => Err(format!("a term or index of {counter}, above {MAX_COUNTER}")),
        None => Ok(()),
    }
}

fn check_entries(message: &Message) -> Result<(), String> {
    if message.index > 0 && message.log_term == 0 {
        // raft-rs takes 0 for the term of every index that it does not have: this append would
        // match behind any log's end, and its commit index would be beyond the last.
        return Err(format!(
            "entries behind {}, an index of no term",
            message.index
        ));
    }
    let mut previous = (message.index, message.log_term);
    for entry in &message.entries {
        check_follows(previous, entry)?;
        previous = (entry.index, entry.term);
    }
    if previous.1 > message.term {
        return Err(format!(
            "an entry of term {} in a message of term {}",
            previous.1, message.term
        ));
    }
    Ok(())
}

/// False for an append whose entries do not follow its own index. raft-rs 0.7 makes one when it
/// batches entries into an empty append that waits since before the peer's progress moved
/// (`try_batching` looks at the entries only); the receiver would skip or overwrite entries and
/// acknowledge an index that it does not have. Not sent at all, it is a lost message like others.
pub fn is_sendable(message: &Message) -> bool {
    message.get_msg_type() != MessageType::MsgAppend || check_entries(message).is_ok()
}

/// `entry` is the next one behind (index, term): contiguous, terms never going down.
pub fn check_follows(previous: (u64, u64), entry: &Entry) -> Result<(), String> {
    let (index, term) = previous;
    if entry.index != index + 1 || entry.term < term || entry.index >= MAX_COUNTER {
        return Err(format!(
            "entry {} of term {} does not follow entry {index} of term {term}",
            entry.index, entry.term
        ));
    }
    if EntryType::from_i32(entry.entry_type).is_none() {
        return Err(format!(
            "entry {index} is of unknown kind {}",
            entry.entry_type
        ));
    }
    Ok(())
}

/// A MsgSnapshot that raft can take without a panic.
pub fn check_snapshot(message: &Message) -> Result<(), String> {
    let metadata = message.get_snapshot().get_metadata();
    if metadata.index == 0 || metadata.index >= MAX_COUNTER {
        return Err(format!("a snapshot at index {}", metadata.index));
    }
    if metadata.term == 0 || metadata.term > message.term {
        return Err(format!(
            "a snapshot of term {} in a message of term {}",
            metadata.term, message.term
        ));
    }
    let conf_state = metadata.get_conf_state();
    if conf_state.voters.is_empty() {
        return Err("a snapshot without voters".to_owned());
    }
    let joint = !conf_state.voters_outgoing.is_empty()
        || !conf_state.learners_next.is_empty()
        || conf_state.auto_leave;
    if joint {
        return Err("a snapshot in a joint configuration, which no shard ever enters".to_owned());
    }
    check_members(&conf_state.voters, &conf_state.learners)
}

/// Node ids are non-zero and each is there once.
pub fn check_members(voters: &[u64], learners: &[u64]) -> Result<(), String> {
    let mut ids: Vec<u64> = voters.iter().chain(learners).copied().collect();
    ids.sort_unstable();
    if ids.first() == Some(&0) || ids.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(format!(
            "voters {voters:?} and learners {learners:?} repeat a node or name 0"
        ));
    }
    Ok(())
}

/// Voters and learners, both ascending.
pub fn conf_state(mut voters: Vec<u64>, mut learners: Vec<u64>) -> ConfState {
    voters.sort_unstable();
    learners.sort_unstable();
    ConfState::from((voters, learners))
}

/// A change says in so many bytes at most why it was made.
pub const MAX_CONTEXT: usize = 64;

pub fn encode_conf_change(changes: &[(u8, u64)], context: &[u8]) -> Result<Vec<u8>, String> {
    if context.len() > MAX_CONTEXT {
        return Err(format!(
            "a context of {} bytes, above {MAX_CONTEXT}",
            context.len()
        ));
    }
    let [(kind, node)] = changes else {
        return Err(format!(
            "{} changes at once: a shard's configuration changes by one node at a time",
            changes.len()
        ));
    };
    let kind = match kind {
        0 => ConfChangeType::AddNode,
        1 => ConfChangeType::RemoveNode,
        2 => ConfChangeType::AddLearnerNode,
        other => {
            return Err(format!(
                "change kind {other}: 0 adds a voter, 1 removes, 2 adds a learner"
            ))
        }
    };
    if *node == 0 {
        return Err("node 0 is no node".to_owned());
    }
    let single = ConfChangeSingle {
        change_type: kind as i32,
        node_id: *node,
    };
    let change = ConfChangeV2 {
        changes: vec![single],
        context: context.to_vec(),
        ..ConfChangeV2::default()
    };
    Ok(change.encode_to_vec())
}

/// The change in an entry, when it is one that this system makes: exactly one node, not joint.
pub fn decode_conf_change(data: &[u8]) -> Result<ConfChangeV2, String> {
    let change =
        ConfChangeV2::decode(data).map_err(|error| format!("undecodable change: {error}"))?;
    check_conf_change(&change)?;
    Ok(change)
}

/// The same of the older kind of entry, which raft-rs can still carry.
pub fn decode_conf_change_v1(data: &[u8]) -> Result<ConfChangeV2, String> {
    let old = ConfChange::decode(data).map_err(|error| format!("undecodable change: {error}"))?;
    let single = ConfChangeSingle {
        change_type: old.change_type,
        node_id: old.node_id,
    };
    let change = ConfChangeV2 {
        changes: vec![single],
        context: old.context,
        ..ConfChangeV2::default()
    };
    check_conf_change(&change)?;
    Ok(change)
}

/// The one change in an entry of kind 1 or 2, as `encode_conf_change` took it, and its context;
/// None when it is not one that this system makes, and so changes nothing.
pub fn read_conf_change(kind: i32, data: &[u8]) -> Option<(u8, u64, Vec<u8>)> {
    let change = match EntryType::from_i32(kind)? {
        EntryType::EntryConfChange => decode_conf_change_v1(data),
        EntryType::EntryConfChangeV2 => decode_conf_change(data),
        EntryType::EntryNormal => return None,
    }
    .ok()?;
    let single = change.changes.first()?;
    let kind = match single.get_change_type() {
        ConfChangeType::AddNode => 0,
        ConfChangeType::RemoveNode => 1,
        ConfChangeType::AddLearnerNode => 2,
    };
    Some((kind, single.node_id, change.context))
}

fn check_conf_change(change: &ConfChangeV2) -> Result<(), String> {
    let [single] = change.changes.as_slice() else {
        return Err(format!(
            "{} changes at once, one is allowed",
            change.changes.len()
        ));
    };
    if ConfChangeType::from_i32(single.change_type).is_none()
        || single.node_id == 0
        || change.transition != 0
    {
        return Err("a change of unknown kind, of node 0 or through a joint state".to_owned());
    }
    Ok(())
}
