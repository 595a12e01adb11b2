"""A connection that was closed twice can still be hung up, by Debian 12's own Python too."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

from cluster.hang_up import hang_up

PYTHON = shutil.which("/usr/bin/python3") or sys.executable
"""Debian 12's has the fault."""
SOURCE = Path(__file__).parents[2] / "cluster" / "hang_up.py"
TWICE = f"""
import asyncio, importlib.util, socket, ssl
spec = importlib.util.spec_from_file_location("hang_up", {str(SOURCE)!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from asyncio.sslproto import SSLProtocol

async def main():
    made = SSLProtocol(asyncio.get_running_loop(), asyncio.Protocol(), ssl.create_default_context(),
                       None, server_hostname="localhost")
    transport = made._get_app_transport()
    transport.close()
    transport.close()
    module.hang_up(transport)
    assert transport.is_closing()

asyncio.run(main())
"""


def test_by_the_systems_python_a_transport_that_was_closed_twice_is_hung_up_without_an_error():
    command = [PYTHON, "-c", TWICE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


class Lost(asyncio.Transport):
    """As Python 3.11.2 leaves a TLS transport that was closed twice."""

    def abort(self) -> None:
        raise AttributeError("'NoneType' object has no attribute '_abort'")


def test_a_transport_that_lost_its_socket_is_left_to_its_end():
    hang_up(Lost())
    hang_up(None)


def test_any_other_transport_is_aborted():
    class Open(asyncio.Transport):
        aborted = 0

        def abort(self) -> None:
            self.aborted += 1

    transport = Open()
    hang_up(transport)
    assert transport.aborted == 1
