"""Backups that die: each order on stdin forks one that is killed with SIGKILL after its delay.

    {"storage": URL, "source": path, "key": hex, "after_s": seconds or null}

One line answers: how long the backup ran until it was over (`done`) or was killed (`killed`).
A process of its own that has imported everything already, so that fifty deaths take seconds.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from pathlib import Path

from quorumvault.backup.create import create
from quorumvault.backup.keys import Keys
from quorumvault.backup.storage import Storage


def back_up(order: dict[str, str]) -> None:
    storage = Storage(order["storage"])
    create(storage, Keys.of(bytes.fromhex(order["key"])), [Path(order["source"])])
    storage.close()


def one(order: dict) -> dict[str, object]:
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        try:
            back_up(order)
        except BaseException as error:  # noqa: BLE001 - the child ends here
            os.write(2, f"{error!r}\n".encode())
            os._exit(1)
        os._exit(0)
    ended = os.pidfd_open(child)
    over, _, _ = select.select([ended], [], [], order["after_s"])
    if not over:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(ended)
    return {
        "how": "done" if os.waitstatus_to_exitcode(status) == 0 else "killed",
        "code": os.waitstatus_to_exitcode(status),
        "seconds": time.monotonic() - begun,
    }


for line in sys.stdin:
    sys.stdout.write(json.dumps(one(json.loads(line))) + "\n")
    sys.stdout.flush()
