"""What is replicated: commands, the record state machine, ledger, shards and the Raft host.

It knows no HTTP API, HSM, clock or socket: time, disk and network are handed in.
"""
