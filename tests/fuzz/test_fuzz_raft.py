"""Raft messages at the crate's boundary: refused or stepped, and never the end of the process."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import msgspec
import pytest
from fuzz_kit import fuzz, spoiled
from hypothesis import given
from hypothesis import strategies as st
from raft_target import made
from raft_world import SHARD, blob, number, wire_entry, wire_message, wire_snapshot

from engines._engines import encode_conf_change

ROLES = ("fresh", "follower", "leader")


class Target:
    """The process that is hit; a new one after each death."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.stderr: IO[bytes] | None = None

    def hit(self, role: str, sender: int, messages: list[bytes]) -> list[str]:
        if self.process is None:
            self.stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).parent / "raft_target.py")],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.stderr,
            )  # fmt: skip
        case = msgspec.msgpack.encode([role, sender, messages])
        with suppress(BrokenPipeError):
            self.process.stdin.write(len(case).to_bytes(4, "big") + case)
            self.process.stdin.flush()
        head = self.process.stdout.read(4)
        if not head:
            raise AssertionError(self.epitaph())
        return msgspec.msgpack.decode(self.process.stdout.read(int.from_bytes(head, "big")))

    def epitaph(self) -> str:
        code = self.end()
        self.stderr.seek(0)
        text = self.stderr.read().decode(errors="replace")
        self.stderr.close()
        return f"the process ended with {code}: {text[-1500:]}"

    def end(self) -> int | None:
        process, self.process = self.process, None
        if process is None:
            return None
        with suppress(BrokenPipeError):  # what it did not read any more
            process.stdin.close()
        process.stdout.close()
        return process.wait(20)


@pytest.fixture(scope="module")
def target():
    made = Target()
    yield made
    if made.process is not None:
        assert made.end() == 0
        made.stderr.close()


# ------------------------------------------------------------------ messages

NODES = {role: made(role) for role in ROLES}
SEEN = {role: node.raft.status(SHARD) for role, node in NODES.items()}


ODD = [0, 2**32, 2**53 - 1, 2**53, 2**63, 2**64 - 1]
KINDS = [3, 4, 5, 6, 7, 8, 9, 14, 17, 18]
"""What nodes send: append, vote, snapshot, heartbeat, their answers, timeout now, pre-vote."""


def near(*usual: int) -> st.SearchStrategy[int]:
    """What a term or an index may honestly be."""
    return st.sampled_from(sorted({max(0, each + d) for each in usual for d in (-1, 0, 1, 2)}))


CHANGES = st.one_of(
    st.builds(lambda k, n: encode_conf_change([(k, n)]), st.integers(0, 2), st.integers(1, 9)),
    st.binary(max_size=12),
    st.just(b""),
)


@st.composite
def following(draw: Any, index: int, term: int) -> list[bytes]:
    """Entries behind (index, term)."""
    made = []
    for at in range(index + 1, index + 1 + draw(st.integers(0, 4))):
        kind = draw(st.sampled_from([0, 0, 0, 1, 2]))
        data = draw(CHANGES) if kind else draw(st.binary(max_size=20))
        made.append(wire_entry(at, term, data, kind))
    return made


@st.composite
def sane(draw: Any, role: str, node: int, sender: int) -> dict[str, Any]:
    """The fields of a message that the core will take up, true or not."""
    seen = SEEN[role]
    kind = draw(st.sampled_from(KINDS))
    term = draw(near(seen.term + 1))
    index = draw(near(seen.last_index, seen.commit))
    log_term = draw(st.sampled_from([seen.term, max(0, term - 1)]))
    entry_term = draw(st.sampled_from([term, log_term]))
    behind = draw(st.sampled_from([[1, 2, 3, 4, 5], [1, 2, 3], [node, 9], [7, 8, 9]]))
    beyond = draw(near(seen.last_index + 1, seen.last_index + 9))
    return {
        "kind": kind,
        "sender": sender,
        "to": node,
        "term": term,
        "log_term": log_term,
        "index": index,
        "commit": draw(near(seen.commit, seen.last_index)),
        "entries": draw(following(index, entry_term)) if kind == 3 else None,
        "snapshot": wire_snapshot(beyond, max(1, seen.term), behind) if kind == 7 else None,
        "reject_hint": draw(near(seen.last_index)),
        "extra": number(10, draw(st.integers(0, 1))),  # reject
    }


@st.composite
def odd(draw: Any, role: str, node: int, sender: int) -> dict[str, Any]:
    """The same with one field as no honest node would fill it."""
    fields = draw(sane(role, node, sender))
    field = draw(st.sampled_from([*fields, "request_snapshot"]))
    value: Any = draw(st.sampled_from(ODD))
    match field:
        case "kind":
            value = draw(st.integers(0, 20))
        case "entries":
            gap = wire_entry(draw(st.sampled_from(ODD)), draw(st.sampled_from(ODD)), b"x", 3)
            value = [*(fields["entries"] or []), gap]
        case "snapshot":
            voters = draw(st.lists(st.sampled_from([0, 1, 1, 2**64 - 1]), max_size=4))
            value = wire_snapshot(draw(st.sampled_from(ODD)), draw(st.sampled_from(ODD)), voters)
        case "extra":
            value = blob(draw(st.integers(1, 30)), draw(st.binary(max_size=8)))
    return fields | {field: value}


def wired(role: str, node: int, sender: int) -> st.SearchStrategy[bytes]:
    fields = [sane(role, node, sender)] * 3 + [odd(role, node, sender)]
    return st.one_of(fields).map(lambda f: wire_message(f.pop("kind"), **f))


@pytest.mark.parametrize("role", ROLES)
@fuzz(250)
@given(data=st.data())
def test_no_message_of_a_peer_ends_the_process(target, role, data):
    node = NODES[role].id
    sender = data.draw(st.sampled_from([n for n in (1, 2, 3, 4, 5, 77) if n != node]))
    whole = wired(role, node, sender)
    foreign = st.one_of(whole, whole, whole, spoiled(whole), st.binary(max_size=60))
    messages = data.draw(st.lists(foreign, min_size=1, max_size=5))
    said = target.hit(role, sender, messages)
    assert set(said) <= {"stepped", "staged", "refused", "stopped"}


def test_the_messages_that_are_fuzzed_reach_the_core(target):
    """The control: they are stepped, staged, refused and stopped at, each of them often."""
    counts = dict.fromkeys(("stepped", "staged", "refused", "stopped"), 0)

    @fuzz(200)
    @given(data=st.data())
    def each(data):
        node = NODES["follower"].id
        sender = data.draw(st.sampled_from([n for n in (1, 2, 3) if n != node]))
        told = data.draw(wired("follower", node, sender))
        for said in target.hit("follower", sender, [told]):
            counts[said] += 1

    each()
    assert all(counts.values()), counts


def test_an_abort_is_seen_as_one(target):
    """The control of the control: what does end a core ends this test's process alone."""
    victim = Target()
    victim.hit("fresh", 2, [b""])
    victim.process.kill()
    with pytest.raises(AssertionError, match="the process ended with -9"):
        victim.hit("fresh", 2, [b""])
