"""Opening everything that one node needs, in an order that changes nothing until all of it fits.

Configuration, cluster file, certificates and ports first: mistakes of a person, refused in one
line with exit code 2 or 8 before the data directory or the token is touched. Then the directory,
the token (tried with its PIN once), the store, and the comparison of disk and stamp (I9).
"""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cluster import cluster_file
from cluster.api import Shape
from cluster.boot import BootRefused, BootState, boot
from cluster.certificates import (
    CertificateError,
    TlsFiles,
    put_pair,
    server_context,
)
from cluster.datadir import DataDir, DataDirError, DataDirForeignError, DataDirInUseError
from cluster.next_step import for_node
from cluster.store import Store
from cluster.store_format import (
    StoreError,
    StoreForeignError,
    StoreInUseError,
    StoreWrongKeyError,
)
from hsm import Hsm, HsmError, HsmSettings, Pin
from hsm.errors import KeyMismatch
from node import pair as pairs
from node import reload
from node.config import ConfigError
from node.waiting import ToldToStop, until_room

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from cluster.cluster_file import ClusterFile, NodeEntry
    from node.config import NodeConfig
    from node.reload_plan import Running

EXIT_OK: Final = 0
EXIT_UNEXPECTED: Final = 1
EXIT_CONFIGURATION: Final = 2
EXIT_CONFLICT: Final = 8
"""Also a foreign or doubly used directory or port (design section 8)."""
LISTENERS: Final = ("ops", "client", "peer", "admin")
"""In the order of binding: a node that waits for disk space answers on the first alone."""
BACKLOG: Final = 1024
MAX_PIN_BYTES: Final = 256


class StartRefused(Exception):  # noqa: N818 - it says what happened, and the process ends with it
    """The node does not start; one line that names the thing and the next step."""

    def __init__(self, line: str, exit_code: int) -> None:
        super().__init__(" ".join(line.split()))
        self.exit_code = exit_code


@dataclass(slots=True)
class Opened:
    """Everything that is open; `closing` closes it in reverse order."""

    path: Path
    config: NodeConfig
    running: Running
    cluster: ClusterFile
    entry: NodeEntry
    shape: Shape
    tls: TlsFiles
    client_tls: ssl.SSLContext
    admin_tls: ssl.SSLContext
    sockets: Mapping[str, socket.socket]
    directory: DataDir
    hsm: Hsm
    store: Store
    state: BootState
    closing: ExitStack = field(repr=False)


def open_node(path: Path, say: Callable[[str], None] = lambda _: None) -> Opened:
    """Open the node that the TOML file at `path` describes; waits while its disk is full.

    Args:
        path: the node's configuration.
        say: told in one line what is waited for, if anything is.

    Raises:
        StartRefused: with the line and the exit code; nothing stays open.

    """
    with ExitStack() as undo:
        try:
            running = reload.read(path)
            config = running.loaded.config
            cluster = cluster_file.load(config.cluster_file)
            if (replaced := cluster.retirement(config.node_id)) is not None:
                raise StartRefused(replaced, EXIT_CONFLICT)
            entry = cluster.node(config.node_id)
            tls = TlsFiles(config.tls_ca, config.tls_cert, config.tls_key)
            pairs.check_holder(running.pair, cluster, entry)
            client_tls = server_context(tls, require_client=False)
            admin_tls = server_context(tls, require_client=True)
            put_pair([client_tls, admin_tls], running.pair.cert_pem, running.pair.key_pem)
            settings = HsmSettings(
                config.hsm_module, config.hsm_token_label, _pin(config.hsm_pin_file)
            )
        except (ConfigError, cluster_file.ClusterFileError, CertificateError) as error:
            raise StartRefused(str(error), EXIT_CONFIGURATION) from error
        sockets: dict[str, socket.socket] = {}
        for name in LISTENERS:
            sockets[name] = undo.enter_context(_listener(name, *getattr(config.listen, name)))
            if name == "ops":
                _wait_for_room(config.data_dir, sockets[name], say)
        directory = _directory(config, cluster)
        undo.callback(directory.release)
        device = _device(settings, cluster, entry)
        undo.callback(device.close)
        store = _store(directory, device, config)
        undo.callback(store.close)
        shape = Shape.of(cluster, entry.id)
        try:
            state = boot(store, device.read_stamp(), shape)
        except BootRefused as error:
            raise StartRefused(f"{config.data_dir}: {error}", EXIT_CONFLICT) from error
        except (HsmError, StoreError) as error:
            line = for_node(str(error), config.node_id)
            raise StartRefused(line, EXIT_UNEXPECTED) from error
        return Opened(
            path=path,
            config=config,
            running=running,
            cluster=cluster,
            entry=entry,
            shape=shape,
            tls=tls,
            client_tls=client_tls,
            admin_tls=admin_tls,
            sockets=sockets,
            directory=directory,
            hsm=device,
            store=store,
            state=state,
            closing=undo.pop_all(),
        )


def _pin(path: Path) -> Pin:
    """The content of the PIN file without white space around it; it never shows itself."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PIN_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"hsm.pin_file {path} cannot be read ({error.strerror}); correct the path"
        ) from None
    try:
        return Pin(data.decode("utf-8").strip())
    except ValueError:
        raise ConfigError(f"hsm.pin_file {path} holds no PIN; write it there") from None


def _listener(name: str, host: str, port: int) -> socket.socket:
    """A socket bound to the address, so that a taken port is noticed before anything else."""
    where = f"listen.{name} = {host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise StartRefused(
            f"{where}: cannot be used ({error.strerror}); correct it", EXIT_CONFIGURATION
        ) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise StartRefused(
                f"{where}: the port is in use by another process; stop that one or choose another",
                EXIT_CONFLICT,
            ) from error
        raise StartRefused(
            f"{where}: cannot listen there ({error.strerror}); correct it", EXIT_CONFIGURATION
        ) from error
    return listener


def _wait_for_room(directory: Path, ops: socket.socket, say: Callable[[str], None]) -> None:
    try:
        until_room(directory, ops, say)
    except ToldToStop:
        raise StartRefused("stopped while it waited for disk space", EXIT_OK) from None


def _directory(config: NodeConfig, cluster: ClusterFile) -> DataDir:
    try:
        return DataDir.claim(config.data_dir, cluster.cluster_id, config.node_id)
    except (DataDirForeignError, DataDirInUseError) as error:
        raise StartRefused(str(error), EXIT_CONFLICT) from error
    except DataDirError as error:
        raise StartRefused(str(error), EXIT_CONFIGURATION) from error


def _device(settings: HsmSettings, cluster: ClusterFile, entry: NodeEntry) -> Hsm:
    try:
        device = Hsm(
            settings,
            seat=entry.seat,
            cluster_id=cluster.cluster_id,
            check_values={
                name: bytes.fromhex(value) for name, value in cluster.check_values.items()
            },
            threshold=cluster.threshold,
            seats=len(cluster.nodes),
        )
        device.start()
    except KeyMismatch as error:
        raise StartRefused(str(error), EXIT_CONFLICT) from error
    except (HsmError, ValueError) as error:
        raise StartRefused(str(error), EXIT_CONFIGURATION) from error
    return device


def _store(directory: DataDir, device: Hsm, config: NodeConfig) -> Store:
    try:
        return Store.open(directory.store, device.state_key, map_bytes=config.map_bytes)
    except (StoreInUseError, StoreForeignError, StoreWrongKeyError) as error:
        raise StartRefused(str(error), EXIT_CONFLICT) from error
    except StoreError as error:
        line = for_node(str(error), config.node_id)
        raise StartRefused(line, EXIT_UNEXPECTED) from error
