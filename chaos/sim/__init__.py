"""The simulator: the real `cluster/` code and Raft engine in one process, under virtual time.

`World` is five nodes and the wires between them; nothing in it sleeps, and the same seed gives the
same story. From the inside out:

- the world: `world` (time, wires), `node` (one machine's life), `disk` (the store's twin and what a
  power cut leaves of it), `clock`, `wild` (what the wire may do to Raft), `book` (who the members
  are), `account` (a user for tests that write their own story).
- what happens in it: `plan` (a run as data, drawn from a seed), `inject` (faults), `clients` over
  `desk`, `guessing`, `collecting`, `proving` (a node's API in callbacks), `curious` (who asks for
  every share).
- what is demanded: `guard` (every node, after every event), `reference` (the one agreed log),
  `shares` (the witness at every HSM), and at the end the judges of `chaos.checkers`.
- runs: `run` (one), `many` (seeds over processes), `shrink` (the shortest plan that still fails),
  `trace` (hash and words), `totals`.
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
