"""Health, ops, metrics, logs, witness, admission: the small rooms of a node."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from types import SimpleNamespace

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from node_world import World

from cluster.room import Room, Space
from node import logs
from node.admission import AccountRate, Slots
from node.evaluation import MAX_HEDGE_S, MIN_HEDGE_S, Hedge, settle
from node.health import PICTURE_S, Health, Picture, checks
from node.ops import Ops
from node.problems import KINDS, Charged, Code, Problem
from node.witness import Witness

GIB = 1 << 30
ROOMY = Space(0, 64 * GIB, 100 * GIB, 200 * GIB)


@pytest.fixture
def picture(world: World) -> Picture:
    return Picture(
        status=world.nodes[1].host.status(),
        space=ROOMY,
        hsm=True,
        hsm_reason="",
        draining=False,
        fewest_givers=5,
        threshold=3,
    )


def failing(picture: Picture) -> list[str]:
    return [check.name for check in checks(picture) if not check.ok]


async def test_a_healthy_node_passes_every_check(picture):
    assert failing(picture) == []


@pytest.mark.parametrize(
    ("changes", "status", "name"),
    [
        ({"draining": True}, {}, "serving"),
        ({"hsm": False, "hsm_reason": "pulled"}, {}, "hsm"),
        ({"fewest_givers": 2}, {}, "share-givers"),
        ({}, {"room": Room.SHORT}, "disk"),
        ({}, {"room": Room.FULL}, "disk"),
        ({}, {"slow_disk": True}, "disk"),
        ({}, {"stepping": False, "waiting_for": "marks"}, "raft"),
        ({}, {"hash_agreement": False}, "state-hash"),
        ({}, {"groups": ()}, "quorum"),
    ],
)
async def test_each_check_fails_for_its_own_reason(picture, changes, status, name):
    changed = replace(picture, status=msgspec.structs.replace(picture.status, **status), **changes)
    assert failing(changed) == [name]


async def test_a_shard_without_a_leader_or_behind_is_named(picture):
    first, *rest = picture.status.groups
    for changes, name in (({"leader": 0}, "quorum"), ({"catching_up": True}, "caught-up")):
        groups = (msgspec.structs.replace(first, **changes), *rest)
        status = msgspec.structs.replace(picture.status, groups=groups)
        (check,) = [c for c in checks(replace(picture, status=status)) if not c.ok]
        assert (check.name, check.detail.endswith("shard 0")) == (name, True)


async def test_a_picture_is_taken_at_most_twice_a_second(picture):
    taken = []
    clock = SimpleNamespace(now=0.0)

    def take():
        taken.append(1)
        return picture

    health = Health(take, lambda: clock.now)
    assert health.ready
    assert health.ready
    clock.now = 0.5
    assert health.ready
    assert len(taken) == 2


async def ask(ops: Ops, path: str, method: str = "GET") -> web.Response:
    return await ops.serve(make_mocked_request(method, path))


async def test_the_ops_listener_says_alive_ready_and_why_not(world, picture):
    metrics = world.nodes[1].assembly.metrics
    ops = Ops(Health(lambda: picture), metrics, lambda: True)
    assert (await ask(ops, "/livez")).status == 200
    assert (await ask(ops, "/readyz")).status == 200
    verbose = await ask(ops, "/readyz?verbose")
    assert "[+] hsm: ok" in verbose.text
    away = replace(picture, hsm=False, hsm_reason="pulled out")
    ops = Ops(Health(lambda: away), metrics, lambda: False)
    assert (await ask(ops, "/livez")).status == 503
    not_ready = await ask(ops, "/readyz")
    assert (not_ready.status, not_ready.text) == (503, "[-] hsm: pulled out\nnot ready\n")
    lost = await ask(ops, "/status")
    assert lost.status == 404
    assert all(page in lost.text for page in ("/ (the console)", "/livez", "/readyz", "/metrics"))
    assert (await ask(ops, "/livez", "POST")).status == 405


async def test_probes_share_a_picture_and_an_operator_gets_a_new_one(world):
    taken = 0

    def take():
        nonlocal taken
        taken += 1
        return world.nodes[1].assembly.health.look()[0]

    now = 0.0
    health = Health(take, lambda: now)
    assert health.ready
    health.look()
    assert taken == 1
    health.look_again()
    assert taken == 2
    now = PICTURE_S / 2
    health.look()
    assert taken == 2
    now = PICTURE_S
    health.look()
    assert taken == 3


@pytest.mark.usefixtures("_loggers")
async def test_a_log_on_a_full_disk_stops_nobody():
    with open("/dev/full", "ab", buffering=0) as full:  # noqa: ASYNC230, PTH123 - a device
        log = logs.configure("info", full, 1)
        for number in range(100):
            log.info("line", number=number, text="x" * 1000)


async def test_metrics_name_the_facts_and_no_account(phone, world):
    await phone.register()
    await phone.attempt(phone.guess()[1])
    assembly = world.nodes[1].assembly
    assembly.health.look()
    text = assembly.metrics.render().decode()
    for name in (
        'quorumvault_charges_total{outcome="done"} 1.0',
        'quorumvault_evaluations_total{kind="attempt",verified="false"} 1.0',
        'quorumvault_shares_total{kind="attempt",result="given"} 1.0',
        "quorumvault_ready 1.0",
        "quorumvault_hsm_up 1.0",
        'quorumvault_raft_applied{shard="0"}',
        "quorumvault_host_turns_total",
    ):
        assert name in text, name
    assert "alice" not in text
    assert phone.record_id.hex() not in text


def test_slots_are_given_back_whatever_happens():
    slots = Slots(1)
    with pytest.raises(RuntimeError), slots:
        raise RuntimeError
    with slots, pytest.raises(Problem) as raised, slots:
        pass
    assert raised.value.code is Code.BUSY
    assert slots.taken == 0


async def test_until_idle_waits_for_the_last_request():
    slots = Slots(2)
    await slots.until_idle()
    with slots:
        assert not slots._idle.is_set()
    await slots.until_idle()


def test_the_rate_refills_evenly_and_forgets_the_quiet(monkeypatch):
    from node import admission

    monkeypatch.setattr(admission, "MAX_ACCOUNTS", 10)
    clock = SimpleNamespace(now=0.0)
    rate = AccountRate(6, lambda: clock.now)
    for _ in range(6):
        rate.admit(b"a")
    with pytest.raises(Problem) as raised:
        rate.admit(b"a")
    assert raised.value.retry_after_s == 10
    clock.now = 10.0
    rate.admit(b"a")
    with pytest.raises(Problem):
        rate.admit(b"a")
    for n in range(100):
        rate.admit(b"%d" % n)
    assert len(rate._full_at) <= 10
    clock.now = 1000.0
    for n in range(10):
        rate.admit(b"new %d" % n)
    assert set(rate._full_at) <= {b"new %d" % n for n in range(10)}


def test_a_limit_of_zero_is_none():
    rate = AccountRate(0)
    for _ in range(1000):
        rate.admit(b"a")


def test_the_hedge_learns_and_stays_within_its_bounds():
    hedge = Hedge()
    assert hedge.after_s == MIN_HEDGE_S
    for _ in range(200):
        hedge.learn(0.1)
    assert hedge.after_s == pytest.approx(0.3, rel=0.01)
    for _ in range(200):
        hedge.learn(30)
    assert hedge.after_s == MAX_HEDGE_S


@pytest.mark.parametrize("code", Code)
def test_every_problem_has_its_whole_document(code):
    problem = Problem(code, "x: y", charged=Charged.UNKNOWN, guesses_remaining=3)
    body = json.loads(problem.body())
    assert body == {
        "type": f"urn:quorumvault:problem:{code}",
        "title": KINDS[code].title,
        "status": KINDS[code].status,
        "code": str(code),
        "detail": "x: y",
        "retryable": KINDS[code].retryable,
        "charged": "unknown",
        "guesses_remaining": 3,
    }
    assert ("Retry-After" in problem.headers()) == (body["status"] in (429, 503))


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [("no", "no", "no"), ("no", "unknown", "unknown"), ("yes", "unknown", "yes"),
     ("unknown", "unknown", "unknown"), ("no", "yes", "yes")],
)  # fmt: skip
def test_charges_of_one_request_combine(one, other, both):
    assert Charged(one).combined(Charged(other)) == both
    assert Charged(other).combined(Charged(one)) == both


def test_shares_that_are_no_elements_settle_to_nothing():
    assert settle(3, {1: b"\xff" * 32, 2: b"\xff" * 32, 3: b"\xff" * 32}, thorough=False) is None


def test_the_witness_survives_and_names_only_hashes(tmp_path):
    path = tmp_path / "witness.jsonl"
    for _ in range(2):
        witness = Witness(path, 1, 2)
        witness.write(
            "attempt", "given", record_id=b"r" * 32, era=3, attempt_id=b"a" * 32, element=b"e" * 32
        )
        witness.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 2
    assert lines[0]["record_id"] == (b"r" * 32).hex()
    assert lines[0]["seats"] == [2]
    assert (b"e" * 32).hex() not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_without_a_file_the_witness_writes_nothing(tmp_path):
    Witness(None, 1, 1).write("attempt", "given", record_id=b"", era=0)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def _loggers():
    import structlog

    root = logging.getLogger()
    before, level = root.handlers, root.level
    yield
    root.handlers = before
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.usefixtures("_loggers")
def test_a_log_line_is_json_and_holds_no_bytes(tmp_path):
    path = tmp_path / "node.log"
    with path.open("ab") as stream:
        log = logs.configure("info", stream, 4)
        log.debug("not shown")
        log.info("shown", secret=b"k" * 32, count=3)
        logging.getLogger("aiohttp").warning("from %s", "10.0.0.1")
        logging.getLogger("quorumvault.links").warning("link to node %d", 3)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["shown", "library", "library"]
    assert (lines[0]["node"], lines[0]["secret"], lines[0]["count"]) == (4, "(bytes)", 3)
    assert lines[1]["text"] == "from %s"
    assert lines[2]["text"] == "link to node 3"


def test_a_storm_of_one_second_is_a_few_lines_and_a_number():
    now = [0.5]
    throttle = logs.Throttle(2, clock=lambda: now[0])
    assert [throttle.admit() for _ in range(5)] == [0, 0, None, None, None]
    now[0] = 1.0
    assert [throttle.admit() for _ in range(3)] == [3, 0, None]
