"""A token taken away is noticed, refused honestly, and taken up again by itself when it is back."""

from __future__ import annotations

import asyncio
import ctypes
import threading

import pytest
from pkcs11.constants import TokenFlag

import hsm
from hsm import device, errors, stamps

REGISTRATION_ID = b"r" * 32
C_CLOSE_ALL_SESSIONS = 14


def take_away(ground):
    ground.tokens.rename(ground.root / "away")


def bring_back(ground):
    if ground.tokens.exists():
        ground.tokens.rename(ground.root / "impostor")
    (ground.root / "away").rename(ground.tokens)


async def test_a_token_away_is_noticed_and_comes_back_without_a_restart(ground):
    made = ground.started()
    seen = []
    made.on_health(seen.append)
    before = await made.subset_prfs(REGISTRATION_ID)
    record_key = made.record_key
    for round_number in (1, 2):
        take_away(ground)
        ground.wait(lambda: not made.healthy)
        with pytest.raises(errors.HsmAway, match="reopened by itself"):
            await made.subset_prfs(REGISTRATION_ID)
        with pytest.raises(errors.HsmAway):
            made.read_stamp()
        ground.wait(lambda: "does not come up" in made.reason)
        assert made.record_key == record_key
        bring_back(ground)
        ground.wait(lambda: made.healthy, 5)
        assert made.reason == ""
        assert await made.subset_prfs(REGISTRATION_ID) == before
        assert made.read_stamp() == b"node 2, incarnation 0"
        assert made.stats.lost == made.stats.reopened == round_number
    ground.wait(lambda: seen == [False, True, False, True])


async def test_a_token_gone_is_noticed_under_steady_load(ground):
    """The session's copies go on answering without the token; only the health check notices."""
    made = ground.started()

    async def load():
        while made.healthy:
            await made.subset_prfs(REGISTRATION_ID)

    async def remove():
        await asyncio.to_thread(take_away, ground)

    async with asyncio.timeout(60):
        ended = await asyncio.gather(remove(), *(load() for _ in range(64)), return_exceptions=True)
    assert all(end is None or isinstance(end, errors.HsmAway) for end in ended)
    bring_back(ground)
    ground.wait(lambda: made.healthy)


def test_a_listener_that_raises_harms_nothing(ground, monkeypatch):
    reported = []
    monkeypatch.setattr(threading, "excepthook", reported.append)
    made = ground.started()

    def broken(_healthy):
        raise ZeroDivisionError

    made.on_health(broken)
    for _ in range(2):
        take_away(ground)
        ground.wait(lambda: not made.healthy)
        bring_back(ground)
        ground.wait(lambda: made.healthy)
    ground.wait(lambda: len(reported) == 4)
    assert all(report.exc_type is ZeroDivisionError for report in reported)


def test_a_health_check_that_breaks_counts_as_away(ground, monkeypatch):
    reported = []
    monkeypatch.setattr(threading, "excepthook", reported.append)
    made = ground.started()

    def broken(*_arguments):
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(device, "check_health", broken)
        patched.setattr(device, "open_keys", broken)
        ground.wait(lambda: not made.healthy)
        assert "ZeroDivisionError" in made.reason
        ground.wait(lambda: len(reported) >= 2)
    ground.wait(lambda: made.healthy)


async def test_a_call_that_hangs_counts_as_away_until_it_returns(ground, monkeypatch):
    """A device that answers nothing at all: no guess may be spent on it meanwhile (I9)."""
    monkeypatch.setattr(device, "STUCK_S", 1.0)
    made = ground.started()
    hangs = threading.Event()
    made._module.lane.post(hangs.wait)
    waiting = asyncio.ensure_future(made.subset_prfs(REGISTRATION_ID))
    try:
        await asyncio.to_thread(ground.wait, lambda: not made.healthy)
        assert "has not returned" in made.reason
        with pytest.raises(errors.HsmAway, match="has not returned"):
            await made.subset_prfs(REGISTRATION_ID)
    finally:
        hangs.set()
    assert len(await waiting) == len(await made.subset_prfs(REGISTRATION_ID))
    assert made.healthy
    assert made.reason == ""
    assert made.stats.lost == 0


async def test_a_long_queue_of_slow_calls_is_no_call_that_hangs(ground, monkeypatch):
    monkeypatch.setattr(device, "STUCK_S", 1.0)
    made = ground.started()
    run = device.run

    def slow(*arguments):
        threading.Event().wait(0.1)
        return run(*arguments)

    monkeypatch.setattr(device, "run", slow)
    asked = [asyncio.ensure_future(made.subset_prfs(REGISTRATION_ID)) for _ in range(20)]
    while not all(each.done() for each in asked):
        assert made.healthy
        await asyncio.sleep(0.01)
    assert len({str(await each) for each in asked}) == 1


async def test_one_token_of_several_may_go_and_come_back(ground):
    stays, goes = ground.ready(), ground.ready()
    moved = ground.root / "moved"
    ground.on_token(stays, lambda _: None)
    staying, going = ground.hsm(stays), ground.hsm(goes)
    staying.start()
    going.start()
    label = goes.token_label.encode()
    token = next(d for d in ground.tokens.iterdir() if label in (d / "token.object").read_bytes())
    token.rename(moved)
    ground.wait(lambda: "no token labelled" in going.reason)
    assert len(await staying.subset_prfs(REGISTRATION_ID)) == 6
    moved.rename(token)
    ground.wait(lambda: going.healthy)
    assert len(await going.subset_prfs(REGISTRATION_ID)) == 6
    assert len(await staying.subset_prfs(REGISTRATION_ID)) == 6
    assert staying.stats.lost == 0


async def test_a_lost_session_is_opened_again(ground):
    made = ground.started()
    before = await made.subset_prfs(REGISTRATION_ID)

    def lose_all_sessions():
        module = ground.module()
        close_all = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_ulong)(
            module._address(C_CLOSE_ALL_SESSIONS)
        )
        assert close_all(made._token._token.slot.slot_id) == 0

    ground.module().call(lose_all_sessions)
    with pytest.raises(errors.HsmAway):
        await made.subset_prfs(REGISTRATION_ID)
    ground.wait(lambda: made.healthy)
    assert await made.subset_prfs(REGISTRATION_ID) == before
    assert made.stats.reopened == 1


async def test_waiting_requests_fail_when_the_token_goes(ground):
    made = ground.started()
    made._timer += 1  # no health check: a request itself must notice
    take_away(ground)
    with pytest.raises(errors.HsmAway):
        await made.write_stamp(b"lost")
    assert not made.healthy
    bring_back(ground)
    ground.wait(lambda: made.healthy)
    assert made.read_stamp() in {b"node 2, incarnation 0", b"lost"}


def test_keys_destroyed_behind_its_back_are_noticed(ground):
    settings = ground.ready()
    made = ground.hsm(settings)
    made.start()
    ground.on_token(settings, lambda token: token.destroy(token.find_key("oprf/245")))
    ground.wait(lambda: not made.healthy)
    ground.wait(lambda: "key oprf/245 is not on token" in made.reason)


def test_an_exchanged_token_of_the_same_label_is_not_accepted(ground):
    settings = ground.ready()
    made = ground.hsm(settings)
    made.start()
    take_away(ground)
    ground.configure()
    hsm.init_token(
        settings.module,
        token_label=settings.token_label,
        so_pin=hsm.Pin("12345678"),
        pin=settings.pin,
    )
    ground.provision(settings, ceremony=hsm.draw(made.cluster_id))
    ground.wait(lambda: "key oprf/123 " in made.reason)
    assert not made.healthy
    bring_back(ground)
    ground.wait(lambda: made.healthy)


def test_the_same_seat_with_another_node_key_is_not_accepted(ground):
    settings = ground.ready()
    made = ground.hsm(settings)
    made.start()
    hsm.destroy(settings)
    ground.provision(settings)
    ground.wait(lambda: "key node " in made.reason)
    assert not made.healthy


def test_a_pin_that_became_wrong_is_tried_once_and_then_never(ground):
    settings = ground.ready()
    made = ground.hsm(settings)
    made.start()
    take_away(ground)
    ground.wait(lambda: not made.healthy)
    ground.configure()
    hsm.init_token(
        settings.module,
        token_label=settings.token_label,
        so_pin=hsm.Pin("12345678"),
        pin=hsm.Pin("another-pin"),
    )
    ground.wait(lambda: "refused the PIN" in made.reason)
    other = hsm.HsmSettings(settings.module, settings.token_label, hsm.Pin("another-pin"))
    ground.on_token(other, lambda _: None)  # a right login: the token forgets the failure
    timer = made._timer
    module = ground.module()

    def flags():
        module.reinitialise()
        return module.tokens(settings.token_label)[0].flags

    assert not module.call(flags) & TokenFlag.USER_PIN_COUNT_LOW
    assert made._timer == timer  # nothing is scheduled any more
    assert not made.healthy


def test_a_stamp_gone_is_noticed(ground):
    settings = ground.ready()
    made = ground.hsm(settings)
    made.start()
    ground.on_token(settings, stamps.destroy)
    ground.wait(lambda: not made.healthy)
    ground.wait(lambda: "no enrolment stamp" in made.reason)
