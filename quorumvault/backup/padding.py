"""Padmé: sizes that a storage provider sees tell at most their magnitude (docs/format.md).

From "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs" (Nikitin,
Barman, Lueks, Underwood, Hubaux, Ford; PETS 2019), section 4. Of a size of n bits only the upper
log2(n) bits or so remain, for at most 12 % more bytes, and ever less as sizes grow.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MIN_PADDED_BYTES", "padded", "padme"]

MIN_PADDED_BYTES: Final = 4_096  # below, a size says too much of a short message


def padme(size: int) -> int:
    """The padded size for `size` bytes; a padded size stays what it is.

    Raises:
        ValueError: the size is negative.

    """
    if size < 0:
        raise ValueError(f"a size of {size} bytes")
    if size < 2:
        return size
    exponent = size.bit_length() - 1
    mask = (1 << (exponent - exponent.bit_length())) - 1
    return (size + mask) & ~mask


def padded(size: int) -> int:
    """The size of a plaintext of `size` bytes with its zeros; no object has less than 4,096."""
    return max(MIN_PADDED_BYTES, padme(size))
