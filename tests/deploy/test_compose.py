"""Five data centers with docker-compose, for real: what deploy/README.md promises, in one life.

The tests share one stack and stand in the order of its life: up, looked at, hurt under load,
rolled, stopped, brought back, destroyed. Each leaves it healthy for the next.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from compose_stack import (
    NET,
    PORTS,
    PROJECT,
    READY_S,
    ROOT,
    SEATS,
    Stack,
    docker,
    need_docker,
    said,
)
from customers import crowd
from harness import wait_until

from chaos.containers import PORTS as CHAOS_PORTS
from quorumvault import Unavailable, Vault
from quorumvault.connection import load

pytestmark = pytest.mark.timeout(1500)

GRACE_S = 30
"""stop_grace_period of the nodes."""
FORMER = "a1eab1e"
"""The oldest commit that this one must serve with, mixed. Whoever changes a format on purpose moves
it, and says in docs/upgrade.md what that means for a running vault."""
FORMER_IMAGE = "quorumvault:former"
KEEPER = f"keeper-{os.urandom(4).hex()}"
KEEPERS_PASSWORD, KEEPERS_KEY = b"kept through all of it", os.urandom(32)


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory):
    """The stack after its first `make up`; whatever happens, nothing of it stays."""
    need_docker()
    stack = Stack(tmp_path_factory.mktemp("compose") / "run")
    stack.close()
    try:
        stack.must("up.sh")
        yield stack
    finally:
        stack.close()


@pytest.fixture
def stack(life: Stack):
    """All five are ready when a test begins."""
    wait_until(life.all_ready, "all five are ready", READY_S)
    return life


def vault(stack: Stack, *seats: int, timeout_s: float = 60) -> Vault:
    """The keeper's client; it knows the nodes of these seats, or all."""
    reach = load(stack.connection_file)
    return Vault(
        [each for each in reach.endpoints if not seats or each.seat in seats],
        ca_file=reach.ca_file,
        token=lambda: reach.token(KEEPER),
        state_file=None,
        cluster_id=reach.cluster_id,
        timeout_s=timeout_s,
        hazmat_identity_ksf=True,
    )


def kept(stack: Stack) -> None:
    """The keeper's key is still there, through every node, and no guess was spent on it."""
    for seat in SEATS:
        with vault(stack, seat) as one:
            assert one.status().guesses_remaining == one.status().limit
            assert one.recover(KEEPERS_PASSWORD) == KEEPERS_KEY


async def all_ready(stack: Stack) -> None:
    await asyncio.to_thread(wait_until, stack.all_ready, "all five are ready", READY_S)


def test_up_ends_with_five_ready_nodes_and_a_file_for_clients(stack):
    assert stack.all_ready()
    connection = stack.connection
    assert [each["url"] for each in connection["endpoints"]] == [stack.url(s) for s in SEATS]
    assert {each["dc"] for each in connection["endpoints"]} == {
        "frankfurt", "amsterdam", "paris", "dublin", "stockholm",
    }  # fmt: skip
    for entry in (connection["ca_file"], connection["tenant"]["private_key_file"]):
        assert Path(entry).exists()
    assert stack.run_dir.stat().st_mode & 0o777 == 0o700
    told = stack.must("status.sh")
    assert "healthy: 2 more nodes may fail" in told
    with vault(stack) as everywhere:
        everywhere.register(KEEPERS_PASSWORD, KEEPERS_KEY)
    kept(stack)


def test_the_vaults_own_acceptance_passes_from_the_host(stack):
    """It ends with a restart of all five at once."""
    paths = [ROOT, ROOT / "tests/system", ROOT / "tests/engines"]
    done = subprocess.run(
        [sys.executable, ROOT / "tests/system/acceptance.py"],
        check=False,
        env=stack.environment
        | {
            "QUORUMVAULT_CONNECTION": str(stack.connection_file),
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
        },
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert "all held" in done.stdout
    wait_until(stack.all_ready, "all five are ready", READY_S)
    kept(stack)


def test_nodes_run_without_rights_on_a_read_only_root(stack):
    for name in stack.containers:
        seen = json.loads(docker("inspect", name))[0]
        host = seen["HostConfig"]
        assert host["ReadonlyRootfs"] is True
        assert host["CapDrop"] == ["ALL"]
        assert not host["CapAdd"]
        assert host["Privileged"] is False
        assert "no-new-privileges:true" in host["SecurityOpt"]
        assert seen["Config"]["User"] == "vault"
        assert seen["Path"] == "tini"
        ports = {each["HostIp"] for bound in host["PortBindings"].values() for each in bound}
        assert ports == {"127.0.0.1"}
    name = stack.container(1)
    assert docker("exec", name, "id", "-u").strip() == "10001"
    # Process 1 is tini, the node its child. (A health check that just begins is another process:
    # Docker's own, with all rights until it has dropped them.)
    look = "for each in $(grep -la quorumvault /proc/[0-9]*/cmdline); do "
    look += "grep ^Cap[EPB] ${each%cmdline}status; done"
    rights = docker("exec", name, "sh", "-c", look).splitlines()
    assert len(rights) >= 2 * 3
    assert {line.split()[1] for line in rights} == {"0" * 16}
    written = docker("exec", name, "sh", "-c", "touch /opt/here 2>&1; true", check=False)
    assert "Read-only file system" in written
    wait_until(
        lambda: all("(healthy)" in docker("ps", "--filter", f"name={n}") for n in stack.containers),
        "Docker calls all five healthy",
        READY_S,
    )


def test_no_secret_is_where_docker_shows_it(stack):
    secrets = [path.read_text() for path in (stack.run_dir / "secrets").iterdir()]
    assert len(secrets) == 10
    for path in ("tenant/private.pem", "operator/key.pem"):
        body = (stack.run_dir / path).read_text().splitlines()
        secrets.append(body[1])
    ids = docker(
        "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={PROJECT}"
    ).split()
    assert len(ids) == 11
    words = docker(
        "run", "--rm", "--network", "none", "--volume", f"{PROJECT}_ceremony:/ceremony:ro",
        "--entrypoint", "sh", "quorumvault:test", "-c", "cat /ceremony/words/*",
    )  # fmt: skip
    secrets += [" ".join(line.split()[4:10]) for line in words.splitlines() if line.strip()]
    assert len(secrets) == 12 + 25
    shown = docker("inspect", *ids) + docker("history", "--no-trunc", "quorumvault:test")
    shown += (stack.run_dir / "up.log").read_text()
    for each in ids:
        done = said("docker", "logs", each)
        shown += done.stdout + done.stderr
    for name in stack.containers:  # nobody reads a node's environment; its parent has the same
        looked = said("docker", "exec", name, "sh", "-c", "cat /proc/*/environ /proc/*/cmdline")
        assert "/environ: Permission denied" in looked.stderr
        shown += looked.stdout
    assert PROJECT in shown
    assert [secret for secret in secrets if secret in shown] == []


async def test_two_dead_data_centers_cost_customers_only_time(stack, tmp_path):
    async with crowd(stack.connection_file, tmp_path) as customers:
        await customers.served()
        await asyncio.to_thread(docker, "kill", stack.container(4), stack.container(5))
        await customers.served()
        await asyncio.to_thread(docker, "start", stack.container(4), stack.container(5))
        await all_ready(stack)
        await customers.served()


async def test_a_data_center_off_the_mesh_says_so_and_spends_nothing(stack, tmp_path):
    async with crowd(stack.connection_file, tmp_path) as customers:
        await asyncio.to_thread(stack.cut, 3)
        await customers.served()
        await asyncio.to_thread(
            wait_until, lambda: stack.checks(3)[0] == 503, "the cut node says that it is not ready"
        )
        assert "[-]" in stack.checks(3)[1]
        health = await asyncio.to_thread(
            said, "docker", "exec", stack.container(3), "/usr/local/lib/quorumvault/healthy.sh"
        )
        assert health.returncode == 1
        assert health.stdout.startswith("[-] ")
        with pytest.raises(Unavailable) as refused:
            await asyncio.to_thread(alone, stack, 3)
        assert refused.value.charged == "no"
        await customers.served()
        await asyncio.to_thread(stack.mend, 3)
        await all_ready(stack)
        await customers.served()
    await asyncio.to_thread(kept, stack)


def alone(stack: Stack, seat: int) -> bytes:
    with vault(stack, seat, timeout_s=4) as one:
        return one.recover(KEEPERS_PASSWORD)


async def test_two_nodes_of_the_former_version_serve_beside_three_of_this_one(stack, tmp_path):
    if said("git", "-C", str(ROOT), "cat-file", "-e", f"{FORMER}^{{commit}}").returncode != 0:
        pytest.skip(f"the history of this checkout ends before {FORMER}: git fetch --unshallow")
    await asyncio.to_thread(stack.must, "image/former.sh", FORMER, FORMER_IMAGE)
    async with crowd(stack.connection_file, tmp_path) as customers:
        await customers.served()
        await asyncio.to_thread(stack.must, "roll.sh", IMAGE=FORMER_IMAGE, SEATS="1 2")
        await customers.served()
    assert [revision(stack, seat)[: len(FORMER)] == FORMER for seat in SEATS] == [True] * 2 + [
        False
    ] * 3
    await asyncio.to_thread(kept, stack)


def revision(stack: Stack, seat: int) -> str:
    """The commit of the image that a node runs on."""
    label = '{{index .Config.Labels "org.opencontainers.image.revision"}}'
    return docker("inspect", "--format", label, stack.container(seat))


async def test_a_rolling_restart_fails_no_attempt_and_counts_none_twice(stack, tmp_path):
    """It is the way to this version for the two nodes of the former one."""
    before = started(stack)
    async with crowd(stack.connection_file, tmp_path) as customers:
        await customers.served()
        told = await asyncio.to_thread(stack.must, "roll.sh")
        await customers.served()
    assert "Restarted, and all five nodes are ready: 1, 2, 3, 4, 5." in told
    assert set(before).isdisjoint(started(stack))
    assert len({revision(stack, seat) for seat in SEATS}) == 1
    await asyncio.to_thread(kept, stack)


def started(stack: Stack) -> list[str]:
    """The containers' ids: a rolled node is another container."""
    return [docker("inspect", "--format", "{{.Id}}", name) for name in stack.containers]


def test_up_again_changes_nothing(stack):
    cluster, before = stack.connection["cluster_id"], started(stack)
    told = stack.must("up.sh")
    assert "Five nodes are ready" in told
    assert stack.connection["cluster_id"] == cluster
    assert started(stack) == before
    kept(stack)


def test_two_commands_at_once_come_one_after_the_other(stack):
    """Two first `make up` at once would draw two PINs for one token."""
    with (ROOT / "deploy/compose.sh").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        second = subprocess.Popen(
            [ROOT / "deploy/up.sh", "--check"],
            env=stack.environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert "is at work: waiting for it" in second.stderr.readline()
        assert second.poll() is None
    assert second.communicate(timeout=READY_S) == (None, "")
    assert second.returncode == 0


@pytest.mark.parametrize("name", ["up.sh", "roll.sh", "stop.sh", "down.sh", "status.sh"])
def test_another_clone_leaves_this_stack_alone(stack, tmp_path, name):
    other = tmp_path / "other clone"
    shutil.copytree(ROOT / "deploy", other / "deploy")
    done = subprocess.run(
        [other / "deploy" / name],
        check=False,
        env=stack.environment | {"CONFIRM": "yes"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=READY_S,
    )
    assert done.returncode == 1
    assert f"was brought up from {ROOT / 'deploy'}: work there" in done.stderr
    assert stack.all_ready()


def test_stop_drains_and_up_brings_everything_back(stack):
    cluster = stack.connection["cluster_id"]
    begun = time.monotonic()
    told = stack.must("stop.sh")
    assert time.monotonic() - begun < GRACE_S
    assert "ended with" not in told
    for name in stack.containers:
        state = json.loads(docker("inspect", name))[0]["State"]
        assert (state["Status"], state["ExitCode"], state["OOMKilled"]) == ("exited", 0, False)
    refused_with_a_taken_port(stack)
    refused_without_a_pin(stack)
    stack.must("up.sh")
    assert stack.connection["cluster_id"] == cluster
    kept(stack)


def refused_with_a_taken_port(stack: Stack) -> None:
    with socket.create_server(("127.0.0.1", int(f"{PORTS}3443"))):
        done = stack.script("up.sh")
    assert done.returncode == 1
    assert f"port {PORTS}3443 on 127.0.0.1 is taken" in done.stderr
    assert f"ss -ltnp sport = :{PORTS}3443" in done.stderr


def refused_without_a_pin(stack: Stack) -> None:
    pin = stack.run_dir / "secrets" / "pin-2"
    kept_pin = pin.rename(stack.run_dir / "elsewhere")
    done = stack.script("up.sh")
    kept_pin.rename(pin)
    assert done.returncode == 1
    assert "secrets/pin-2 is gone, but its token is still there" in done.stderr
    assert "put it back" in done.stderr


def test_networks_that_somebody_else_has_are_refused_with_a_way_out(stack):
    """Another project on the same networks finds them taken, says so, and leaves nothing.

    Its ports are outside those that Linux draws for outgoing connections: nobody has one by chance.
    """
    other = {"QUORUMVAULT_PROJECT": f"{PROJECT}-2", "QUORUMVAULT_PORTS": CHAOS_PORTS}
    other["QUORUMVAULT_RUN"] = str(stack.run_dir.with_name("second"))
    try:
        done = stack.script("up.sh", **other)
    finally:
        stack.must("down.sh", CONFIRM="yes", **other)
    assert done.returncode == 1
    assert f"the networks {NET}.0.0/24 to {NET}.5.0/24 are in use on this machine" in done.stderr


def test_down_leaves_a_folder_alone_that_up_did_not_make(stack, tmp_path):
    somebodys = tmp_path / "somebodys"
    (somebodys / "photos").mkdir(parents=True)
    other = {"QUORUMVAULT_PROJECT": f"{PROJECT}-3", "QUORUMVAULT_RUN": str(somebodys)}
    done = stack.script("down.sh", CONFIRM="yes", **other)
    assert done.returncode == 1
    assert f"QUORUMVAULT_RUN is '{somebodys}'" in done.stderr
    assert "nothing was removed" in done.stderr
    assert (somebodys / "photos").exists()


def test_down_asks_first_and_then_leaves_nothing(stack):
    done = stack.script("down.sh", CONFIRM="")
    assert done.returncode == 1
    assert "DESTROYS" in done.stderr
    assert "nothing was done" in done.stderr
    assert stack.all_ready()
    stack.must("down.sh", CONFIRM="yes")
    assert stack.left() == {"containers": "", "volumes": "", "networks": ""}
    assert not stack.run_dir.exists()
    assert "nothing is there" in stack.must("down.sh")
    assert "nothing is up" in stack.must("stop.sh")
    assert stack.script("status.sh").returncode == 1
