"""A node is lost for good: another takes its seat, and not one guess or count comes of it."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import TYPE_CHECKING

import pytest
import sodium_client as opaque
from accounts import Account, Guess
from harness import Vault5, vault5, wait_until
from judgement import judge
from membership import (
    PATIENCE_S,
    directory,
    ended,
    files,
    guess_patiently,
    member,
    patiently,
    refused,
    statuses,
    until_whole,
)
from plain_client import unb64

from chaos import replacing, witness
from chaos.client import Endpoints
from chaos.load import Load
from chaos.processes import ProcessNode

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

pytestmark = [pytest.mark.system, pytest.mark.timeout(420)]

RIGHT, WRONG, KEY = b"the right one", b"a wrong one", b"k" * 32
SERVED_AGAIN_S = 60.0
PAGE = 4096
"""Of the store's file; its first two pages say only where the newest of the others are."""


@pytest.fixture(scope="module")
def _vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault5]:
    with vault5(tmp_path_factory.mktemp("replace"), shards=4) as running:
        yield running


@pytest.fixture
def vault(_vault: Vault5) -> Iterator[Vault5]:
    """Five members, all up, whoever they are by now; and so afterwards."""
    yield _vault
    dead = [node.id for node in _vault.cluster.nodes.values() if not node.running]
    _vault.restart(*dead)
    until_whole(_vault)


@pytest.fixture
def account(vault: Vault5) -> Iterator[Account]:
    """One of its own for each test, registered, with nine guesses left."""
    made = Account(vault, "replace")
    patiently(lambda: made.register(vault.ids[0], RIGHT, KEY))
    guess_patiently(made, vault.ids[1], WRONG)
    yield made
    made.close()


def seats_that_gave(vault: Vault5, guess: Guess, node: ProcessNode | None = None) -> set[int]:
    """From the witnesses of all nodes, or of one: who gave shares for this attempt."""
    wanted = unb64(guess.answer["attempt_id"]).hex()
    found = witness.read(vault.witnesses if node is None else [node.witness])
    gave = (seats for attempt, seats in found.given.items() if attempt.attempt_id == wanted)
    return set().union(*gave)


async def test_a_node_lost_for_good_under_load_is_replaced_and_the_old_one_stays_out(
    vault: Vault5, account: Account, seeded: random.Random
) -> None:
    old = seeded.choice(vault.ids)
    lost = vault.cluster.nodes[old]
    early = [
        guess_patiently(account, node, WRONG) for node in vault.ids[:4]
    ]  # five of ten are gone
    async with (
        await Endpoints.connect(vault.connection_file) as endpoints,
        Load(endpoints, 6, seeded, "replace", think_s=0.05) as load,
    ):
        await load.start()
        await load.progress(20, SERVED_AGAIN_S)
        await asyncio.to_thread(vault.kill, old)
        ghost = lost.folder.with_name("ghost")
        await asyncio.to_thread(shutil.copytree, lost.folder, ghost)  # somebody kept its disk
        new = await asyncio.to_thread(vault.call, vault.cluster.replace(old))
        endpoints.urls[new] = endpoints.urls.pop(old)
        await asyncio.to_thread(until_whole, vault)
        await load.everybody(SERVED_AGAIN_S)

        # With two others down nothing is evaluated without the new node.
        others = [node for node in vault.ids if node != new]
        down = seeded.sample(others, 2)
        left = [node for node in vault.ids if node not in down]
        await asyncio.to_thread(vault.kill, *down)
        await load.everybody(SERVED_AGAIN_S)
        await asyncio.to_thread(the_new_node_gives, vault, account, early, left, new)
        await asyncio.to_thread(vault.restart, *down)

        await asyncio.to_thread(the_old_one_is_refused, vault, old, new, ghost)
        await load.everybody(SERVED_AGAIN_S)
        await load.stop()
        await judge(vault, load.clients)
    account.nodes = vault.ids
    assert patiently(account.seen).guesses_remaining == 0


def the_new_node_gives(
    vault: Vault5, thief: Account, early: list[Guess], left: list[int], new: int
) -> None:
    """Its ledger has what was charged before it came; five more are given, and no sixth."""
    seat = vault.cluster.nodes[new].entry.seat
    for guess in early:  # the same attempts again: charged long ago, evaluated once more
        answer = wait_until(
            lambda guess=guess: (a := thief.attempt(new, guess)).status == 200 and a,
            "an attempt from before the replacement is answered again",
            PATIENCE_S,
        )
        assert answer.body["replayed"] is True
        assert answer.body["guesses_remaining"] == 5
        assert seat in seats_that_gave(vault, guess, vault.cluster.nodes[new])
    for number in range(5):
        guess = guess_patiently(thief, left[number % len(left)], WRONG)
        assert guess.answer["guesses_remaining"] == 4 - number
        assert seat in seats_that_gave(vault, guess)
    for node in left:
        last = Guess(opaque.login_start(RIGHT), RIGHT)
        answer = wait_until(
            lambda node=node, last=last: (a := thief.attempt(node, last)).status != 503 and a,
            "the eleventh guess is refused, and not for want of a quorum",
            PATIENCE_S,
        )
        assert (answer.status, answer.code) == (423, "exhausted")


def the_old_one_is_refused(vault: Vault5, old: int, new: int, ghost_folder) -> None:
    """Its own certificate, disk and token, and the cluster file that it knew."""
    lost = vault.cluster.replaced[old]
    shutil.copytree(ghost_folder / "data", lost.data_dir)
    shutil.copytree(ghost_folder / "tokens", lost.token_dir)
    successor = vault.cluster.nodes[new].entry
    spare = iter(range(vault.cluster._ports.base + 21, vault.cluster._ports.base + 25))
    config = lost.config.read_text()
    for listener in ("client", "peer", "admin", "ops"):
        address = getattr(successor, listener)
        config = config.replace(f'"{address}"', f'"127.0.0.1:{next(spare)}"')
    lost.config.write_text(config)
    vault.call(vault.cluster.launch(lost))
    code, line = ended(vault, lost)
    assert code == 70
    assert f"node {old} was replaced by node {new}" in line
    assert "shut this one down and destroy its HSM keys" in line
    refusals = [
        node.id
        for node in vault.cluster.nodes.values()
        if f"refused 127.0.0.1: node {old} was replaced by node {new}" in node.log.read_text()
    ]
    assert len(refusals) >= 3
    for status in statuses(vault).values():
        assert all(old not in group["voters"] + group["learners"] for group in status["groups"])
        assert old not in [peer["node"] for peer in status["peers"]]
    # With the newer file it does not even open its store.
    shutil.copyfile(directory(vault) / "cluster.json", lost.cluster_file)
    vault.call(vault.cluster.launch(lost))
    code, line = ended(vault, lost)
    assert (code, f"node {old} was replaced by node {new}" in line) == (8, True)


def test_a_working_node_is_replaced_and_ends_by_itself(vault: Vault5, account: Account) -> None:
    """A machine is to be given back: its node still runs, and nobody kills it."""
    old = vault.ids[1]
    new = vault.call(vault.cluster.replace(old, lost=False))
    gone = vault.cluster.replaced[old]
    code, line = ended(vault, gone)
    assert code == 70
    assert f"node {old} was replaced by node {new}" in line
    until_whole(vault)
    account.nodes = vault.ids
    assert patiently(account.seen).guesses_remaining == 9
    assert patiently(lambda: account.recover(new, RIGHT)) == KEY
    told = account.client.must(vault.url(new), "GET", "/v1/vault")
    assert [place["id"] for place in told["nodes"]] == vault.ids


def test_a_dry_run_tells_the_quorum_before_and_after_and_changes_nothing(vault: Vault5) -> None:
    old = vault.ids[2]
    held = [directory(vault), *(node.cluster_file for node in vault.cluster.nodes.values())]
    before = files(directory(vault)), [path.read_bytes() for path in held[1:]]
    revision = vault.cluster.book.revision
    shown = member(vault, "replace", str(old), "--dry-run")
    assert shown.returncode == 0, shown.stderr
    new = max(*vault.ids, *vault.cluster.replaced, 0) + 1
    for words in (
        "now", f"node {old} is removed", f"node {new} is a voter", "3 of 5", "3 of 4"
    ):  # fmt: skip
        assert words in " ".join(shown.stdout.split())
    assert "Nothing was changed" in shown.stderr
    plan = json.loads(member(vault, "replace", str(old), "--dry-run", "-o", "json").stdout)
    assert (plan["old"], plan["new"], plan["begun"]) == (old, new, False)
    assert [step["may_fail"] for step in plan["steps"]] == [2, 1, 1, 2]
    vault.kill(old)
    plan = json.loads(member(vault, "replace", str(old), "--dry-run", "-o", "json").stdout)
    assert [step["may_fail"] for step in plan["steps"]] == [1, 1, 1, 2]
    assert (files(directory(vault)), [path.read_bytes() for path in held[1:]]) == before
    assert {status["revision"] for status in statuses(vault).values()} == {revision}


def test_it_is_refused_when_the_quorum_would_be_lost(vault: Vault5) -> None:
    old, *others = vault.ids
    down = others[:2]
    before = files(directory(vault))
    vault.kill(*down)
    line = refused(member(vault, "replace", str(old)), 5)
    assert f"node {old} is not replaced now" in line
    assert "2 of 4 voters of shard 0 would be up and 3 are needed" in line
    assert f"bring back node {', '.join(str(node) for node in sorted(down))} first" in line
    assert refused(member(vault, "replace", str(old), "--dry-run"), 5) == line
    assert files(directory(vault)) == before
    vault.restart(*down)
    until_whole(vault)
    assert member(vault, "replace", str(old), "--dry-run").returncode == 0


def test_what_cannot_be_is_refused_in_one_line(vault: Vault5) -> None:
    before = files(directory(vault))
    a, b = vault.ids[:2]
    gone = next(iter(vault.cluster.replaced))
    assert "node 99 is not in the cluster file" in refused(member(vault, "replace", "99"), 7)
    assert "an id is used once" in refused(member(vault, "replace", str(a), "--id", str(b)), 2)
    line = refused(member(vault, "replace", str(gone), "--id", "4000"), 8)
    assert f"node {gone} was replaced by node" in line
    peer = vault.cluster.nodes[b].entry.peer
    line = refused(member(vault, "replace", str(a), "--peer", peer), 2)
    assert f"{peer} is already" in line
    line = refused(member(vault, "replace", str(a), "--authority-key", "/dev/null"), 2)
    assert "authority" in line
    assert files(directory(vault)) == before


def test_a_node_refused_for_its_directory_is_replaced_by_the_command_that_the_line_names(
    vault: Vault5, account: Account
) -> None:
    """An old copy, then a flipped bit in every page, then nothing at all."""
    old = vault.ids[4]
    node = vault.cluster.nodes[old]
    step = f"replace the node with 'quorumvault member replace {old} --cluster DIR' (docs/node.md)"
    vault.kill(old)
    copy = node.folder / "copy"
    shutil.copytree(node.data_dir, copy)
    vault.restart(old)
    vault.kill(old)
    newest = node.folder / "newest"
    node.data_dir.rename(newest)

    def refused_with(code: int, words: str) -> None:
        vault.call(vault.cluster.launch(node))
        ended_with, line = ended(vault, node)
        assert ended_with == code, line
        assert words in line
        assert line.endswith(step)

    shutil.copytree(copy, node.data_dir)
    refused_with(8, "older than the HSM's stamp")
    shutil.rmtree(node.data_dir)

    shutil.copytree(newest, node.data_dir)
    file = node.data_dir / "store" / "data.mdb"
    data = bytearray(file.read_bytes())
    for end in range(3 * PAGE, len(data) + 1, PAGE):  # a page is filled from its end
        data[end - 3] ^= 1
    file.write_bytes(data)
    refused_with(1, "store")
    shutil.rmtree(node.data_dir)

    refused_with(8, "has run before")

    new = vault.call(vault.cluster.replace(old))
    until_whole(vault)
    account.nodes = vault.ids
    assert patiently(account.seen).guesses_remaining == 9
    assert patiently(lambda: account.recover(new, RIGHT)) == KEY


def test_a_node_that_was_away_gets_the_file_later_and_nothing_is_replaced_meanwhile(
    vault: Vault5,
) -> None:
    first, away, second = vault.ids[:3]
    vault.kill(away, first)
    shutil.rmtree(vault.cluster.nodes[first].data_dir)
    handed = member(vault, "replace", str(first), "--no-wait", "-o", "json")
    assert handed.returncode == 4
    assert f"node {away} did not take the cluster file" in handed.stderr
    assert "quorumvault member sync" in handed.stderr
    new = json.loads(handed.stdout)["new"]
    assert f"node {second} is not replaced now" in refused(member(vault, "replace", str(second)), 5)
    vault.restart(away)
    line = refused(member(vault, "replace", str(second)), 8)
    assert f"the replacement of node {first} is not finished" in line
    assert f"member replace {first} " in line
    node = replacing.enter(vault.cluster, first, new)
    vault.call(replacing.settle(vault.cluster, node))
    vault.spawn(new)
    assert statuses(vault)[away]["revision"] == vault.cluster.book.revision - 1
    synced = member(vault, "sync")
    assert synced.returncode == 0, synced.stderr
    until_whole(vault)
    assert {status["revision"] for status in statuses(vault).values()} == {
        vault.cluster.book.revision
    }
    again = member(vault, "replace", str(first), "--wait", "--timeout", "30")  # it is done already
    assert again.returncode == 0, again.stderr


def test_no_secret_is_in_what_the_command_prints_or_the_nodes_log(vault: Vault5) -> None:
    """I11: custodians' words, private keys, PINs."""
    printed = member(vault, "replace", str(vault.ids[0]), "--dry-run", "-o", "json")
    last = vault.cluster.book.retired[-1].id
    again = member(vault, "replace", str(last), "--no-wait", "-o", "json")
    assert again.returncode == 0, again.stderr
    nodes = [*vault.cluster.nodes.values(), *vault.cluster.replaced.values()]
    said = "".join([
        printed.stdout, printed.stderr, again.stdout, again.stderr,
        *(node.log.read_text(errors="replace") for node in nodes),
    ])  # fmt: skip
    secrets = [words for seat in vault.cluster.words.values() for words in seat]
    secrets += [(node.folder / name).read_text() for node in nodes for name in ("pin", "so-pin")]
    assert all(secret.strip() not in said for secret in secrets)
    assert "PRIVATE KEY" not in said
