"""How a node ends when going on could break a rule: one line, then gone at once (I9).

No handler runs and nothing is flushed to a peer: whatever is not durable was never promised.
"""

from __future__ import annotations

import os
import sys
from typing import Final, NoReturn

EXIT_FATAL: Final = 70
"""sysexits.h EX_SOFTWARE: memory and disk, or this node and the cluster, no longer agree."""


def end_process(reason: str) -> NoReturn:
    """Write one line to stderr and leave with EXIT_FATAL, from whatever thread."""
    try:
        line = " ".join(reason.split())
        sys.stderr.write(f"quorumvault: fatal: {line}\n")
        sys.stderr.flush()
    finally:
        # Also when the line could not be written: its disk may be the very one that is full.
        os._exit(EXIT_FATAL)
