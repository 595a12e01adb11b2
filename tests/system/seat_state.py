"""Everything that one seat has: what whoever owns its machine, PIN included, can read and compute.

    SOFTHSM2_CONF=… python seat_state.py NODE_TOML REGISTRATION_ID_HEX…

Prints JSON: the keys that the node keeps in memory, its whole store (record, ledger) under its
state key, and per registration its six PRFs; for an active one also what the seal gave up. One
process per seat, since SoftHSM takes one configuration per process. The node must be stopped.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from cluster.record import decode_record
from cluster.tables import WHOLE_TABLE
from hsm.errors import SealBroken
from node.start import open_node


def main(config: Path, registrations: list[bytes]) -> None:
    opened = open_node(config)
    with opened.closing:
        hsm = opened.hsm

        async def prfs(registration: bytes) -> list[list[str]]:
            return [[group.hex(), prf.hex()] for group, prf in await hsm.subset_prfs(registration)]

        async def unsealed(record_id: bytes, value: bytes) -> dict[str, str]:
            active = decode_record(value).active
            if active is None:
                return {}
            try:
                contents = await hsm.unseal(record_id, active.registration_id, active.sealed)
            except SealBroken:
                return {}
            return {
                "registration_id": active.registration_id.hex(),
                "record": contents.record.hex(),
                "proof_box": contents.proof_box.hex(),
                "wrapped_key": contents.wrapped_key.hex(),
            }

        with opened.store.reading() as view:
            records = {key[3:]: value for key, value in view.items("records", *WHOLE_TABLE)}
            ledger = dict(view.items("ledger", *WHOLE_TABLE))
        state = {
            "seat": opened.entry.seat,
            "record_key": hsm.record_key.hex(),
            "ake_seed": hsm.ake_seed.hex(),
            "state_key": hsm.state_key.hex(),
            "prfs": {each.hex(): asyncio.run(prfs(each)) for each in registrations},
            "records": {key.hex(): value.hex() for key, value in records.items()},
            "ledger": {key.hex(): value.hex() for key, value in ledger.items()},
            "contents": {
                key.hex(): asyncio.run(unsealed(key, value)) for key, value in records.items()
            },
        }
    sys.stdout.write(json.dumps(state))


main(Path(sys.argv[1]), [bytes.fromhex(each) for each in sys.argv[2:]])
