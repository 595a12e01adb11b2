"""What the node asks of its HSM, as a Protocol; `hsm.Hsm` is the one that exists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hsm.sealing import SealedContents


class Device(Protocol):
    """The HSM of this node's seat. Methods raise hsm.errors.HsmError while it is away."""

    @property
    def healthy(self) -> bool:
        """Whether the last health round trip worked."""
        ...

    async def subset_prfs(self, registration_id: bytes) -> Sequence[tuple[bytes, bytes]]:
        """[(A, PRF(oprf/A, "oprf-subset", registration_id))] of the seat's sets."""
        ...

    async def seal(
        self, record_id: bytes, registration_id: bytes, contents: SealedContents
    ) -> bytes:
        """Sealed bytes; equal for equal contents on every node."""
        ...

    async def unseal(
        self, record_id: bytes, registration_id: bytes, sealed: bytes
    ) -> SealedContents:
        """The contents; raises SealBroken for altered bytes."""
        ...
