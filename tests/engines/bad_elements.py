"""Thirty-two bytes, or not, that no function may take for a group element."""

from __future__ import annotations

P = 2**255 - 19

BAD_ELEMENTS = {
    "empty": b"",
    "too short": bytes(31),
    "too long": bytes.fromhex(
        "e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2d76" + "00"
    ),
    "identity": bytes(32),
    "all ones": b"\xff" * 32,
    "the field's order": P.to_bytes(32, "little"),
    "one above the order": (P + 1).to_bytes(32, "little"),
    "negative": (1).to_bytes(32, "little"),
    "minus the base point's encoding": (
        P
        - int.from_bytes(
            bytes.fromhex("e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2d76"),
            "little",
        )
    ).to_bytes(32, "little"),
    "high bit set": bytes.fromhex(
        "e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2df6"
    ),
    "not a square": bytes.fromhex(
        "26948d35ca62e643e26a83177332e6b6afeb9d08e4268b650f1f5bbd8d81d371"
    ),
    "not a square, second": bytes.fromhex(
        "4eac077a713c57b4f4397629a4145982c661f48044dd3f96427d40b147d9742f"
    ),
    "negative xy": bytes.fromhex(
        "3eb858e78f5a7254d8c9731174a94f76755fd3941c0ac93735c07ba14579630e"
    ),
    "y is zero": (P - 1).to_bytes(32, "little"),
}
"""Among them cases of RFC 9496 appendix A.3."""
