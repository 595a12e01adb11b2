"""Every way an HSM can refuse or vanish, one class each (design section 4; keeps I9 and I11).

A message is one line: the thing, the place, the next step. No message, repr or traceback carries
a PIN, a key, a share's words or sealed contents.
"""

from __future__ import annotations

# ruff: noqa: N818 - each name says the state that was found, as an operator would


class HsmError(Exception):
    """Base of everything this package raises on purpose."""


class ModuleMissing(HsmError):
    """The PKCS#11 library is not there or is not one."""

    def __init__(self, module: object, why: str) -> None:
        super().__init__(
            f"PKCS#11 module {module} cannot be loaded ({why}): install it or correct hsm.module"
        )


class ModuleDown(HsmError):
    """The library is there, but not what it needs: a device, a daemon, a token directory."""

    def __init__(self, module: object, why: str) -> None:
        super().__init__(
            f"PKCS#11 module {module} does not come up ({why}): is its device or token directory "
            "there? For SoftHSM look at SOFTHSM2_CONF"
        )


class LoadedBeforeFork(HsmError):
    """PKCS#11 state does not survive a fork; the child must open its own process."""

    def __init__(self, module: object) -> None:
        super().__init__(
            f"PKCS#11 module {module} was loaded before a fork: open the HSM after the last fork"
        )


class TokenMissing(HsmError):
    """No token with the configured label."""

    def __init__(self, label: str, module: object) -> None:
        super().__init__(
            f"no token labelled {label!r} in {module}: insert or initialise it, or correct "
            "hsm.token_label (for SoftHSM look at SOFTHSM2_CONF)"
        )


class TokenAmbiguous(HsmError):
    """Two tokens with one label: guessing which is ours is not an option."""

    def __init__(self, label: str, module: object) -> None:
        super().__init__(
            f"more than one token labelled {label!r} in {module}: rename or remove all but one"
        )


class TokenExists(HsmError):
    """Initialising would wipe or shadow a token that is there."""

    def __init__(self, label: str, module: object) -> None:
        super().__init__(
            f"a token labelled {label!r} exists already in {module}: leave out --init-token to "
            "provision it as it is, or choose another label, or remove that token first"
        )


class PinWrong(HsmError):
    """The PIN was refused. It is never tried again by this process: tokens lock themselves."""

    def __init__(self, label: str) -> None:
        super().__init__(
            f"token {label!r} refused the PIN; it was tried once and will not be tried again: "
            "correct hsm.pin and restart"
        )


class PinLocked(HsmError):
    """The token has locked its user PIN, or never had one."""

    def __init__(self, label: str) -> None:
        super().__init__(
            f"the user PIN of token {label!r} is locked or not set: let the security officer "
            "set it anew"
        )


class KeyMissing(HsmError):
    """A key that the seat must hold is not on the token."""

    def __init__(self, name: str, label: str) -> None:
        super().__init__(
            f"key {name} is not on token {label!r}: provision the token with the package of this "
            "seat (quorumvault hsm provision)"
        )
        self.name = name


class KeyAmbiguous(HsmError):
    """Two keys of one name."""

    def __init__(self, name: str, label: str) -> None:
        super().__init__(
            f"key {name} is more than once on token {label!r}: destroy the vault's keys there and "
            "provision again"
        )
        self.name = name


class KeyMismatch(HsmError):
    """A key differs from the check value in cluster.json (crypto.md, Keys)."""

    def __init__(self, name: str, where: str) -> None:
        super().__init__(
            f"key {name} {where} differs from its check value in cluster.json: this is the key of "
            "another cluster, seat or ceremony; use the token and package that belong to this one"
        )
        self.name = name


class NodeKeyChanged(HsmError):
    """The node key is not the one that this process opened its disk with."""

    def __init__(self, label: str) -> None:
        super().__init__(
            f"key node on token {label!r} is not the one that this node started with: put its own "
            "token back, or restart if it was enrolled anew"
        )


class KeyExposed(HsmError):
    """A vault key could leave its token."""

    def __init__(self, name: str, label: str) -> None:
        super().__init__(
            f"key {name} on token {label!r} is extractable or not sensitive: destroy the vault's "
            "keys there and provision again"
        )
        self.name = name


class MechanismMissing(HsmError):
    """The device cannot do what the vault asks of it."""

    def __init__(self, mechanism: str, label: str) -> None:
        super().__init__(
            f"token {label!r} does not offer {mechanism}: enable the mechanism on the device or "
            "use another one"
        )
        self.mechanism = mechanism


class SelfTestFailed(HsmError):
    """The device computes or behaves wrongly."""

    def __init__(self, what: str, label: str) -> None:
        super().__init__(f"token {label!r} failed its self-test ({what}): take it out of service")


class SealBroken(HsmError):
    """Sealed bytes do not open: altered, of another record, or of an unknown epoch."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"sealed registration does not open ({why}): compare this node's disk with its peers"
        )


class HsmAway(HsmError):
    """The device or its session is gone for now; the same call may succeed later."""

    def __init__(self, why: str) -> None:
        super().__init__(f"HSM away ({why}): it is reopened by itself as soon as it is back")
        self.why = why


class HsmBusy(HsmError):
    """More requests are waiting than the HSM can serve in time; the same call may succeed later."""

    def __init__(self, waiting: int) -> None:
        super().__init__(f"HSM busy ({waiting} requests waiting): try again shortly")


class HsmClosed(HsmError):
    """Used before start() or after close()."""

    def __init__(self) -> None:
        super().__init__("HSM is not open: call start() first, and nothing after close()")


class StampMissing(HsmError):
    """The token carries no stamp: it was never enrolled, or its enrolment was destroyed."""

    def __init__(self, label: str) -> None:
        super().__init__(
            f"token {label!r} carries no enrolment stamp: provision it (quorumvault hsm provision)"
        )


class AlreadyProvisioned(HsmError):
    """The token holds vault keys or a stamp: a second provisioning would mix two enrolments."""

    def __init__(self, label: str, *, finished: bool) -> None:
        state = "is provisioned already" if finished else "holds an unfinished provisioning"
        super().__init__(
            f"token {label!r} {state}: run `quorumvault hsm destroy` on it first if it is to be "
            "provisioned anew"
        )


class PackageBroken(HsmError):
    """A seat package is damaged, of a newer format, or of another cluster or seat."""

    def __init__(self, why: str) -> None:
        super().__init__(f"seat package refused: {why}")


class WordsWrong(HsmError):
    """The custodians' words are mistyped, too few, too many, or of another seat."""

    def __init__(self, why: str) -> None:
        super().__init__(f"custodians' words refused: {why}")
