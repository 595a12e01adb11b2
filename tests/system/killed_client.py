"""A phone that dies: one SDK call in a process that ends itself with SIGKILL at a given step.

    python killed_client.py '{"connection": …, "account": …, "state_file": …, "call": "register",
                              "password": …, "backup_key": hex, "die_after": 3}'

A step is one effect of the SDK's core (requests sent and answered, a file saved, Argon2 done); the
process dies when the step is done and before the core learns of it. When the call ends before,
the exit code is 0 and the number of steps that it took is on stdout.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from quorumvault import Vault
from quorumvault._transport import Driver


def main(order: dict[str, Any]) -> None:
    steps = 0
    perform = Driver._perform

    async def counted(self: Driver, effect: Any) -> Any:
        nonlocal steps
        result = await perform(self, effect)
        steps += 1
        if steps == order["die_after"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    Driver._perform = counted  # type: ignore[method-assign]
    with Vault.from_connection(
        order["connection"],
        order["account"],
        state_file=order["state_file"],
        hazmat_identity_ksf=True,
    ) as vault:
        if order["call"] == "register":
            vault.register(order["password"], bytes.fromhex(order["backup_key"]))
        else:
            vault.recover(order["password"])
    sys.stdout.write(f"{steps}\n")


main(json.loads(sys.argv[1]))
