"""A real Prometheus and a real Alertmanager over a running vault, with our own rules made quicker.

Alertmanager posts what it tells people to a listener here, so that a test sees what would have
woken whom. Everything listens on loopback and ends with the test.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import quicker
import yaml
from harness import wait_until

from chaos.processes import PortBlock

if TYPE_CHECKING:
    from harness import Vault5

DEPLOY = Path(__file__).parents[2] / "deploy"
FACTOR = 20
"""A minute is three seconds: long enough to be seen pending, three scrapes."""
RESEND = "1m"
"""Prometheus' own default; alerts that fire before it has found Alertmanager wait so long."""
FIRES_S = 45.0
CLEARS_S = 90.0


def program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is missing: run deploy/system-packages.sh --test"
    return found


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - loopback http
        return json.load(answer)


@dataclass(frozen=True)
class Told:
    """One alert in one notification."""

    at: float
    receiver: str
    status: str
    labels: dict[str, str]


@dataclass
class Listener:
    """What Alertmanager told, in the order in which it did."""

    told: list[Told] = field(default_factory=list)

    def __post_init__(self) -> None:
        listener = self

        class Post(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                for alert in body["alerts"]:
                    told = Told(time.monotonic(), self.path[1:], alert["status"], alert["labels"])
                    listener.told.append(told)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Post)
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


class Watch:
    """Prometheus and Alertmanager, from their start to their end."""

    def __init__(self, vault: Vault5, root: Path) -> None:
        self._ports = PortBlock.reserve()
        self._root = root
        self.prometheus = f"127.0.0.1:{self._ports.base + 1}"
        self.alertmanager = f"127.0.0.1:{self._ports.base + 2}"
        with ExitStack() as opened:
            opened.callback(self._ports.guard.close)
            self.listener = Listener()
            opened.callback(self.listener.close)
            self._write(vault)
            opened.callback(self._end, self._start_alertmanager())
            opened.callback(self._end, self._start_prometheus())
            for address in (self.prometheus, self.alertmanager):
                wait_until(lambda at=address: self._ready(at), f"{address} is ready")
            self._settle(len(vault.ids))
            self._opened = opened.pop_all()

    def _settle(self, nodes: int) -> None:
        """What was told before every node was scraped does not count.

        Prometheus needs up to 5 s to find its targets, whatever the clock of the rules; with the
        shipped durations nothing fires that early.
        """
        wait_until(
            lambda: len(self.query('up{job="quorumvault"} == 1')) == nodes, "all are scraped"
        )
        wait_until(lambda: self.firing() == {"Watchdog"}, "the watchdog alone fires")
        wait_until(
            lambda: {a["labels"]["alertname"] for a in self.alerts()} == {"Watchdog"},
            "Alertmanager knows the watchdog alone",
        )
        self.settled_at = time.monotonic()

    def _write(self, vault: Vault5) -> None:
        def shipped(name: str) -> Any:
            return yaml.safe_load((DEPLOY / name).read_text())

        nodes = {str(n): vault.ops_url(n).removeprefix("http://") for n in vault.ids}
        files = {
            "rules.yml": quicker.rules(shipped("prometheus/rules.yml"), FACTOR),
            "prometheus.yml": quicker.prometheus(
                shipped("prometheus/prometheus.yml"), nodes, self.alertmanager
            ),
            "alertmanager.yml": quicker.alertmanager(
                shipped("alertmanager/alertmanager.yml"), FACTOR, self.listener.url
            ),
        }
        for name, document in files.items():
            (self._root / name).write_text(yaml.safe_dump(document, sort_keys=False))

    def _start_prometheus(self) -> subprocess.Popen[bytes]:
        return self._start(
            "prometheus",
            f"--config.file={self._root / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._root / 'prometheus'}",
            f"--web.listen-address={self.prometheus}",
            f"--rules.alert.resend-delay={quicker.shorter(RESEND, FACTOR)}",
        )

    def _start_alertmanager(self) -> subprocess.Popen[bytes]:
        return self._start(
            "prometheus-alertmanager",
            f"--config.file={self._root / 'alertmanager.yml'}",
            f"--storage.path={self._root / 'alertmanager'}",
            f"--web.listen-address={self.alertmanager}",
            "--cluster.listen-address=",
        )

    def _start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self._root / f"{name}.log").open("wb") as log:
            return subprocess.Popen([program(name), *arguments], stdout=log, stderr=log)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _ready(self, address: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://{address}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def close(self) -> None:
        self._opened.close()

    # ---- what they say

    def query(self, expression: str) -> list[dict[str, Any]]:
        """An instant query; its samples."""
        arguments = urllib.parse.urlencode({"query": expression})
        return get(f"http://{self.prometheus}/api/v1/query?{arguments}")["data"]["result"]

    def in_prometheus(self, name: str, state: str) -> list[dict[str, str]]:
        """Labels of the alerts of this name that Prometheus holds as pending or firing."""
        alerts = get(f"http://{self.prometheus}/api/v1/alerts")["data"]["alerts"]
        return [
            a["labels"] for a in alerts if a["labels"]["alertname"] == name and a["state"] == state
        ]

    def firing(self) -> set[str]:
        """The names of all alerts that fire."""
        alerts = get(f"http://{self.prometheus}/api/v1/alerts")["data"]["alerts"]
        return {a["labels"]["alertname"] for a in alerts if a["state"] == "firing"}

    def alerts(self) -> list[dict[str, Any]]:
        """All that Alertmanager holds, active or suppressed."""
        return get(f"http://{self.alertmanager}/api/v2/alerts")

    def in_alertmanager(self, name: str) -> list[dict[str, Any]]:
        """The alerts of this name that Alertmanager holds."""
        return [alert for alert in self.alerts() if alert["labels"]["alertname"] == name]

    def told(self, name: str, status: str, since: float = 0.0) -> list[Told]:
        """Who was told of it since a moment."""
        return [
            each
            for each in list(self.listener.told)
            if each.labels["alertname"] == name and each.status == status and each.at >= since
        ]

    def fault(self, name: str) -> Fault:
        """A fault begins now that this alert has to tell of."""
        return Fault(self, name)


class Fault:
    """One fault and its alert: pending, firing, told, ended, cleared; with the times of each."""

    def __init__(self, watch: Watch, name: str) -> None:
        self._watch = watch
        self._name = name
        assert watch.in_prometheus(name, "firing") == [], f"{name} fires before its fault"
        self._began = time.monotonic()
        self.times: dict[str, float] = {}

    def _after(self, step: str) -> None:
        self.times[step] = time.monotonic() - self._began

    def pends(self) -> None:
        """Prometheus sees the condition; it does not last long enough yet."""
        wait_until(
            lambda: self._watch.in_prometheus(self._name, "pending"),
            f"{self._name} is pending",
            FIRES_S,
        )
        assert self._watch.in_prometheus(self._name, "firing") == []
        assert self._watch.in_alertmanager(self._name) == []
        self._after("pending")

    def fires(self) -> list[dict[str, Any]]:
        """Alertmanager holds it; its alerts."""
        alerts = wait_until(
            lambda: self._watch.in_alertmanager(self._name), f"{self._name} fires", FIRES_S
        )
        self._after("firing")
        return alerts

    def is_told_to(self, receiver: str) -> None:
        """The people behind this receiver were told, and nobody else."""
        told = wait_until(
            lambda: self._watch.told(self._name, "firing", self._began),
            f"somebody is told of {self._name}",
            FIRES_S,
        )
        self._after("told")
        assert {each.receiver for each in told} == {receiver}

    def ended(self) -> None:
        """The fault ends now."""
        self._after("ended")

    def clears(self) -> None:
        """Nobody holds it any more, and who was told is told that."""
        wait_until(
            lambda: (
                not self._watch.in_prometheus(self._name, "firing")
                and not self._watch.in_alertmanager(self._name)
            ),
            f"{self._name} clears",
            CLEARS_S,
        )
        self._after("cleared")
        if "told" in self.times:
            wait_until(
                lambda: self._watch.told(self._name, "resolved", self._began),
                f"the end of {self._name} is told",
                CLEARS_S,
            )
        steps = ", ".join(f"{step} {after:.1f}" for step, after in self.times.items())
        print(f"{self._name}: seconds after the fault: {steps}")  # noqa: T201 - the evidence
