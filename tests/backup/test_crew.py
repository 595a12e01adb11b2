"""Jobs of a crew are all done, or the first error comes out and no thread stays behind."""

from __future__ import annotations

import signal
import threading

import pytest

from quorumvault.backup.crew import Crew


def left_behind() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("backup-")]


@pytest.mark.timeout(60)
def test_every_job_is_done_and_every_thread_ends() -> None:
    for workers in (1, 2, 5):
        for _ in range(200):
            done: list[int] = []
            with Crew[int](workers, done.append) as crew:
                for number in range(20):
                    crew.put(number)
            assert sorted(done) == list(range(20))
    assert left_behind() == []


def put_many(workers: int) -> None:
    def fail(number: int) -> None:
        if number >= 3:
            raise ValueError(f"job {number}")

    with Crew[int](workers, fail) as crew:
        for number in range(1_000):
            crew.put(number)


@pytest.mark.timeout(60)
def test_the_first_error_comes_out_and_whoever_puts_never_waits_for_ever() -> None:
    for workers in (1, 2, 5):
        for _ in range(100):
            with pytest.raises(ValueError, match="job"):
                put_many(workers)
    assert left_behind() == []


def interrupted() -> None:
    def fail(_: int) -> None:
        raise ValueError("of a job")

    with Crew[int](2, fail) as crew:
        crew.put(1)
        raise KeyboardInterrupt


def test_an_error_of_the_caller_ends_the_threads_and_stays_the_error() -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert left_behind() == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize("jobs", [2, 1_000], ids=["waiting for the last", "queueing"])
def test_ctrl_c_comes_out_when_no_job_is_at_work_any_more(jobs: int) -> None:
    at_work = threading.Semaphore(0)
    may_end = threading.Event()
    ended: list[int] = []

    def work(number: int) -> None:
        at_work.release()
        may_end.wait()
        ended.append(number)

    crew = Crew[int](2, work)

    def interrupt() -> None:
        at_work.acquire()
        at_work.acquire()
        told = False
        while not told:  # again where it came just before the main thread began to wait
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            with crew._changed:
                told = crew._changed.wait_for(lambda: crew._failed, timeout=1)
        may_end.set()

    helper = threading.Thread(target=interrupt)
    helper.start()
    with pytest.raises(KeyboardInterrupt):
        put_all(crew, jobs)
    assert left_behind() == []
    assert len(ended) == 2
    helper.join()


def put_all(crew: Crew[int], count: int) -> None:
    with crew:
        for number in range(count):
            crew.put(number)
