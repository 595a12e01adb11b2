"""What an operator's commands say when a node is unknown, silent, too old, or says no."""

from __future__ import annotations

import json
import threading

import pytest
from five_desks import NO_HTTP, Desks, problem
from five_reports import changed, led_by
from typer.testing import CliRunner

from quorumvault.cli import app
from quorumvault.cli.exits import Exit, Failure


@pytest.fixture
def desks(tmp_path):
    made = Desks(tmp_path)
    yield made
    made.close()


def run(desks: Desks, *words: str):
    return CliRunner().invoke(app, [*words, "--connection", str(desks.connection_file())])


def failure(desks: Desks, *words: str) -> Failure:
    done = run(desks, *words)
    assert isinstance(done.exception, Failure), (done.exception, done.output)
    assert "\n" not in str(done.exception)
    return done.exception


def moved_to(node: int):
    return lambda _call, body: (200, {"shard": json.loads(body)["shard"], "leader": node})


# ---------------------------------------------------------------- a node that is not as thought


@pytest.mark.parametrize("words", [["node", "drain"], ["node", "undrain"], ["node", "reload"]])
def test_a_node_that_does_not_exist_is_said_so_with_those_that_do(desks, words):
    failed = failure(desks, *words, "9")
    assert failed.exit_code == Exit.NOT_FOUND
    assert "no node 9" in str(failed)
    assert "it has 1, 2, 3, 4, 5" in str(failed)
    assert not desks.calls


def test_a_node_that_is_down_is_named_with_its_address(desks):
    desks.stop(2)
    failed = failure(desks, "node", "drain", "2")
    assert failed.exit_code == Exit.CONNECTION
    assert f"node 2 (amsterdam) does not answer at {desks.urls[2]}" in str(failed)
    assert "Connection refused" in str(failed)
    assert "quorumvault cluster status" in str(failed)


def test_a_certificate_that_is_no_operators_is_named(desks):
    desks.set("POST /v1/undrain", problem(403, "forbidden", "an operator's certificate, please"))
    failed = failure(desks, "node", "undrain", "1")
    assert failed.exit_code == Exit.DENIED
    assert "node 1 (frankfurt) does not take this certificate for an operator's" in str(failed)
    assert "quorumvault certs issue --operator" in str(failed)


def test_a_node_that_is_too_old_for_the_call_is_told_with_its_version(desks):
    desks.reports[3] = changed(desks.reports[3], version="0.0.9")
    failed = failure(desks, "node", "reload", "3")
    assert failed.exit_code == Exit.NOT_FOUND
    assert "node 3 (paris) runs version 0.0.9, which does not know POST /v1/reload" in str(failed)


@pytest.mark.parametrize("body", [b"{}", b"[]", b"nonsense", b'{"changed": 3}', b"[" * 2000, b""])
def test_an_answer_that_is_none_is_an_error_of_one_line(desks, body):
    desks.set("POST /v1/reload", (200, body))
    failed = failure(desks, "node", "reload", "1")
    assert "node 1 (frankfurt)" in str(failed)


def test_a_redirect_is_not_followed(desks):
    desks.set("POST /v1/drain", (302, {}), 1)
    assert "status 302" in str(failure(desks, "node", "drain", "1"))
    assert [call for _, call, _ in desks.calls] == ["POST /v1/drain"]


def test_no_proxy_of_the_environment_is_asked(desks, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    desks.set("POST /v1/undrain", (200, {"draining": False}))
    assert run(desks, "node", "undrain", "1").exit_code == Exit.OK


def test_what_a_node_says_cannot_move_the_cursor_of_a_terminal(desks):
    desks.set("POST /v1/undrain", problem(409, "conflict", "no\x1b[2Jway\r\nquorumvault: all well"))
    failed = failure(desks, "node", "undrain", "1")
    assert "\x1b" not in str(failed)


SHOUTS = "\x1b]0;all well\x07\x9b2J"


@pytest.mark.parametrize(
    "answer",
    [
        (200, {"node": SHOUTS}),
        (200, {"node": 3, "moon": 10**400}),
        (NO_HTTP, f"{SHOUTS}\r\n".encode()),
        (NO_HTTP, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nno"),
        (NO_HTTP, b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\nnone"),
        (NO_HTTP, b"HTTP/1.1 200 OK\r\n" + b"x" * 70_000),
    ],
)
def test_one_hostile_node_neither_hides_the_others_nor_moves_the_cursor(desks, answer):
    desks.set("GET /v1/status", answer, 3)
    done = run(desks, "cluster", "status")
    assert done.exit_code == Exit.DEGRADED, done.exception
    assert "node 3 (paris) does not answer" in done.output
    assert all(letter.isprintable() or letter == "\n" for letter in done.output)


def test_a_node_that_trickles_its_answer_is_given_up(desks, monkeypatch):
    monkeypatch.setattr("quorumvault.cli.admin.REQUEST_TIMEOUT_S", 0.2)
    ended = threading.Event()

    def trickle():
        yield b"HTTP/1.1 200 OK\r\nX: "
        while not ended.wait(0.05):
            yield b"x"

    desks.set("GET /v1/status", (NO_HTTP, trickle()), 3)
    done = run(desks, "cluster", "status")
    ended.set()
    assert done.exit_code == Exit.DEGRADED
    assert "node 3 (paris) does not answer: no whole answer within" in done.output


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"admin": None}, "with admin access"),
        ({"admin": {"urls": []}}, "with admin access"),
        ({"ca_file": "nowhere.pem"}, "nowhere.pem: No such file"),
        ({"endpoints": 3}, "with admin access"),
        (
            {"admin": {"urls": ["https://x"] * 5, "cert_file": "ca.pem", "key_file": "ca.pem"}},
            "ca.pem does not load",
        ),
    ],
)
def test_a_connection_file_without_what_an_operator_needs_is_refused(desks, changes, says):
    path = desks.connection_file(**changes)
    done = CliRunner().invoke(app, ["node", "drain", "1", "--connection", str(path)])
    assert isinstance(done.exception, Failure)
    assert done.exception.exit_code == Exit.USAGE
    assert says in str(done.exception)


# ---------------------------------------------------------------- reload


def test_a_reload_tells_what_changed_and_what_takes_a_restart(desks):
    told = {"changed": ["log.level", "tls.cert"], "needs_restart": ["listen.client"]}
    desks.set("POST /v1/reload", (200, told))
    shown = run(desks, "node", "reload", "4").stdout
    assert "node 4: changed: log.level, tls.cert" in shown
    assert "takes a restart: listen.client" in shown
    assert json.loads(run(desks, "node", "reload", "4", "-o", "json").stdout) == {"node": 4, **told}


def test_a_configuration_that_is_refused_ends_with_2_in_the_nodes_words(desks):
    words = "node.toml: limits.body_bytes: must be a number; correct it"
    desks.set("POST /v1/reload", problem(422, "bad-configuration", words))
    failed = failure(desks, "node", "reload", "4")
    assert failed.exit_code == Exit.USAGE
    assert words in str(failed)


# ---------------------------------------------------------------- drain


def test_a_drain_waits_until_the_node_leads_nothing(desks):
    looks: list[str] = []

    def status(call, _body):
        looks.append(call)
        if len(looks) == 3:
            led_by(desks.reports, 2)
        return 200, json.loads(json.dumps(_plain(desks.reports[1])))

    desks.set("POST /v1/drain", (200, {"draining": True, "leads": 1}), 1)
    desks.set("GET /v1/status", status, 1)
    done = run(desks, "node", "drain", "1", "--wait", "20")
    assert done.exit_code == Exit.OK
    assert len(looks) == 3
    assert "drained, and leads nothing after" in done.stderr


def _plain(report):
    import msgspec

    return msgspec.to_builtins(report, str_keys=True)


def test_a_drain_that_nobody_relieves_ends_with_124_and_says_what_is_led_still(desks):
    desks.set("POST /v1/drain", (200, {"draining": True, "leads": 1}), 2)
    failed = failure(desks, "node", "drain", "2", "--wait", "0")
    assert failed.exit_code == Exit.TIMEOUT
    assert "still leads shard 1" in str(failed)


# ---------------------------------------------------------------- leaders


def test_a_shard_is_asked_of_its_leader(desks):
    desks.set("POST /v1/leader/transfer", moved_to(5))
    done = run(desks, "leader", "transfer", "--shard", "1", "--to", "5")
    assert done.exit_code == Exit.OK
    assert done.stdout == "shard 1: node 2 (amsterdam) -> node 5 (stockholm)\n"
    asked = [(node, json.loads(body)) for node, call, body in desks.calls if "transfer" in call]
    assert asked == [(2, {"shard": 1, "to": 5})]


def test_a_leader_that_has_just_changed_is_followed(desks):
    stale = problem(409, "not-leader", "this node does not lead shard 0: node 4 does", leader=4)
    desks.set("POST /v1/leader/transfer", stale, 1)
    desks.set("POST /v1/leader/transfer", moved_to(3), 4)
    done = run(desks, "leader", "transfer", "--shard", "0", "--to", "3", "-o", "json")
    assert json.loads(done.stdout) == {
        "shards": [{"shard": 0, "before": 1, "leader": 3, "problem": ""}]
    }


def test_leaders_that_point_at_each_other_are_not_followed_for_ever(desks):
    for node, other in ((1, 4), (4, 1)):
        stale = problem(409, "not-leader", "ask that one", leader=other)
        desks.set("POST /v1/leader/transfer", stale, node)
    assert failure(desks, "leader", "transfer", "--shard", "0", "--to", "3").exit_code == 8
    assert sum("transfer" in call for _, call, _ in desks.calls) == 3


def test_all_shards_go_but_those_that_the_heir_leads_already(desks):
    desks.set("POST /v1/leader/transfer", moved_to(3))
    done = run(desks, "leader", "transfer", "--shard", "all", "--to", "3")
    assert done.exit_code == Exit.OK
    assert "shard 2: node 3 (paris) leads it already" in done.stdout
    assert sum("transfer" in call for _, call, _ in desks.calls) == 2


def test_a_shard_that_stays_is_tried_once_more_and_then_told(desks):
    desks.set("POST /v1/leader/transfer", moved_to(5))
    unwilling = problem(409, "unwilling", "node 5 is too many entries behind; name another node")
    desks.set("POST /v1/leader/transfer", unwilling, 2)
    done = run(desks, "leader", "transfer", "--shard", "all", "--to", "5")
    assert isinstance(done.exception, Failure)
    assert done.exception.exit_code == Exit.DEGRADED
    assert "shard 1 did not go to node 5" in str(done.exception)
    assert "too many entries behind" in done.stdout
    assert sum(node == 2 and "transfer" in call for node, call, _ in desks.calls) == 2


@pytest.mark.parametrize(
    ("shard", "to", "code", "says"),
    [
        ("3", "1", Exit.NOT_FOUND, "no shard 3: they are numbered from 0 to 2"),
        ("-1", "1", Exit.USAGE, "give a shard's number, or 'all'"),
        ("x", "1", Exit.USAGE, "give a shard's number, or 'all'"),
        ("²", "1", Exit.USAGE, "give a shard's number, or 'all'"),
        ("9" * 5000, "1", Exit.USAGE, "give a shard's number, or 'all'"),
        ("0", "6", Exit.NOT_FOUND, "no node 6"),
    ],
)
def test_a_wish_that_cannot_be_is_refused(desks, shard, to, code, says):
    failed = failure(desks, "leader", "transfer", "--shard", shard, "--to", to)
    assert failed.exit_code == code
    assert says in str(failed)
    assert not [call for _, call, _ in desks.calls if "transfer" in call]


def test_with_nobody_there_nothing_can_be_handed_over(desks):
    for node in range(1, 6):
        desks.stop(node)
    failed = failure(desks, "leader", "transfer", "--shard", "all", "--to", "1")
    assert failed.exit_code == Exit.CONNECTION


def test_balance_asks_every_node_and_names_the_one_that_is_away(desks):
    desks.set("POST /v1/leader/balance", (200, {"asked": []}))
    desks.set("POST /v1/leader/balance", (200, {"asked": [0, 2]}), 1)
    desks.stop(4)
    done = run(desks, "leader", "balance")
    assert done.exit_code == Exit.DEGRADED
    assert "node 1 (frankfurt): hands over shard 0, 2" in done.stdout
    assert "node 5 (stockholm): leads what it should" in done.stdout
    assert "node 4 (dublin) does not answer" in done.stderr
    told = json.loads(run(desks, "leader", "balance", "-o", "json").stdout)
    assert told["nodes"][0] == {"node": 1, "handed_over": [0, 2]}
    assert [each["node"] for each in told["not_asked"]] == [4]
