"""What a node asks of its HSM, as values; how each is done on an open token; and what is counted.

Four kinds of request, nothing else ever touches the keys. Sealing and opening happen beside the
device with PRF outputs that live only for the call.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias, assert_never

from hsm import sealing, stamps
from hsm.errors import SealBroken
from hsm.names import SEAL_EPOCH
from hsm.prf import subset_message
from hsm.sealing import SealedContents

if TYPE_CHECKING:
    from hsm.probe import Keys
    from hsm.token import OpenToken

Operation: TypeAlias = Literal["subset_prfs", "seal", "unseal", "write_stamp"]


@dataclass(frozen=True, slots=True)
class SubsetPrfs:
    """The PRFs of every set that the seat is in, for one registration."""

    registration_id: bytes
    operation: Operation = "subset_prfs"


@dataclass(frozen=True, slots=True)
class Seal:
    """Seal contents for one record and registration."""

    record_id: bytes
    registration_id: bytes
    contents: SealedContents
    operation: Operation = "seal"


@dataclass(frozen=True, slots=True)
class Unseal:
    """Open sealed bytes of one record and registration."""

    record_id: bytes
    registration_id: bytes
    sealed: bytes
    operation: Operation = "unseal"


@dataclass(frozen=True, slots=True)
class WriteStamp:
    """Replace the stamp."""

    data: bytes
    operation: Operation = "write_stamp"


Job: TypeAlias = SubsetPrfs | Seal | Unseal | WriteStamp
Result: TypeAlias = list[tuple[bytes, bytes]] | bytes | SealedContents | None


def run(token: OpenToken, keys: Keys, job: Job) -> Result:
    """Do one request on an open token; raises HsmAway, SealBroken, ValueError."""
    match job:
        case SubsetPrfs(registration_id):
            message = subset_message(registration_id)
            return [(group, token.sign(key, message)) for group, key in keys.oprf]
        case Seal(record_id, registration_id, contents):
            prf = partial(token.sign, keys.seal[SEAL_EPOCH])
            return sealing.seal(prf, SEAL_EPOCH, record_id, registration_id, contents)
        case Unseal(record_id, registration_id, sealed):
            epoch = sealing.epoch_of(sealed)
            key = keys.seal.get(epoch)
            if key is None:
                raise SealBroken(f"no key for epoch {epoch}")
            return sealing.unseal(partial(token.sign, key), record_id, registration_id, sealed)
        case WriteStamp(data):
            stamps.write(token, data)
            return None
        case _:
            assert_never(job)


@dataclass(slots=True)
class OperationStats:
    """Counters of one kind of request since start."""

    done: int = 0
    failed: int = 0
    seconds: float = 0.0
    """Sum over done and failed, from asking to answering, waiting included."""


@dataclass(slots=True)
class HsmStats:
    """Counters since start; a copy, safe to keep."""

    operations: dict[Operation, OperationStats] = field(default_factory=dict)
    busy: int = 0
    """Requests refused with HsmBusy."""
    waiting: int = 0
    lost: int = 0
    """How often the HSM went away."""
    reopened: int = 0
