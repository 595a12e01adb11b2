"""Real SoftHSM tokens in a directory of the test's own, and a seat provisioned on one of them."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import UUID

import pytest

import hsm
from hsm.module import get_module
from hsm.token import open_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from hsm.module import Module
    from hsm.token import OpenToken

T = TypeVar("T")
SOFTHSM: Final = Path("/usr/lib/softhsm/libsofthsm2.so")
CLUSTER: Final = UUID("00112233-4455-6677-8899-aabbccddeeff")
PIN: Final = "correct-pin-1234"
SO_PIN: Final = "officer-pin-5678"
ENROLMENT: Final = b"node 2, incarnation 0"


@dataclass
class Ground:
    """One tokens directory, one ceremony, and what a test does with them."""

    root: Path
    ceremony: hsm.Ceremony
    opened: list[hsm.Hsm] = field(default_factory=list)

    @property
    def tokens(self) -> Path:
        return self.root / "tokens"

    def configure(self, **extra: str) -> None:
        self.tokens.mkdir(exist_ok=True)
        lines = {"directories.tokendir": str(self.tokens), "log.level": "ERROR", **extra}
        text = "".join(f"{name} = {value}\n" for name, value in lines.items())
        (self.root / "softhsm2.conf").write_text(text)

    def blank(self, pin: str = PIN) -> hsm.HsmSettings:
        """An initialised, empty token with a label of its own."""
        label = "vault-" + secrets.token_hex(6)
        hsm.init_token(SOFTHSM, token_label=label, so_pin=hsm.Pin(SO_PIN), pin=hsm.Pin(pin))
        return hsm.HsmSettings(SOFTHSM, label, hsm.Pin(pin))

    def provision(
        self,
        settings: hsm.HsmSettings,
        seat: int = 2,
        ceremony: hsm.Ceremony | None = None,
        **changed: object,
    ) -> None:
        made = ceremony or self.ceremony
        arguments: dict[str, object] = {
            "package": made.packages[seat],
            "words": made.shares[seat][:3],
            "cluster_id": CLUSTER,
            "seat": seat,
            "check_values": made.check_values,
            "enrolment": ENROLMENT,
            "threshold": made.threshold,
            "seats": made.seats,
            **changed,
        }
        hsm.provision(settings, **arguments)

    def ready(self, seat: int = 2) -> hsm.HsmSettings:
        settings = self.blank()
        self.provision(settings, seat)
        return settings

    def hsm(
        self,
        settings: hsm.HsmSettings,
        seat: int = 2,
        check_values: Mapping[str, bytes] | None = None,
    ) -> hsm.Hsm:
        made = hsm.Hsm(
            settings,
            seat=seat,
            cluster_id=CLUSTER,
            check_values=check_values or self.ceremony.check_values,
        )
        self.opened.append(made)
        return made

    def started(self, seat: int = 2) -> hsm.Hsm:
        made = self.hsm(self.ready(seat), seat)
        made.start()
        return made

    def on_token(self, settings: hsm.HsmSettings, work: Callable[[OpenToken], T]) -> T:
        """Do something to the token behind the vault's back."""
        module = get_module(settings.module)

        def run() -> T:
            token = open_token(module, settings)
            try:
                return work(token)
            finally:
                token.close()

        return module.call(run)

    def module(self) -> Module:
        return get_module(SOFTHSM)

    def wait(self, condition: Callable[[], bool], seconds: float = 15.0) -> None:
        """Until the condition holds; the test fails when it never does."""
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, "the condition never held"
            time.sleep(0.005)


@pytest.fixture(scope="session")
def ceremony() -> hsm.Ceremony:
    return hsm.draw(CLUSTER)


@pytest.fixture
def ground(
    tmp_path: Path, ceremony: hsm.Ceremony, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Ground]:
    made = Ground(tmp_path, ceremony)
    made.configure()
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm2.conf"))
    yield made
    for opened in made.opened:
        opened.close()
