"""How long a call of the SDK may take; apart, so that help can tell it without the SDK."""

from __future__ import annotations

from typing import Final

DEFAULT_TIMEOUT_S: Final = 30.0
"""Room for a leader's failover between continents, twice."""
