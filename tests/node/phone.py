"""A client at one node's parts: builds exact bodies, keeps what a phone keeps; cheap KSF."""

from __future__ import annotations

import os
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from node_world import CLUSTER_ID, RECORD_KEY

from engines import _engines, identifiers
from engines.encoding import b64u_decode, enc
from node import proofs, records, registrations
from node.attempts import Attempt
from node.fields import (
    ActivationBody,
    AttemptBody,
    ProofBody,
    RegistrationBody,
    RegistrationStartBody,
)

KEY = b"k" * 32


def _wrap_key(export_key: bytes, label: str) -> bytes:
    return HKDF(SHA512(), 32, salt=b"", info=enc(label)).derive(export_key)


@dataclass
class Registered:
    registration_id: bytes
    body: RegistrationBody
    seed: bytes


class Phone:
    def __init__(self, world, sub: str = "alice") -> None:
        self.world = world
        self.record_id = identifiers.record_id(RECORD_KEY, CLUSTER_ID, "demo", sub)

    def parts(self, node: int):
        return self.world.nodes[node].parts

    async def start(self, node: int, password: bytes, seed: bytes):
        state, request = _engines.opaque_registration_start(password)
        proof_key = _engines.ed25519_public_key(seed)
        body = RegistrationStartBody(request, proof_key)
        answer = await registrations.start(self.parts(node), self.record_id, body)
        return state, body, answer

    async def prepare(self, node: int = 1, password: bytes = b"right") -> Registered:
        seed = os.urandom(32)
        state, begun, answer = await self.start(node, password, seed)
        registration_id = b64u_decode(answer.registration_id)
        record, export_key, _ = _engines.opaque_registration_finish(
            state, password, b64u_decode(answer.response), hazmat_identity_ksf=True
        )
        nonce = os.urandom(12)
        box = AESGCM(_wrap_key(export_key, "wrap-proof")).encrypt(
            nonce, seed, enc("proof-aad", registration_id)
        )
        wrapped = AESGCM(_wrap_key(export_key, "wrap-key")).encrypt(
            nonce, KEY, enc("wrap-aad", registration_id)
        )
        body = RegistrationBody(
            request=begun.request,
            proof_key=begun.proof_key,
            era=answer.era,
            record=record,
            proof_box=b"\x01" + nonce + box,
            wrapped_key=b"\x01" + nonce + wrapped,
        )
        return Registered(registration_id, body, seed)

    async def put(self, made: Registered, node: int = 1):
        return await registrations.put(
            self.parts(node), self.record_id, made.registration_id, made.body
        )

    async def activate(self, made: Registered, node: int = 1):
        message = identifiers.activation_message(CLUSTER_ID, made.registration_id)
        body = ActivationBody(_engines.ed25519_sign(made.seed, message))
        return await registrations.activate(
            self.parts(node), self.record_id, made.registration_id, body
        )

    async def register(self, node: int = 1, password: bytes = b"right") -> Registered:
        made = await self.prepare(node, password)
        await self.put(made, node)
        await self.activate(made, node)
        return made

    def guess(self, password: bytes = b"right"):
        return _engines.opaque_login_start(password)

    async def attempt(self, ke1: bytes, node: int = 1, *, verify: bool = False):
        body = AttemptBody(ke1, verify)
        return await Attempt(self.parts(node), self.record_id, body).answer()

    def opened(self, state: bytes, answer, password: bytes = b"right"):
        """(export key, seed): raises OpaqueOpenError for a wrong password."""
        export_key, _ = _engines.opaque_login_finish(
            state, password, b64u_decode(answer.ke2), hazmat_identity_ksf=True
        )
        box = b64u_decode(answer.proof_box)
        seed = AESGCM(_wrap_key(export_key, "wrap-proof")).decrypt(
            box[1:13], box[13:], enc("proof-aad", b64u_decode(answer.registration_id))
        )
        return export_key, seed

    def proof(self, answer, seed: bytes, ke1: bytes) -> ProofBody:
        message = identifiers.prove_message(
            CLUSTER_ID,
            b64u_decode(answer.registration_id),
            answer.era,
            b64u_decode(answer.attempt_id),
        )
        return ProofBody(ke1, answer.era, _engines.ed25519_sign(seed, message))

    async def prove(self, body: ProofBody, node: int = 1):
        attempt_id = identifiers.attempt_id(self.record_id, body.ke1)
        return await proofs.prove(self.parts(node), self.record_id, attempt_id, body)

    async def recover(self, node: int = 1, password: bytes = b"right") -> bytes:
        state, ke1 = self.guess(password)
        answer = await self.attempt(ke1, node)
        export_key, seed = self.opened(state, answer, password)
        released = await self.prove(self.proof(answer, seed, ke1), node)
        wrapped = b64u_decode(released.wrapped_key)
        aad = enc("wrap-aad", b64u_decode(released.registration_id))
        return AESGCM(_wrap_key(export_key, "wrap-key")).decrypt(wrapped[1:13], wrapped[13:], aad)

    async def look(self, node: int = 1):
        return await records.look(self.parts(node), self.record_id)

    async def delete(self, era: int, node: int = 1):
        return await records.delete(self.parts(node), self.record_id, era)
