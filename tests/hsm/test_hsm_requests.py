"""Many tasks, threads and loops at once: every answer is the right one, or an honest refusal."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time

import pytest

from engines.encoding import enc
from hsm import device, errors, prf
from hsm.ceremony import join_seat_key
from hsm.package import open_package
from hsm.sealing import SealedContents

RECORD_ID, REGISTRATION_ID = b"i" * 32, b"r" * 32


async def queued(made, count):
    while made.stats.waiting < count:  # noqa: ASYNC110 - the tasks run at each turn of the loop
        await asyncio.sleep(0)


def contents():
    return SealedContents(
        secrets.token_bytes(192), secrets.token_bytes(61), secrets.token_bytes(61)
    )


@pytest.fixture
def keys(ground):
    """Seat 2's keys in the clear, to know the right answers."""
    words = ground.ceremony.shares[2][:3]
    return open_package(ground.ceremony.packages[2], join_seat_key(words))


def expected_prfs(keys, registration_id):
    message = enc("oprf-subset", registration_id)
    groups = [name for name in keys if name.startswith("oprf/")]
    return [(bytes(int(d) for d in name[5:]), prf.prf(keys[name], message)) for name in groups]


async def test_the_soak_of_mixed_requests_has_no_wrong_answer(ground, keys):
    made = ground.started()

    async def client(rounds):
        for _ in range(rounds):
            registration_id, record_id = secrets.token_bytes(32), secrets.token_bytes(32)
            mine = contents()
            got, sealed = await asyncio.gather(
                made.subset_prfs(registration_id), made.seal(record_id, registration_id, mine)
            )
            assert got == expected_prfs(keys, registration_id)
            assert await made.unseal(record_id, registration_id, sealed) == mine
            with pytest.raises(errors.SealBroken):
                await made.unseal(registration_id, record_id, sealed)

    await asyncio.gather(*(client(25) for _ in range(64)))
    stats = made.stats
    assert stats.operations["subset_prfs"].done == 1600
    assert stats.operations["unseal"].done == stats.operations["unseal"].failed == 1600
    assert stats.waiting == stats.busy == stats.lost == 0
    assert made.healthy


def test_several_loops_and_tokens_in_one_process_do_not_disturb_each_other(ground, keys):
    hsms = [ground.started(2), ground.started(2)]
    failures = []

    async def work(made):
        for _ in range(100):
            registration_id = secrets.token_bytes(32)
            if await made.subset_prfs(registration_id) != expected_prfs(keys, registration_id):
                failures.append("wrong answer")

    async def many(made):
        await asyncio.gather(*(work(made) for _ in range(4)))

    threads = [
        threading.Thread(target=asyncio.run, args=(many(hsms[number % 2]),)) for number in range(6)
    ]
    for thread in threads:
        thread.start()
    ground.ready()  # another provisioning meanwhile: the library starts anew under their sessions
    for thread in threads:
        thread.join()
    assert failures == []
    assert all(made.stats.operations["subset_prfs"].failed == 0 for made in hsms)


async def test_a_full_queue_refuses_instead_of_growing(ground):
    made = ground.started()
    gate = threading.Event()
    ground.module().lane.post(gate.wait)
    asked = [
        asyncio.ensure_future(made.subset_prfs(REGISTRATION_ID)) for _ in range(device.MAX_WAITING)
    ]
    await queued(made, device.MAX_WAITING)
    with pytest.raises(errors.HsmBusy):
        await made.subset_prfs(REGISTRATION_ID)
    assert made.stats.busy == 1
    gate.set()
    answers = await asyncio.gather(*asked)
    assert all(answer == answers[0] for answer in answers)
    await made.subset_prfs(REGISTRATION_ID)


async def test_a_cancelled_request_costs_nothing_and_hurts_nobody(ground):
    made = ground.started()
    gate = threading.Event()
    ground.module().lane.post(gate.wait)
    cancelled = asyncio.ensure_future(made.subset_prfs(REGISTRATION_ID))
    waiting = asyncio.ensure_future(made.subset_prfs(REGISTRATION_ID))
    await queued(made, 2)
    cancelled.cancel()
    gate.set()
    assert len(await waiting) == 6
    assert made.stats.operations["subset_prfs"].done == 1
    with pytest.raises(asyncio.CancelledError):
        await cancelled


def test_a_loop_that_is_gone_does_not_stop_the_lane(ground):
    made = ground.started()
    gate = threading.Event()
    leaving = []

    async def ask_and_leave():
        ground.module().lane.post(gate.wait)
        leaving.append(asyncio.ensure_future(made.subset_prfs(REGISTRATION_ID)))
        await queued(made, 1)

    asyncio.run(ask_and_leave())
    gate.set()
    assert len(asyncio.run(made.subset_prfs(REGISTRATION_ID))) == 6


async def test_an_unknown_epoch_is_named(ground):
    made = ground.started()
    sealed = bytearray(await made.seal(RECORD_ID, REGISTRATION_ID, contents()))
    sealed[4] = 9
    with pytest.raises(errors.SealBroken, match="epoch 9"):
        await made.unseal(RECORD_ID, REGISTRATION_ID, bytes(sealed))
    assert made.healthy


async def test_nothing_is_answered_before_start_and_after_close(ground):
    made = ground.hsm(ground.ready())
    with pytest.raises(errors.HsmClosed):
        await made.subset_prfs(REGISTRATION_ID)
    with pytest.raises(errors.HsmClosed):
        made.state_key  # noqa: B018 - the property itself refuses
    made.start()
    made.start()
    made.close()
    made.close()
    for call in (made.start, made.read_stamp):
        with pytest.raises(errors.HsmClosed):
            call()
    with pytest.raises(errors.HsmClosed):
        await made.subset_prfs(REGISTRATION_ID)


async def test_stamps_are_written_in_the_order_asked(ground):
    made = ground.started()
    await asyncio.gather(*(made.write_stamp(b"%d" % number) for number in range(20)))
    assert made.read_stamp() == b"19"
    made.write_stamp_now(b"at once")
    assert made.read_stamp() == b"at once"
    with pytest.raises(ValueError, match="at most 4096"):
        await made.write_stamp(bytes(4097))
    assert made.read_stamp() == b"at once"


async def test_requests_are_quick_while_the_event_loop_is_busy(ground):
    """Handing the interpreter lock over per HMAC would need 5 ms each: three seconds here.

    Of a processor: the other thread works all the while, and other processes do not count.
    """
    made = ground.started()
    stop = threading.Event()

    def spin():
        while not stop.is_set():
            sum(range(100))

    spinner = threading.Thread(target=spin)
    began = time.process_time()
    spinner.start()
    try:
        await asyncio.gather(*(made.subset_prfs(REGISTRATION_ID) for _ in range(100)))
        took = time.process_time() - began
    finally:
        stop.set()
        spinner.join()
    assert took < 1
