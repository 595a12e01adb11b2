"""What a node's status says of disk, loop and certificates, from the numbers that it was given."""

from __future__ import annotations

import datetime as dt
from uuid import UUID

import pytest
from cryptography import x509

from cluster.certificates import create_authority, issue, node_uri
from node.certificates_left import held, lines
from node.timings import BATCHES, LAG_S, Timings

VAULT = UUID(int=7)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_before_the_first_batch_there_is_no_figure():
    assert Timings().fsync_p99_ms() is None
    assert Timings().loop_lag_ms() == 0.0


@pytest.mark.parametrize(
    ("batches", "p99_ms"),
    [
        ([0.002], 2.0),
        ([0.001] * 99 + [0.5], 1.0),
        ([0.5] + [0.001] * 98 + [0.7], 500.0),
        ([0.001] * 980 + [0.03] * 20, 30.0),
    ],
)
def test_99_of_100_batches_took_no_longer(batches, p99_ms):
    timings = Timings()
    for seconds in batches:
        timings.batch(seconds)
    assert timings.fsync_p99_ms() == p99_ms


def test_only_the_last_thousand_batches_count():
    timings = Timings()
    for _ in range(BATCHES):
        timings.batch(9.0)
    for _ in range(BATCHES):
        timings.batch(0.004)
    assert timings.fsync_p99_ms() == 4.0


def test_the_worst_stall_is_told_for_ten_seconds_and_no_longer():
    clock = Clock()
    timings = Timings(clock)
    timings.tick_late(0.25)
    for _ in range(int(LAG_S / 0.05)):
        timings.tick_late(0.001)
        assert timings.loop_lag_ms() == 250.0
        clock.now += 0.05
    clock.now = 110.1
    timings.tick_late(0.002)
    assert timings.loop_lag_ms() == 2.0
    clock.now += LAG_S + 1
    assert timings.loop_lag_ms() == 0.0


@pytest.fixture
def certificates():
    authority = create_authority("table")
    issued = issue(
        authority, uri=node_uri(VAULT, 3), hosts=["127.0.0.1"], days=30, server=True, client=True
    )
    own, root = map(x509.load_pem_x509_certificate, (issued.cert_pem, authority.cert_pem))
    return held(own, [root])


def test_a_certificate_says_whose_it_is_and_how_long_it_is_good(certificates):
    own, authority = certificates
    node_line, authority_line = lines(certificates, dt.datetime.now(dt.UTC))
    assert (node_line.name, authority_line.name) == ("node", "authority")
    assert node_line.days_left in (29, 30)
    assert authority_line.days_left > 3640
    assert node_line.subject
    assert dt.datetime.fromisoformat(node_line.not_after) == own.not_after
    assert node_line.not_after.endswith("Z")
    hour = dt.timedelta(hours=1)
    for at, left in ((own.not_after - hour, 0), (own.not_after + hour, -1)):
        assert lines([own], at)[0].days_left == left
    assert lines([authority], authority.not_after)[0].days_left == 0
