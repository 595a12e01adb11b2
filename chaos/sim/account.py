"""A user of the simulated vault: makes the commands that its client would, with real signatures."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from chaos.sim.units import CLUSTER
from cluster.commands import Activate, Charge, Delete, Prove, Register
from cluster.types import AttemptId, Era, RecordId, RegistrationId
from engines._engines import ed25519_public_key, ed25519_sign
from engines.identifiers import activation_message, prove_message, registration_id

if TYPE_CHECKING:
    from chaos.sim.world import World

SEALED_BYTES = 400


class Account:
    """One account, in the shard asked for; everything follows from its name."""

    def __init__(self, name: str, shard: int = 0, shards: int = 2) -> None:
        self.seed = hashlib.sha256(name.encode()).digest()
        head = int.from_bytes(self.seed[:8], "big") // shards * shards + shard
        self.record_id = RecordId((head % 2**64).to_bytes(8, "big") + self.seed[8:])
        self.request = hashlib.sha256(b"request" + self.seed).digest()
        self.proof_seed = hashlib.sha256(b"proof" + self.seed).digest()
        self.proof_key = ed25519_public_key(self.proof_seed)

    def registration(self, era: int) -> RegistrationId:
        """The registration's id with this birth era."""
        return RegistrationId(
            registration_id(self.record_id, era, self.request, self.proof_key),
        )

    def register(self, era: int = 0) -> Register:
        """Register, born in `era`."""
        return Register(
            self.record_id, Era(era), self.request, self.proof_key, b"\x01" * SEALED_BYTES
        )

    def activate(self, era: int = 0) -> Activate:
        """Activate the registration born in `era`."""
        registration = self.registration(era)
        message = activation_message(CLUSTER, registration)
        return Activate(self.record_id, registration, ed25519_sign(self.proof_seed, message))

    def attempt(self, number: int) -> AttemptId:
        """The id of attempt `number`."""
        return AttemptId(hashlib.sha256(b"attempt%d" % number + self.seed).digest())

    def charge(self, number: int, era: int = 1) -> Charge:
        """Charge attempt `number` in `era`."""
        return Charge(self.record_id, Era(era), self.attempt(number))

    def prove(self, number: int, era: int = 1, birth_era: int = 0) -> Prove:
        """Prove attempt `number` in `era`, of the registration born in `birth_era`."""
        registration = self.registration(birth_era)
        message = prove_message(CLUSTER, registration, era, self.attempt(number))
        signature = ed25519_sign(self.proof_seed, message)
        return Prove(self.record_id, registration, Era(era), self.attempt(number), signature)

    def delete(self, era: int) -> Delete:
        """Delete in `era`."""
        return Delete(self.record_id, Era(era))

    def enrol(self, world: World, node: int) -> Account:
        """Register and activate through one node."""
        for command in (self.register(), self.activate()):
            status = getattr(world.applied(node, command), "status", None)
            if status != "done":
                raise AssertionError(f"{command} came out as {status}")
        return self
