"""Many runs, in this process or in several, until the seeds or the time are over."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import TYPE_CHECKING

from chaos.sim.run import run_seed
from chaos.sim.totals import Totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chaos.sim.plan import Settings
    from chaos.sim.run import Verdict


def run_many(
    seeds: Iterator[int],
    settings: Settings,
    *,
    jobs: int = 1,
    cpu_seconds: float | None = None,
    told: Callable[[Verdict, Totals], object] = lambda *_: None,
) -> tuple[Totals, list[Verdict]]:
    """Play the seeds; stops at the first failure, or when the runs have used `cpu_seconds`.

    `told` is called after each run, with the sums until then.

    """
    totals = Totals()
    failures: list[Verdict] = []
    for verdict in _one(seeds, settings) if jobs == 1 else _several(seeds, settings, jobs):
        totals.add(verdict.totals)
        told(verdict, totals)
        if verdict.broken:
            failures.append(verdict)
        if failures or (cpu_seconds is not None and totals.cpu_seconds >= cpu_seconds):
            break
    return totals, failures


def _one(seeds: Iterator[int], settings: Settings) -> Iterator[Verdict]:
    for seed in seeds:
        yield run_seed(seed, settings)


def _several(seeds: Iterator[int], settings: Settings, jobs: int) -> Iterator[Verdict]:
    """Verdicts as they come; never more than `jobs` seeds ahead."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        open_runs: set[Future[Verdict]] = set()
        try:
            while True:
                while len(open_runs) < jobs and (seed := next(seeds, None)) is not None:
                    open_runs.add(pool.submit(run_seed, seed, settings))
                if not open_runs:
                    return
                done, open_runs = wait(open_runs, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def random_start() -> int:
    """A seed to begin a soak with: another one each time, and printed by whoever asks."""
    return time.time_ns() % 1_000_000_000
