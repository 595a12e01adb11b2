"""Bytes of the right length that are no element and no key."""

NOT_AN_ELEMENT = b"\x01" + bytes(31)
"""Negative field element: RFC 9496 refuses it as non-canonical."""
LOW_ORDER_KEY = b"\x01" + bytes(31)
"""The neutral point of Ed25519: every signature would verify under it."""
