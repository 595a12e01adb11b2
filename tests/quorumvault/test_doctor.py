"""Doctor names each planted fault with its next step, and finds a healthy node healthy.

One node is provisioned on a real SoftHSM token and has run once; each fault is planted in a copy of
its folder, and the real command is run there.
"""

from __future__ import annotations

import json
import shutil
import socket
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import node_ground
import pytest
from node_toml import SOFTHSM

from chaos import disk_shim, process_clock, process_disk
from chaos.disk_shim import DiskShim
from chaos.process_clock import WallClock
from cluster import certificates

HERE = Path(__file__).parent
OF_THE_MACHINE = {"fsync", "time synchronisation", "memory"}
"""What the machine that runs the tests is like, not the node."""
LEFT_BYTES = 3 << 20


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    """A node that was provisioned and has run once."""
    made = node_ground.make(tmp_path_factory.mktemp("doctor"))
    running(made, lambda: stamped(made, 1))
    return made


@dataclass
class SecondLife:
    """A copy of the node that ran once more, and what doctor said beside it."""

    ground: node_ground.NodeGround
    found: tuple[int, dict[str, dict[str, str]]]
    ended: int


@pytest.fixture(scope="module")
def second_life(healthy, tmp_path_factory):
    ground = healthy.copy(tmp_path_factory.mktemp("second") / "node")
    found, ended = running(ground, lambda: stamped(ground, 2))
    return SecondLife(ground, found, ended)


@pytest.fixture
def copy(healthy, tmp_path):
    return healthy.copy(tmp_path / "node")


def running(ground, check):
    """The result of `check` while the real node runs, and its exit code."""
    with ground.start("node", "run", "--config", str(ground.config)) as node:
        try:
            node_ground.until(lambda: answers(ground, node))
            result = check()
        finally:
            node.terminate()
        node.communicate(timeout=60)
    return result, node.returncode


def answers(ground, node) -> bool:
    if node.poll() is not None:
        pytest.fail(f"the node ended: {node.stderr.read()}")
    try:
        with urllib.request.urlopen(f"http://{ground.entry.ops}/livez", timeout=1) as answer:
            return answer.status == 200
    except OSError:
        return False


def examined(ground) -> tuple[int, dict[str, dict[str, str]]]:
    """Exit code, and the findings by name."""
    code, out, err = ground.run("doctor", "--config", str(ground.config), "-o", "json")
    assert not err
    return code, {each["check"]: each for each in json.loads(out)["findings"]}


def stamped(ground, life: int) -> tuple[int, dict[str, dict[str, str]]]:
    """What doctor says once the running node has told its HSM of this life: after /livez."""
    seen = []

    def now() -> bool:
        seen.append(examined(ground))
        return f"start {life};" in seen[-1][1]["HSM stamp"]["found"]

    node_ground.until(now)
    return seen[-1]


def bad(findings, level="fail") -> set[str]:
    return {name for name, each in findings.items() if each["level"] == level} - OF_THE_MACHINE


def diagnosed(ground, check: str) -> str:
    """What doctor says of the one thing that fails; the exit code says so as well."""
    code, findings = examined(ground)
    assert bad(findings) == {check}
    assert code == 2
    assert findings[check]["next_step"]
    return f"{findings[check]['found']}; {findings[check]['next_step']}"


def contents(folder) -> dict[str, tuple[int, int]]:
    """Every file below, with its size and time of change."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")
    } | {"": (0, folder.stat().st_mtime_ns)}


def test_a_healthy_node_has_all_well_and_nothing_of_it_is_touched(copy):
    before = contents(copy.data)
    code, findings = examined(copy)
    assert contents(copy.data) == before
    assert bad(findings) == set()
    assert bad(findings, "warn") == set()
    expected = 0 if all(each["level"] == "ok" for each in findings.values()) else 4
    assert code == expected or findings["fsync"]["level"] == "fail"
    assert "start 1; the data directory is not older" in findings["HSM stamp"]["found"]
    assert "9 keys are there and right" in findings["HSM"]["found"]


def test_beside_a_running_node_it_says_so(second_life):
    _, findings = second_life.found
    assert bad(findings) | bad(findings, "warn") == set()
    assert "the node runs as process" in findings["data directory"]["found"]
    assert "as it should be" in findings["port client"]["found"]
    assert "not compared" in findings["HSM stamp"]["found"]
    assert second_life.ended == 0


def reissue(ground, *, hosts, days=398):
    """Another pair for the node, by its own authority."""
    authority = certificates.Authority(
        (ground.authority / "ca.pem").read_bytes(),
        (ground.authority / "offline" / "ca.key").read_bytes(),
    )
    cluster_id = json.loads((ground.root / "cluster.json").read_text())["cluster_id"]
    issued = certificates.issue(
        authority,
        uri=certificates.node_uri(cluster_id, 1),
        hosts=hosts,
        days=days,
        server=True,
        client=True,
    )
    (ground.root / "cert.pem").write_bytes(issued.cert_pem)
    (ground.root / "key.pem").write_bytes(issued.key_pem)


def test_an_expired_certificate(copy, monkeypatch):
    past = certificates.dt.timedelta(days=-2)
    real = certificates._validity
    monkeypatch.setattr(certificates, "_validity", lambda days: tuple(t + past for t in real(days)))
    reissue(copy, hosts=["127.0.0.1"], days=1)
    said = diagnosed(copy, "certificate dates")
    assert "expired" in said
    assert "certs renew" in said


def test_a_certificate_without_the_address(copy):
    reissue(copy, hosts=["vault.example"])
    said = diagnosed(copy, "certificate names")
    assert "lacks 127.0.0.1" in said
    assert "certs renew DIR --node 1" in said


def test_the_key_of_another_node(copy):
    shutil.copy2(copy.authority / "nodes" / "2" / "key.pem", copy.root / "key.pem")
    said = diagnosed(copy, "certificate key")
    assert "is not the key of tls.cert_file" in said
    assert "nodes/1" in said


def test_a_key_that_everybody_reads_and_a_pin_for_the_group(copy):
    (copy.root / "key.pem").chmod(0o604)
    (copy.root / "pin").chmod(0o640)
    code, out, _ = copy.run("doctor", "--config", str(copy.config))
    assert code == 2
    assert f"[FAIL] file tls.key_file: {copy.root}/key.pem, mode 0604: everybody" in out
    assert f"; chmod 0600 {copy.root}/key.pem\n" in out
    assert f"[warn] file hsm.pin_file: {copy.root}/pin, mode 0640: its group" in out
    assert "[ok]   cluster file: demo" in out
    assert (copy.root / "pin").read_text().strip() not in out


def test_a_wrong_pin_is_tried_once(copy):
    (copy.root / "pin").write_text("4321-wrong\n")
    said = diagnosed(copy, "HSM")
    assert "refused the PIN" in said
    assert "hsm.pin_file" in said
    assert "4321" not in said


def test_a_missing_token(copy):
    shutil.rmtree(copy.root / "tokens")
    (copy.root / "tokens").mkdir()
    said = diagnosed(copy, "HSM")
    assert "no token labelled 'seat-1'" in said
    assert "SOFTHSM2_CONF" in said


def test_an_unknown_key_of_the_configuration(copy):
    copy.edit("[hsm]", "[hsm]\nslot = 1")
    said = diagnosed(copy, "configuration")
    assert "unknown field `slot` - at `$.hsm`" in said
    assert "docs/node.md" in said


def test_the_data_directory_of_another_node(copy):
    identity = copy.data / "identity.json"
    identity.write_text(identity.read_text().replace('"node_id":1', '"node_id":3'))
    said = diagnosed(copy, "data directory")
    assert "belongs to node 3" in said
    assert "do not delete" in said


def test_an_old_copy_of_the_data_directory(healthy, second_life, tmp_path):
    copy = second_life.ground.copy(tmp_path / "node")
    shutil.rmtree(copy.data)
    shutil.copytree(healthy.data, copy.data)
    said = diagnosed(copy, "HSM stamp")
    assert "is of start 1, the stamp of 2" in said
    assert "put the right one back" in said


def test_a_lost_disk(copy):
    shutil.rmtree(copy.data)
    assert "member replace" in diagnosed(copy, "HSM stamp")


def test_a_disk_that_is_nearly_full(copy, tmp_path):
    if (why := process_disk.why_no_mount()) is not None:
        pytest.fail(f"this test fills a small disk of its own: {why}")
    small = process_disk.NodeDisk(copy.root / "small", tmp_path)
    small.mount()
    try:
        shutil.copytree(copy.data, small.path / "data")
        (small.path / "ballast").write_bytes(bytes(process_disk.SIZE_BYTES - LEFT_BYTES))
        copy.edit('data_dir = "data"', 'data_dir = "small/data"')
        code, findings = examined(copy)
    finally:
        small.unmount()
    assert bad(findings) == {"disk space"}
    assert code == 2
    assert "the node would not start" in findings["disk space"]["found"]
    assert "free there" in findings["disk space"]["next_step"]
    assert findings["file system"]["level"] == "warn"


def test_a_slow_disk(copy, tmp_path):
    shim = DiskShim(disk_shim.build(tmp_path), tmp_path / "rules", copy.data)
    copy.environment |= shim.environment
    shim.set("sync", delay_s=0.6)
    _, findings = examined(copy)
    assert shim.hits("sync") > 2
    shim.close()
    assert findings["fsync"]["level"] == "fail"
    assert "faster disk" in findings["fsync"]["next_step"]


def test_a_clock_that_is_behind(copy, tmp_path):
    library = disk_shim.build(tmp_path, process_clock.SOURCE)
    clock = WallClock(library, tmp_path / "offset")
    copy.environment |= {"LD_PRELOAD": str(library), **clock.environment}
    assert examined(copy)[1]["clock"]["level"] == "ok"  # it is not the shim that is noticed
    clock.jump(-86_400_000)
    _, findings = examined(copy)
    clock.close()
    assert "before the node's certificate" in findings["clock"]["found"]
    assert "set the clock right" in findings["clock"]["next_step"]
    assert bad(findings) == {"clock", "certificate dates"}


def test_a_clock_that_is_years_ahead(copy, tmp_path):
    library = disk_shim.build(tmp_path, process_clock.SOURCE)
    clock = WallClock(library, tmp_path / "offset")
    copy.environment |= {"LD_PRELOAD": str(library), **clock.environment}
    clock.jump(11 * 366 * 86_400_000)
    _, findings = examined(copy)
    clock.close()
    assert "after the authority's certificate ended" in findings["clock"]["found"]
    assert "set the clock right" in findings["clock"]["next_step"]
    assert "by this clock" in findings["certificate dates"]["found"]
    assert bad(findings) == {"clock", "certificate dates", "authority dates"}


@pytest.mark.parametrize(
    ("does", "words", "step"),
    [
        ("hang", "did not answer within 10 s", "the network to it and its daemon"),
        ("crash", "ended the process that loaded it (SIGSEGV)", "reinstall the PKCS#11 library"),
        ("exit", "ended the process that loaded it (exit code 7)", "reinstall"),
    ],
)
def test_a_pkcs11_library_that_does_what_some_do(copy, tmp_path, does, words, step):
    library = disk_shim.build(tmp_path, HERE / "bad_module.c")
    copy.edit(SOFTHSM, str(library))
    copy.environment |= {"BAD_MODULE": does}
    said = diagnosed(copy, "HSM")
    assert words in said
    assert step in said
    mapped = [path for path in Path("/proc").glob("[0-9]*/maps") if str(library) in read(path)]
    assert mapped == [], "whoever loaded it is gone"


def read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has ended, or is not ours
        return ""


def test_a_port_that_somebody_has(copy):
    host, _, port = copy.entry.client.rpartition(":")
    with socket.create_server((host, int(port))):
        said = diagnosed(copy, "port client")
    assert f"{copy.entry.client} is in use" in said
    assert "ss -ltnp" in said
