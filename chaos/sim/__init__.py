"""The simulator: the real `cluster/` code and Raft engine in one process, under virtual time.

`World` is five nodes and the wires between them; nothing in it sleeps, and the same seed gives the
same story. Files: `world` (time, wires), `node` (one machine's life), `disk` (the store's twin and
what a power cut leaves of it), `account` (a user and the commands that its client makes).
"""

from chaos.sim.account import Account
from chaos.sim.disk import SimFiles, SimStore
from chaos.sim.node import Killed, Moment, SimNode
from chaos.sim.units import CLUSTER, MS, SECOND
from chaos.sim.world import World

__all__ = [
    "CLUSTER",
    "MS",
    "SECOND",
    "Account",
    "Killed",
    "Moment",
    "SimFiles",
    "SimNode",
    "SimStore",
    "World",
]
