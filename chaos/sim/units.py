"""Virtual nanoseconds, and the one cluster id of every simulated cluster."""

from __future__ import annotations

import uuid
from typing import Final

MS: Final = 1_000_000
SECOND: Final = 1_000_000_000
CLUSTER: Final = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")
