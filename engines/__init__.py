"""Both engines (Raft, OPAQUE) and the exact bytes that every other package agrees on.

`engines._engines` is the Rust crate; `encoding` and `identifiers` are the Python half of
crypto.md's table of bytes, used alike by the vault and by its clients.
"""
