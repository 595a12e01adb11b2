"""`quorumvault demo` as a new user and as a test harness meet it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.system

HERE = Path(__file__).parent
DEMO = [sys.executable, "-m", "quorumvault.cli", "demo"]
CLIENT_PATH = os.pathsep.join((str(HERE), str(HERE.parent / "engines")))


def run(*options: str, timeout_s: float = 180, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*DEMO, *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env=os.environ | environment,
    )


def running_nodes() -> list[str]:
    lines = [
        " ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])
    ]
    return [line for line in lines if "node run --config" in line]


def test_without_a_terminal_the_demo_tells_its_story_and_leaves_nothing_behind(tmp_path: Path):
    done = run("--wan", "lan", TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    story = done.stdout
    for sentence in (
        "1. Alice's phone makes a random 32-byte backup key",
        "The same key is back",
        "Two data centers die",
        "password10: wrong, 0 left",
        "Ten wrong guesses.",
    ):
        assert sentence in story
    assert story.count("refused: all guesses are used") == 5
    assert done.stderr.splitlines()[-1].endswith("--exec 'CMD' runs a command against them.")
    assert not list(tmp_path.iterdir())
    assert not [line for line in running_nodes() if str(tmp_path) in line]


def test_an_outside_client_finds_every_promise_of_the_api_kept(tmp_path: Path):
    acceptance = f"{sys.executable} {HERE / 'acceptance.py'}"
    done = run(
        "--exec",
        acceptance,
        "--root",
        str(tmp_path / "root"),
        PYTHONPATH=CLIENT_PATH,
        ACCEPTANCE_LOG=str(tmp_path / "log"),
    )
    assert done.returncode == 0, done.stderr
    assert "acceptance: all held" in done.stdout
    words = list((tmp_path / "root" / "custodians").iterdir())
    assert len(words) == 25
    assert {path.stat().st_mode & 0o777 for path in words} == {0o600}


CHECK_CONNECTION = """
import json, os, pathlib, sys
c = json.loads(pathlib.Path(os.environ["QUORUMVAULT_CONNECTION"]).read_text())
assert list(c) == ["cluster_id","name","endpoints","ca_file","tenant","nodes","admin"], list(c)
assert [sorted(e) for e in c["endpoints"]] == [["dc","node","ops_url","seat","url"]] * 5
assert [e["node"] for e in c["endpoints"]] == [n["id"] for n in c["nodes"]]
assert sorted(c["tenant"]) == ["alg","iss","kid","private_key_file"]
for n in c["nodes"]:
    assert sorted(n) == ["data_dir","dc","id","pid","restart","token_dir"]
    os.kill(n["pid"], 0)
    assert pathlib.Path(n["data_dir"]).is_dir() and pathlib.Path(n["token_dir"]).is_dir()
for path in (c["ca_file"], c["tenant"]["private_key_file"], c["admin"]["cert_file"]):
    assert "BEGIN" in pathlib.Path(path).read_text()
assert len(c["admin"]["urls"]) == 5
sys.exit(17)
"""


def test_exec_ends_with_the_commands_code_and_its_connection_file_is_complete(tmp_path: Path):
    script = tmp_path / "check.py"
    script.write_text(CHECK_CONNECTION)
    published = tmp_path / "here.json"
    done = run("--exec", f"{sys.executable} {script}", "--connection-file", str(published))
    assert done.returncode == 17, done.stderr
    assert json.loads(published.read_text())["name"] == "demo"


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(tmp_path: Path):
    (tmp_path / "mine").write_text("precious")
    done = run("--root", str(tmp_path))
    assert done.returncode == 8
    assert done.stderr.count("\n") == 1
    assert "not empty" in done.stderr
    assert (tmp_path / "mine").read_text() == "precious"


def test_without_a_terminal_it_stays_up_when_told_to(tmp_path: Path):
    published = tmp_path / "connection.json"
    with subprocess.Popen(
        [*DEMO, "--wan", "none", "--stay", "--connection-file", str(published)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as started:
        assert started.stdout is not None
        assert any("stay up until you press Ctrl-C" in line for line in started.stdout)
        pids = [node["pid"] for node in json.loads(published.read_bytes())["nodes"]]
        alive = [pid for pid in pids if psutil.pid_exists(pid)]
        probed = subprocess.run(
            [*DEMO[:-1], "probe", "--connection", str(published)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        started.send_signal(signal.SIGINT)
        assert started.wait(timeout=30) == 0
    assert probed.returncode == 0, probed
    assert pids == alive, "the story killed two nodes; the file names those that came back"


def test_a_terminated_demo_ends_its_nodes(tmp_path: Path):
    with subprocess.Popen(
        [*DEMO, "--wan", "none", "--root", str(tmp_path / "root"), "--exec", "echo up; sleep 100"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "up\n"
        started.send_signal(signal.SIGTERM)
        assert started.wait(timeout=30) == 128 + signal.SIGTERM
    assert not [line for line in running_nodes() if str(tmp_path) in line]
