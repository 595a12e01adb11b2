"""A compose stack of the tests' own: its project, ports and networks meet no other stack.

Everything goes through the scripts behind `make up` and its siblings, as a person would use them.
Whatever a former run left behind is removed first, and `close` leaves nothing but images.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = "quorumvault-test"
NET = "172.29"
PORTS = "2"
IMAGE = "quorumvault:test"
SEATS = (1, 2, 3, 4, 5)
BUILD_TIMEOUT_S = 1200
"""Base system, wheels and image from nothing on a busy machine."""
READY_S = 300
"""Five nodes that start at once while the machine is busy with other tests."""
COMMAND_TIMEOUT_S = 240


def said(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, whatever that is, and keep what it said."""
    return subprocess.run(
        [program, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
    )


def docker(*arguments: str, check: bool = True) -> str:
    """A docker command's standard output."""
    done = said("docker", *arguments)
    assert not check or done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


def need_docker() -> None:
    """These tests never skip: a machine that cannot run them has to say so."""
    if shutil.which("docker") is None:
        pytest.fail("Docker is not installed, and these tests need it: apt-get install docker.io")
    answer = said("docker", "info")
    if answer.returncode != 0:
        pytest.fail(f"the Docker daemon does not answer, and these tests need it: {answer.stderr}")


class Stack:
    """Five data centers in containers, of a project of their own."""

    def __init__(self, run: Path) -> None:
        self.run_dir = run
        self.environment = os.environ | {
            "QUORUMVAULT_PROJECT": PROJECT,
            "QUORUMVAULT_PORTS": PORTS,
            "QUORUMVAULT_NET": NET,
            "QUORUMVAULT_RUN": str(run),
            "QUORUMVAULT_IMAGE": IMAGE,
            "QUORUMVAULT_READY_S": str(READY_S),
            "PYTHON": sys.executable,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # has `quorumvault`
        }

    def script(
        self, name: str, *arguments: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run one of the scripts in deploy/ to its end, whatever that is."""
        return subprocess.run(
            [ROOT / "deploy" / name, *arguments],
            check=False,
            env=self.environment | environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_TIMEOUT_S,
        )

    def must(self, name: str, *arguments: str, **environment: str) -> str:
        """What a script that has to succeed said on both streams."""
        done = self.script(name, *arguments, **environment)
        assert done.returncode == 0, (name, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def close(self) -> None:
        """Remove everything of this project, also what is half there."""
        self.must("down.sh", CONFIRM="yes")

    @property
    def connection_file(self) -> Path:
        return self.run_dir / "connection.json"

    @property
    def connection(self) -> dict[str, Any]:
        return json.loads(self.connection_file.read_text())

    def container(self, seat: int) -> str:
        return f"{PROJECT}-node-{seat}"

    @property
    def containers(self) -> list[str]:
        return [self.container(seat) for seat in SEATS]

    def url(self, seat: int) -> str:
        return f"https://127.0.0.1:{PORTS}{seat}443"

    def ready(self, seat: int) -> bool:
        """Does the node say on the host's loopback port that it is ready?"""
        return self.checks(seat)[0] == 200

    def checks(self, seat: int) -> tuple[int, str]:
        """Status and text of /readyz?verbose; 0 when nothing answers."""
        url = f"http://127.0.0.1:{PORTS}{seat}090/readyz?verbose"
        try:
            with urllib.request.urlopen(url, timeout=3) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def all_ready(self) -> bool:
        return all(self.ready(seat) for seat in SEATS)

    def cut(self, seat: int) -> None:
        """Take a data center off the mesh."""
        docker("network", "disconnect", f"{PROJECT}_mesh", self.container(seat))

    def mend(self, seat: int) -> None:
        """Put it back, with its own address."""
        address = f"{NET}.0.1{seat}"
        docker("network", "connect", "--ip", address, f"{PROJECT}_mesh", self.container(seat))

    def left(self) -> dict[str, str]:
        """What is there of this project, by kind; empty texts when nothing is."""
        label = f"label=com.docker.compose.project={PROJECT}"
        return {
            "containers": docker("ps", "--all", "--quiet", "--filter", label),
            "volumes": docker("volume", "ls", "--quiet", "--filter", label),
            "networks": docker("network", "ls", "--quiet", "--filter", label),
        }
