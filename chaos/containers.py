"""Five vault nodes in containers: deploy/docker-compose.yml as a stack of its own, for chaos.

What runs is what `make up` runs: the same image, compose file and scripts, under another project
name, other ports and other networks, so that a developer's own stack beside it is left alone. One
more compose file gives each node a folder on the host for its share witness, and takes away the
restart policy: who starts a node again is for the driver to say. Everything is done by the
commands that an operator types; each has a limit of time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chaos.driver import DriverError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEPLOY: Final = Path(__file__).parents[1] / "deploy"
PROJECT: Final = "quorumvault-chaos"
PORTS: Final = "6"
"""First digit of the ports on the host: 61443 and so on, above those that Linux draws for outgoing
connections (60999) and those of process clusters; `make up` has 11443."""
NET: Final = "172.28"
IMAGE: Final = "quorumvault:local"
SEATS: Final = (1, 2, 3, 4, 5)
WITNESS: Final = "witness.jsonl"
WITNESS_FOLDER: Final = "/var/lib/quorumvault-witness"
TOKENS: Final = "/var/lib/quorumvault-token/tokens"
TOKENS_AWAY: Final = "/var/lib/quorumvault-token/tokens-away"
LOG_SIZE: Final = "200m"
"""A node's log must be whole when it is judged; an hour of chaos writes some megabytes."""
COMMAND_S: Final = 60.0
"""A docker command takes 0.1 to 0.7 s; on a machine that is very busy, seconds."""
UP_S: Final = 1200.0
"""With the image to build from nothing it takes minutes."""
DOWN_S: Final = 120.0
TAIL_LINES: Final = 15


async def run(
    argv: Sequence[str],
    given: bytes = b"",
    *,
    timeout_s: float = COMMAND_S,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a command to its end; returns its standard output.

    It has a session of its own: Ctrl-C ends the run, which then takes the stack down in order.

    Raises:
        DriverError: it cannot be started, says no, or is not done in time.

    """
    shown = " ".join(argv[:4])
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise DriverError(f"{argv[0]} cannot be started: {error.strerror}") from error
    try:
        async with asyncio.timeout(timeout_s):
            output, talk = await process.communicate(given)
    except TimeoutError as error:
        raise DriverError(f"`{shown}` was not done after {timeout_s:g} s") from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode != 0:
        lines = (output + talk).decode("utf-8", "replace").strip().splitlines()[-TAIL_LINES:]
        raise DriverError(f"`{shown}` failed ({process.returncode}): " + " ⏎ ".join(lines))
    return output.decode("utf-8", "replace")


def why_no_stack() -> str | None:
    """The reason why there can be no containers here, as far as one sees it without asking."""
    if not (DEPLOY / "docker-compose.yml").exists():
        return f"{DEPLOY} is not there: run it from a clone of the repository"
    if shutil.which("docker") is None:
        return "Docker is not installed: on Debian, apt-get install docker.io docker-compose"
    return None


class Stack:
    """The containers of one run.

    Args:
        root: an existing folder; gets `run` (the deployment's), `witness` and `logs`.
        shards: Raft groups.
        limit: guesses per registration.
        grace_s: seconds of grace after the last guess.

    """

    def __init__(self, root: Path, *, shards: int, limit: int, grace_s: int) -> None:
        self.root = root
        self._options = f"--shards {shards} --limit {limit} --grace {grace_s}"
        self._image = os.environ.get("QUORUMVAULT_IMAGE", IMAGE)
        self._ours = False

    # ---------------------------------------------------------------- names

    @property
    def connection_file(self) -> Path:
        """For clients on this machine, by the ports on loopback."""
        return self.root / "run" / "connection.json"

    def witness(self, seat: int) -> Path:
        """What a node witnessed at its HSM boundary."""
        return self.root / "witness" / f"node-{seat}" / WITNESS

    def log(self, seat: int) -> Path:
        """What a node wrote, as of the last `take_logs`."""
        return self.root / "logs" / f"node-{seat}.log"

    @staticmethod
    def name(seat: int) -> str:
        """The container's name."""
        return f"{PROJECT}-node-{seat}"

    @staticmethod
    def seat(name: str) -> int | None:
        """Whose container it is; None for one that is no node's."""
        head, _, tail = name.rpartition("-")
        return int(tail) if head == f"{PROJECT}-node" and tail.isdigit() else None

    @staticmethod
    def address(seat: int) -> str:
        """On the mesh."""
        return f"{NET}.0.{10 + seat}"

    @staticmethod
    def ready_url(seat: int) -> str:
        """Whether the node can serve, asked on this machine."""
        return f"http://127.0.0.1:{PORTS}{seat}090/readyz"

    # ---------------------------------------------------------------- up and down

    async def refuse_if_taken(self) -> None:
        """Look before anything is made.

        Raises:
            DriverError: there is no Docker, or what another run made is there.

        """
        if reason := why_no_stack():
            raise DriverError(reason)
        if await self._containers():
            raise DriverError(
                f"containers of the project {PROJECT} are there: another chaos run goes on, or one "
                f"was killed and left them; then `QUORUMVAULT_PROJECT={PROJECT} CONFIRM=yes "
                f"{DEPLOY}/down.sh` removes them"
            )

    async def up(self) -> None:
        """Build the image, create the vault, start five nodes, wait until all are ready.

        Raises:
            DriverError: it does not come up; has the last lines of what said why.

        """
        self._ours = True
        more = self._write_override()
        await run(
            [str(DEPLOY / "up.sh")],
            timeout_s=UP_S,
            environment=self._environment() | {"QUORUMVAULT_OVERRIDES": str(more)},
        )

    async def down(self) -> None:
        """Keep the logs; remove containers, networks and volumes, with all keys, unasked."""
        if not self._ours:
            return
        await asyncio.to_thread(self.take_logs)
        nodes = [name for name in await self._containers() if self.seat(name) is not None]
        if nodes:  # at once: `compose down` would let each of them drain
            await run(["docker", "rm", "--force", *nodes])
        environment = self._environment() | {"CONFIRM": "yes"}
        await run([str(DEPLOY / "down.sh")], timeout_s=DOWN_S, environment=environment)
        self._ours = False

    async def _containers(self) -> list[str]:
        label = f"label=com.docker.compose.project={PROJECT}"
        argv = ["docker", "ps", "--all", "--filter", label, "--format", "{{.Names}}"]
        return (await run(argv)).split()

    def _environment(self) -> dict[str, str]:
        """For the scripts of deploy/ (compose.sh lists what they know)."""
        return os.environ | {
            "QUORUMVAULT_PROJECT": PROJECT,
            "QUORUMVAULT_PORTS": PORTS,
            "QUORUMVAULT_NET": NET,
            "QUORUMVAULT_RUN": str(self.root / "run"),
            "QUORUMVAULT_IMAGE": self._image,
            "WAN": "none",  # its service would stand between who sends and who receives
            "MONITORING": "no",
            "GRAFANA": "no",
            "PYTHON": sys.executable,
        }

    def _write_override(self) -> Path:
        """The compose file on top of the deployment's own; JSON is YAML."""
        services: dict[str, object] = {
            "create": {"environment": {"CLUSTER_OPTIONS": self._options}}
        }
        for seat in SEATS:
            folder = self.witness(seat).parent
            folder.mkdir(parents=True)
            folder.chmod(0o777)  # the vault's user has no number here; only we enter the root
            services[f"node-{seat}"] = {
                "restart": "no",
                "environment": {
                    "QUORUMVAULT_WITNESS_FILE": f"{WITNESS_FOLDER}/{WITNESS}",
                    "QUORUMVAULT_LIMITS_ACCOUNT_PER_MINUTE": "0",
                },
                "volumes": [f"{folder}:{WITNESS_FOLDER}"],
                "logging": {
                    "driver": "json-file",
                    "options": {"max-size": LOG_SIZE, "max-file": "1"},
                },
            }
        path = self.root / "override.yml"
        path.write_text(json.dumps({"services": services}, indent=1) + "\n")
        return path

    # ---------------------------------------------------------------- one node

    async def inspect(self, seat: int, what: str) -> str:
        """A field of the container, by Docker's own template."""
        argv = ["docker", "inspect", "--format", f"{{{{{what}}}}}", self.name(seat)]
        return (await run(argv)).strip()

    async def running(self, seat: int) -> bool:
        """True while its process lives, be it frozen."""
        return await self.inspect(seat, ".State.Running") == "true"

    async def do(
        self, command: str, seat: int, *options: str, timeout_s: float = COMMAND_S
    ) -> None:
        """`docker COMMAND [OPTIONS] CONTAINER`."""
        await run(["docker", command, *options, self.name(seat)], timeout_s=timeout_s)

    async def unplug(self, seat: int) -> None:
        """Take the container's interface on the mesh away."""
        await run(["docker", "network", "disconnect", f"{PROJECT}_mesh", self.name(seat)])

    async def plug(self, seat: int) -> None:
        """Give it back, with the address that the others know."""
        address = self.address(seat)
        await run(
            ["docker", "network", "connect", "--ip", address, f"{PROJECT}_mesh", self.name(seat)]
        )

    async def move_tokens(self, seat: int, *, away: bool) -> None:
        """Rename the token directory on its volume, whatever state the node is in."""
        names = (TOKENS, TOKENS_AWAY) if away else (TOKENS_AWAY, TOKENS)
        await run(
            [
                "docker", "run", "--rm", "--network", "none", "--read-only",
                "--volumes-from", self.name(seat), "--entrypoint", "mv", self._image,
                "--no-target-directory", *names,
            ]
        )  # fmt: skip

    def take_logs(self) -> dict[int, Path]:
        """Write what every node wrote so far to its file; returns the files. It blocks."""
        self.log(0).parent.mkdir(exist_ok=True)
        for seat in SEATS:
            with self.log(seat).open("wb") as file:
                argv = ["docker", "logs", self.name(seat)]
                subprocess.run(argv, stdout=file, stderr=file, timeout=COMMAND_S, check=False)
        return {seat: self.log(seat) for seat in SEATS}

    def last_line(self, seat: int) -> str:
        """The last line that a node wrote. It blocks."""
        lines = self.take_logs()[seat].read_text("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "(empty log)"
