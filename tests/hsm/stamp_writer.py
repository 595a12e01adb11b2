"""Started by the stamp crash test: for each line on stdin forks a child that writes stamps.

The parent process imports everything once and never loads PKCS#11, so a fork is safe and quick. A
child acknowledges each stamp with eight bytes on stdout after it is written, until it is killed.
"""

from __future__ import annotations

import os
import sys
from itertools import count
from pathlib import Path

from hsm import stamps
from hsm.module import get_module
from hsm.settings import HsmSettings, Pin
from hsm.token import open_token


def write_for_ever(settings: HsmSettings) -> None:
    module = get_module(settings.module)

    def run() -> None:
        token = open_token(module, settings)
        last = int.from_bytes(stamps.read(token)[:8], "big")
        for number in count(last + 1):
            stamps.write(token, number.to_bytes(8, "big") + bytes(300))
            os.write(1, number.to_bytes(8, "big"))

    module.call(run)


def main() -> None:
    module, label, pin = sys.argv[1:]
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            write_for_ever(HsmSettings(Path(module), label, Pin(pin)))
        os.write(1, child.to_bytes(8, "big"))
        os.waitpid(child, 0)
        os.write(1, bytes(8))


main()
