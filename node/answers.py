"""What every call answers, as types: encoded from here, described in OpenAPI from here.

Binary values are base64url without padding, made by `b64u_encode` where the answer is made.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from cluster.record import RecordState  # noqa: TC001 - msgspec reads the annotations at run time


class Receipt(Struct, frozen=True):
    """With every answer about a record: the client notices a vault that went back in time."""

    cluster_id: str
    shard: int
    index: int
    version: int
    restore_epoch: int


class NodePlace(Struct, frozen=True):
    """One node of the cluster."""

    id: int
    seat: int
    dc: str


class VaultAnswer(Struct, frozen=True):
    """GET /v1/vault."""

    cluster_id: str
    name: str
    opaque_public_key: str
    suite: str
    ksf: str
    limit: int
    node: int
    nodes: list[NodePlace]


class RegistrationStartAnswer(Struct, frozen=True):
    """POST /v1/registrations."""

    record_id: str
    registration_id: str
    era: int
    response: str
    verified: bool


class RegistrationAnswer(Struct, frozen=True):
    """PUT /v1/registrations/{registration_id}."""

    state: Literal["pending", "active"]
    registration_id: str
    receipt: Receipt


class ActivationAnswer(Struct, frozen=True):
    """POST /v1/registrations/{registration_id}/activation."""

    state: Literal["active"]
    registration_id: str
    receipt: Receipt


class AttemptAnswer(Struct, frozen=True):
    """POST /v1/attempts."""

    record_id: str
    attempt_id: str
    registration_id: str
    era: int
    ke2: str
    proof_box: str
    guesses_remaining: int
    limit: int
    replayed: bool
    verified: bool
    receipt: Receipt


class ProofAnswer(Struct, frozen=True):
    """POST /v1/attempts/{attempt_id}/proof."""

    wrapped_key: str
    registration_id: str
    receipt: Receipt


class PendingAnswer(Struct, frozen=True):
    """The pending registration of a record; `content` is absent when the HSM is away."""

    registration_id: str
    content: str | UnsetType = UNSET


class RecordAnswer(Struct, frozen=True):
    """GET /v1/record."""

    state: RecordState
    pending: PendingAnswer | None
    era: int
    limit: int
    receipt: Receipt
    registration_id: str | UnsetType = UNSET
    content: str | UnsetType = UNSET
    guesses_remaining: int | UnsetType = UNSET


class DeletionAnswer(Struct, frozen=True):
    """DELETE /v1/record."""

    state: Literal["none"]
    receipt: Receipt


AnswerBody = (
    VaultAnswer
    | RegistrationStartAnswer
    | RegistrationAnswer
    | ActivationAnswer
    | AttemptAnswer
    | ProofAnswer
    | RecordAnswer
    | DeletionAnswer
)

_encoder = msgspec.json.Encoder()


def encode_answer(answer: AnswerBody) -> bytes:
    """The JSON document of an answer."""
    return _encoder.encode(answer)
