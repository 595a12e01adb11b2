# ruff: noqa: PYI021 - this file is the specification of the crate, so it has docstrings
"""The Rust crate's boundary: bytes in, bytes out. This file is its specification.

OPAQUE and group functions raise ValueError on malformed input (wrong length, non-canonical or
identity element) and release the GIL where they are heavy. Raft entry points turn a Rust panic
into an abort of the process with a reason on stderr: an exception would leave a poisoned core.
"""

from collections.abc import Sequence
from typing import TypeAlias

__version__: str

# ---------------------------------------------------------------- encoding, signatures, group

def enc(label: str, fields: Sequence[bytes]) -> bytes:
    """crypto.md's enc, the label given without its prefix."""

def ed25519_public_key(seed: bytes) -> bytes:
    """32-byte seed -> 32-byte public key (RFC 8032)."""

def ed25519_sign(seed: bytes, message: bytes) -> bytes:
    """64-byte signature (RFC 8032)."""

def ed25519_verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """ed25519-dalek `verify_strict`; False for any malformed input, never raises for content."""

def ed25519_is_usable(public_key: bytes) -> bool:
    """True for a canonical public key that is not weak (small order)."""

def element_is_valid(element: bytes) -> bool:
    """True for 32 bytes that are a canonical ristretto255 element and not the identity."""

# ---------------------------------------------------------------- threshold OPRF (crypto.md)

SubsetPrfs: TypeAlias = Sequence[tuple[bytes, bytes]]
"""[(A, PRF(oprf/A, "oprf-subset", registration_id))]: A as ascending seat bytes such as
b"\\x01\\x02\\x04"; 64 PRF bytes. Exactly the C(n-1, n-t) sets of size n-t+1 with the seat in."""

def threshold_share(seat: int, n: int, t: int, subset_prfs: SubsetPrfs, element: bytes) -> bytes:
    """S_j = k_j·element, 32 bytes."""

def threshold_share_proven(
    cluster_id: bytes,
    registration_id: bytes,
    seat: int,
    n: int,
    t: int,
    subset_prfs: SubsetPrfs,
    element: bytes,
) -> tuple[bytes, bytes, bytes]:
    """(share 32, K_j = k_j·G 32, DLEQ proof 64) for a registration start; w fresh and random."""

def threshold_verify(
    cluster_id: bytes,
    registration_id: bytes,
    seat: int,
    element: bytes,
    share: bytes,
    point: bytes,
    proof: bytes,
) -> bool:
    """True when share = k·element and point = k·G for one k; False for any malformed input."""

def threshold_combine(shares: Sequence[tuple[int, bytes]]) -> bytes:
    """Lagrange at 0 over exactly the given distinct (seat, 32-byte element) pairs: the evaluation.

    The caller gives exactly t of them. Raises ValueError on a repeated seat or identity result.
    """

def threshold_consistent(t: int, shares: Sequence[tuple[int, bytes]]) -> bool:
    """True when all given elements (more than t of them) lie on one polynomial of degree t-1.

    Raises ValueError on t or fewer shares, a repeated seat or a bad element.
    """

def threshold_liars(t: int, shares: Sequence[tuple[int, bytes]]) -> tuple[bytes | None, list[int]]:
    """(evaluation, liars) by the single largest consistent set of at least t+1 shares.

    The liars are the ascending seats outside it; (None, []) when no such set exists or it is not
    unique. Raises ValueError as threshold_consistent does, and on an identity evaluation.
    """

# ---------------------------------------------------------------- OPAQUE server (RFC 9807)

def opaque_derive_key_pair(seed: bytes) -> tuple[bytes, bytes]:
    """RFC 9807 DeriveDiffieHellmanKeyPair of a 32-byte seed: (private 32, public 32)."""

def opaque_registration_response(evaluated: bytes, server_public_key: bytes) -> bytes:
    """64 bytes."""

def opaque_ke2(
    ke1: bytes,
    record: bytes,
    evaluated: bytes,
    server_private_key: bytes,
    server_public_key: bytes,
) -> bytes:
    """KE2 (320 bytes) for KE1 (96), record (192) and the evaluated element (32).

    Empty context, identities = public keys; masking nonce, server nonce and key share are fresh
    each time.
    """

# ---------------------------------------------------------------- OPAQUE client (opaque-ke 4)

def opaque_registration_start(password: bytes) -> tuple[bytes, bytes]:
    """(client state, request 32). The state holds the blind: keep it 0600, never log it."""

def opaque_registration_finish(
    state: bytes, password: bytes, response: bytes, *, hazmat_identity_ksf: bool = False
) -> tuple[bytes, bytes, bytes]:
    """(record 192, export_key 64, server public key 32). Runs Argon2id (64 MiB, GIL released)."""

def opaque_login_start(password: bytes) -> tuple[bytes, bytes]:
    """(client state, KE1 96)."""

def opaque_login_finish(
    state: bytes, password: bytes, ke2: bytes, *, hazmat_identity_ksf: bool = False
) -> tuple[bytes, bytes]:
    """(export_key 64, server public key 32).

    Raises OpaqueOpenError when KE2 does not open: a wrong password or a wrong share.
    """

class OpaqueOpenError(Exception):
    """The envelope or the server's MAC did not verify under this password."""

# ---------------------------------------------------------------- Raft (raft-rs 0.7)

Entry: TypeAlias = tuple[int, int, int, bytes]
"""(index, term, kind, data); kind 0 normal, 1 ConfChange, 2 ConfChangeV2."""

class ProposalDropped(Exception):  # noqa: N818 - raft names it so; it is an answer, not an error
    """Not the leader, a transfer is under way, or the uncommitted log is too large."""

class Ready:
    """What one group wants done, in the order of raft-host.md step 5. Plain values."""

    number: int
    must_sync: bool
    messages: list[tuple[int, bytes]]
    """(to, message): send now."""
    persisted_messages: list[tuple[int, bytes]]
    """(to, message): hold until this Ready is durable."""
    hard_state: tuple[int, int, int] | None
    """(term, vote, commit) when changed."""
    entries: list[Entry]
    """To append; entries from the first one's index on are replaced."""
    committed: list[Entry]
    snapshot: bytes | None
    """The manifest of a snapshot to install before everything else."""
    leader: int | None
    """The group's leader after this Ready, 0 for none, when soft state changed; else None."""
    role: int | None
    """0 follower, 1 candidate, 2 leader, 3 pre-candidate, when soft state changed; else None."""

class GroupStatus:
    role: int
    term: int
    vote: int
    leader: int
    commit: int
    applied: int
    first_index: int
    last_index: int
    transferring_to: int
    voters: list[int]
    learners: list[int]
    progress: list[tuple[int, int, int, bool, int]]
    """Leader only: (node, matched, next_idx, recent_active, state: 0 probe, 1 replicate,
    2 snapshot)."""

class MultiRaft:
    """All Raft groups of one node; one thread only (a second thread aborts the process).

    Every method raises ValueError on an unknown shard and, but for those that only read and
    apply_conf_change, RuntimeError while a Ready of that group is taken and not yet advanced:
    nothing has changed then. What raft itself would panic on aborts the process.
    """

    def __init__(
        self,
        node_id: int,
        *,
        heartbeat_tick: int,
        election_tick: int,
        min_election_tick: int,
        max_election_tick: int,
        max_size_per_msg: int,
        max_inflight: int,
        max_uncommitted: int,
        max_committed_per_ready: int,
    ) -> None: ...
    def add_group(
        self,
        shard: int,
        *,
        term: int,
        vote: int,
        commit: int,
        applied: int,
        truncated_index: int,
        truncated_term: int,
        voters: Sequence[int],
        learners: Sequence[int],
        entries: Sequence[Entry],
    ) -> None:
        """Load one group as stored: ConfState as of `applied`, entries from truncated_index+1 on.

        A node that joins starts empty with the voters that the shard began with, as all did: the
        log or a snapshot brings it to the present ones.

        Raises ValueError when truncated_index ≤ applied ≤ commit ≤ last index does not hold, the
        log has a gap, terms fall or exceed `term`, or there are no voters.
        """
    def shards(self) -> list[int]: ...
    def step_frame(
        self, from_node: int, messages: Sequence[tuple[int, bytes]]
    ) -> list[tuple[int, bytes, bytes]]:
        """Step (shard, message) pairs that came over `from_node`'s link.

        MsgSnapshot is not stepped but returned as (shard, manifest, message) for the stager.
        MsgHup, MsgBeat, MsgPropose, MsgReadIndex, MsgReadIndexResp, MsgUnreachable, MsgSnapStatus,
        MsgCheckQuorum, MsgTransferLeader from the wire are dropped.

        Raises ValueError ("cut the link") on an undecodable message, an unknown shard, `from`
        other than from_node or `to` other than this node, or what no honest node sends (term 0,
        entries with gaps, a joint configuration); earlier ones of the frame are stepped.

        A commit or accepted index in this leader's own term, or a heartbeat's commit, above the
        last index here aborts the process: look with `peek` first to say it better.
        """
    def peek(self, message: bytes) -> tuple[int, int, int, int, int, int, int]:
        """(kind, from, to, term, index, log_term, commit) of one message, to check before step.

        Of a MsgSnapshot index and log_term are those of the snapshot.
        """
    def entries_of(self, message: bytes) -> list[tuple[int, bytes]]:
        """(kind, data) of each entry that a MsgAppend carries, to check before step."""
    def members_of(self, message: bytes) -> tuple[list[int], list[int]]:
        """(voters, learners) that a MsgSnapshot brings, to check before it is stepped."""
    def step_snapshot(self, shard: int, message: bytes) -> bool:
        """Step a MsgSnapshot whose file is staged and checked; False when raft declined it."""
    def tick_all(self) -> list[int]:
        """One tick for every group; returns the shards that now have_ready.

        A group whose snapshot is not yet applied (advance_apply_to) does not tick: raft panics
        when it campaigns then.
        """
    def campaign(self, shard: int) -> None:
        """Start an election, pre-vote first.

        Nothing happens on a leader, a learner, or while a snapshot or a configuration change
        waits to be applied.
        """
    def propose(self, shard: int, data: bytes) -> tuple[int, int]:
        """Append one entry as leader: (term, index). Raises ProposalDropped.

        Never forwarded. Raises ValueError on empty data, which is a new leader's own entry.
        """
    def propose_conf_change(self, shard: int, data: bytes) -> tuple[int, int]:
        """An encoded ConfChangeV2. Raises ProposalDropped, also while another may be pending.

        Raises ValueError when it is not one node's change or leaves no voter.
        """
    def apply_conf_change(self, shard: int, kind: int, data: bytes) -> tuple[list[int], list[int]]:
        """Apply a committed kind 1 or 2 entry: the new (voters, learners), ascending.

        An entry that does not apply here changes nothing, alike on every replica. A leader that
        is no voter any more steps down.
        """
    def transfer_leader(self, shard: int, to: int) -> None:
        """Ask `to` to take over; does nothing on a follower, to itself or to a learner."""
    def report_unreachable(self, shard: int, node: int) -> None: ...
    def report_snapshot(self, shard: int, node: int, ok: bool) -> None: ...
    def has_ready(self) -> list[int]:
        """Ascending shards with something to do."""
    def ready(self, shard: int) -> Ready:
        """Take the Ready; updates RAM log (snapshot reset, truncate, append) and hard state."""
    def advance_append_async(self, shard: int) -> None:
        """End of step 5 for the Ready taken last."""
    def on_persist_ready(self, shard: int, number: int) -> None:
        """Ready `number` and all before it are durable. RuntimeError if it was never advanced."""
    def advance_apply_to(self, shard: int, index: int) -> None:
        """Applied and durable up to `index`, also that of an installed snapshot.

        Raises RuntimeError when it goes back or is not yet given out and persisted.
        """
    def compact(self, shard: int, index: int) -> None:
        """Cut the RAM log: entries ≤ index go. RuntimeError above applied."""
    def set_snapshot(
        self,
        shard: int,
        manifest: bytes,
        index: int,
        term: int,
        voters: Sequence[int],
        learners: Sequence[int],
    ) -> None:
        """Offer a built snapshot to followers that need one, until it falls below the cut.

        Raises ValueError when (index, term) is not a committed entry of this log.
        """
    def clear_snapshot(self, shard: int) -> None: ...
    def snapshots_wanted(self) -> list[tuple[int, int]]:
        """(shard, node) pairs for which raft asked for a snapshot since the last call."""
    def status(self, shard: int) -> GroupStatus: ...
    def election_timeout(self, shard: int) -> tuple[int, int]:
        """(randomized_election_timeout, election_elapsed) in ticks."""
    def set_election_timeout(self, shard: int, ticks: int) -> None:
        """Until raft draws anew. ValueError outside min_election_tick … max_election_tick - 1."""
    def set_reluctant(self, shard: int, reluctant: bool) -> None:
        """While true, the group starts no election: no tick, campaign or MsgTimeoutNow makes it.

        A round of pre-votes that is under way ends. It follows, votes and leads as before.
        """
    def term_at(self, shard: int, index: int) -> int | None:
        """None outside the log; the index of the cut still has its term."""

def encode_conf_change(changes: Sequence[tuple[int, int]], context: bytes = b"") -> bytes:
    """ConfChangeV2 bytes of one (kind: 0 add voter, 1 remove, 2 add learner; node) pair.

    `context` (at most 64 bytes) goes with it through the log, and means nothing to raft.
    Raises ValueError on more or fewer: a shard changes by one node at a time.
    """

def decode_conf_change(kind: int, data: bytes) -> tuple[int, int, bytes] | None:
    """(kind as above, node, context) of a kind 1 or 2 entry.

    None when it is not one single change: apply_conf_change then changes nothing.
    """
