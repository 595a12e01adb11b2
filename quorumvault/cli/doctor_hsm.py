"""One round trip to a node's token for `quorumvault doctor`, by the vault's own code.

The PIN is tried once. Session objects alone are made; nothing on the token changes. The store is
read only when no node runs, without a lock and for its one identity row, so that stamp and data
directory can be compared. All of it happens in a process of its own: what a vendor's library does
when its device is away is to hang, some with the interpreter's lock held, or to crash.
"""

from __future__ import annotations

import multiprocessing
import resource
import signal
import statistics
import time
from typing import TYPE_CHECKING, Final

import lmdb
import msgspec

from cluster.datadir import STORE_NAME
from cluster.ports import TABLES
from cluster.stamp import StampError, decode_stamp
from cluster.store_format import Macs, StoreError
from cluster.tables import META_IDENTITY, decode_identity
from hsm import errors, stamps
from hsm.errors import HsmError
from hsm.module import get_module
from hsm.names import NODE
from hsm.prf import CHECK_MESSAGE
from hsm.probe import Seat, check_device, open_keys
from hsm.settings import HsmSettings, Pin
from hsm.token import open_token
from quorumvault.cli.doctor_facts import HsmFacts

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from pathlib import Path
    from uuid import UUID

    from cluster.cluster_file import ClusterFile, NodeEntry
    from hsm.module import Module
    from hsm.probe import Keys
    from hsm.token import OpenToken
    from node.config import NodeConfig

MOST_S: Final = 10.0
"""A device that has not answered all by then hangs; a good one needs well under one second."""
REAP_S: Final = 1.0
"""A killed process that is not gone by then hangs in the kernel, and is left there."""
MAX_FACTS_BYTES: Final = 1 << 16
SIGNATURES: Final = 20
STAMP_TRIES: Final = 5
"""A running node replaces its stamp: an object may be gone between being listed and being read."""
MAX_PIN_BYTES: Final = 256
_STEPS: Final[tuple[tuple[type[HsmError], str], ...]] = (
    (errors.ModuleMissing, "install the PKCS#11 library, or correct hsm.module"),
    (errors.ModuleDown, "bring up its device or daemon; for SoftHSM look at SOFTHSM2_CONF"),
    (errors.TokenMissing, "insert the token, or correct hsm.token_label or SOFTHSM2_CONF"),
    (errors.PinWrong, "write the right PIN into hsm.pin_file; do not try: tokens lock themselves"),
    (errors.PinLocked, "let the security officer set the user PIN anew"),
    (errors.KeyMissing, "provision the token with this seat's package (quorumvault hsm provision)"),
    (errors.KeyMismatch, "use the token and the cluster.json that belong together"),
)


def round_trip(config: NodeConfig, cluster: ClusterFile, entry: NodeEntry, holder: int) -> HsmFacts:
    """Open the token as the node would, compute, read the stamp. `holder`: the running node or 0.

    A library that hangs is given up, and its process killed, after MOST_S.
    """
    try:
        pin = _pin(config.hsm_pin_file)
        checks = {name: bytes.fromhex(value) for name, value in cluster.check_values.items()}
        seat = Seat(entry.seat, len(cluster.nodes), cluster.threshold, checks)
    except (OSError, ValueError) as error:
        wrong = getattr(error, "strerror", None) or str(error)
        return HsmFacts(f"not tried: {wrong}", "put the token's PIN into hsm.pin_file")
    settings = HsmSettings(config.hsm_module, config.hsm_token_label, pin)
    # Forked, and not started anew: whatever stands in the working directory is not imported.
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    probe = context.Process(
        target=_probe, args=(sender, settings, seat, config.data_dir / STORE_NAME, holder)
    )
    probe.start()
    sender.close()
    try:
        if not receiver.poll(MOST_S):
            return HsmFacts(
                f"{config.hsm_module} did not answer within {MOST_S:.0f} s",
                "look at the device, the network to it and its daemon; the node would hang too",
            )
        return msgspec.json.decode(receiver.recv_bytes(MAX_FACTS_BYTES), type=HsmFacts)
    except EOFError:
        probe.join(REAP_S)
        return HsmFacts(
            f"{config.hsm_module} ended the process that loaded it ({_ending(probe.exitcode)})",
            "reinstall the PKCS#11 library for this machine; the node would end the same way",
        )
    finally:
        probe.kill()
        probe.join(REAP_S)
        receiver.close()


def _probe(sender: Connection, settings: HsmSettings, seat: Seat, store: Path, holder: int) -> None:
    """In the process of its own."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it has the PIN
    sender.send_bytes(msgspec.json.encode(_round_trip(settings, seat, store, holder)))


def _ending(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _pin(path: Path) -> Pin:
    with path.open("rb") as file:
        return Pin(file.read(MAX_PIN_BYTES + 1).decode("utf-8").strip())


def _round_trip(settings: HsmSettings, seat: Seat, store: Path, holder: int) -> HsmFacts:
    try:
        module = get_module(settings.module)
        return module.call(lambda: _in_lane(module, settings, seat, store, holder))
    except HsmError as error:
        step = next((step for kind, step in _STEPS if isinstance(error, kind)), "")
        return HsmFacts(str(error), step or "look at the device; docs/node.md tells what it needs")


def _in_lane(
    module: Module, settings: HsmSettings, seat: Seat, store: Path, holder: int
) -> HsmFacts:
    token = open_token(module, settings)
    try:
        check_device(token)
        keys = open_keys(token, seat)
        facts = HsmFacts(keys=len(keys.on_token), sign_ms=_sign_ms(token, keys))
        try:
            stamp = decode_stamp(_stamp(token))
        except (HsmError, StampError) as error:
            return msgspec.structs.replace(facts, stamp_error=str(error))
    finally:
        token.close()
    stored, wrong = (None, "") if holder else _stored(store, keys.state_key)
    cluster_id = _uuid(stamp.cluster_id)
    return msgspec.structs.replace(
        facts,
        stamp_holder=f"node {stamp.node_id} of cluster {cluster_id}",
        stamped=stamp.incarnation,
        stored=stored,
        stored_error=wrong,
    )


def _uuid(data: bytes) -> UUID | str:
    from uuid import UUID  # noqa: PLC0415 - used here alone

    return UUID(bytes=data) if len(data) == 16 else data.hex()


def _sign_ms(token: OpenToken, keys: Keys) -> float:
    times = []
    for _ in range(SIGNATURES):
        begun = time.perf_counter()
        token.sign(keys.on_token[NODE], CHECK_MESSAGE)
        times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times)


def _stamp(token: OpenToken) -> bytes:
    for _ in range(STAMP_TRIES - 1):
        try:
            return stamps.read(token)
        except errors.HsmAway:
            continue
    return stamps.read(token)


def _stored(store: Path, state_key: bytes) -> tuple[int | None, str]:
    """The incarnation in a store that nobody has open, and why it cannot be told."""
    if not (store / "data.mdb").exists():
        return None, ""
    try:
        with (
            lmdb.open(
                str(store), readonly=True, lock=False, create=False, max_dbs=len(TABLES) + 1
            ) as environment,
            environment.begin() as transaction,
        ):
            meta = environment.open_db(b"meta", transaction, create=False)
            found = transaction.get(META_IDENTITY, db=meta)
        if found is None:
            return None, ""
        return decode_identity(Macs(state_key).open("meta", META_IDENTITY, found)).incarnation, ""
    except (lmdb.Error, StoreError, msgspec.DecodeError, OSError) as error:
        return None, f"the store cannot be read with this token's key ({str(error)[:200]})"
