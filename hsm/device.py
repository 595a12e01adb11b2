"""The vault's view of its HSM: PRFs, sealing and stamps, healthy or away (design section 4).

Requests of the event loop queue up; the lane takes what is there per wake-up and posts the results
back with one call per loop. On any doubt about session or device the HSM is away: waiting requests
fail with HsmAway, nothing is computed (I9), and the lane reopens it, verifying everything anew,
until the token is back. A refused PIN ends that for good: tokens lock themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import threading
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from hsm import sealing, stamps
from hsm.errors import (
    HsmAway,
    HsmBusy,
    HsmClosed,
    HsmError,
    NodeKeyChanged,
    PinLocked,
    PinWrong,
)
from hsm.module import get_module
from hsm.probe import Keys, Seat, check_device, check_health, open_keys
from hsm.requests import (
    HsmStats,
    Job,
    OperationStats,
    Result,
    Seal,
    SubsetPrfs,
    Unseal,
    WriteStamp,
    run,
)
from hsm.token import OpenToken, open_token

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from hsm.module import Module
    from hsm.sealing import SealedContents
    from hsm.settings import HsmSettings

_T = TypeVar("_T")

MAX_WAITING: Final = 4096
"""At 3,000 requests a second and more this is about a second of work: later answers are useless."""
BATCH: Final = 32
"""Requests per wake-up, so that timers and other tokens get their turn within milliseconds."""
HEALTH_EVERY_S: Final = 1.0
"""A share-giver's heartbeat is believed for 2 s (design section 5): notice a lost token sooner."""
STUCK_S: Final = 3.0
"""A PKCS#11 call that has not returned for so long: the HSM counts as away until it does. The
whole evaluation has 8 s (design section 5), and the lane cannot look after itself meanwhile."""
REOPEN_FIRST_S: Final = 0.05
REOPEN_MOST_S: Final = 2.0


class _Waiting(NamedTuple):
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Result]
    job: Job
    since: float


class _Answer(NamedTuple):
    future: asyncio.Future[Result]
    result: Result
    error: Exception | None


class Hsm:
    """One token of one seat. Safe from any thread and any event loop.

    Args:
        settings: module, token label, PIN.
        seat: 1…seats.
        cluster_id: whose keys these are; the check values prove it.
        check_values: by key name, 8 bytes each, as cluster.json has them.
        threshold: seats needed for an evaluation.
        seats: data centers.

    Raises:
        ValueError: a check value of the seat is absent, or the scheme is impossible.

    """

    def __init__(
        self,
        settings: HsmSettings,
        *,
        seat: int,
        cluster_id: UUID,
        check_values: Mapping[str, bytes],
        threshold: int = 3,
        seats: int = 5,
    ) -> None:
        self.cluster_id = cluster_id
        self.seat = seat
        self._settings = settings
        self._seat = Seat(seat, seats, threshold, dict(check_values))
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._draining = False
        self._stats = HsmStats()
        self._listeners: list[Callable[[bool], None]] = []
        self._healthy = False
        self._reason = "not opened yet"
        self._closed = False
        self._timer = 0
        self._backoff_s = REOPEN_FIRST_S
        self._module: Module | None = None
        self._token: OpenToken | None = None
        self._keys: Keys | None = None

    # ---------------------------------------------------------------- life

    def start(self) -> None:
        """Open the token and verify everything; blocking. Call after the last fork.

        Raises:
            HsmError: the one class that names what is wrong.

        """
        if self._closed:
            raise HsmClosed
        module = get_module(self._settings.module)
        module.call(partial(self._open_first, module))

    def close(self) -> None:
        """Log out; waiting requests fail with HsmAway. Blocking, may be called twice."""
        if self._module is not None and not self._closed:
            self._module.call(self._close)
        self._closed = True

    @property
    def healthy(self) -> bool:
        """True while session, device and keys are known to be good, and calls return.

        A call that hangs is noticed by whoever asks here; `on_health` runs in the thread that it
        holds up, and tells nothing of it.
        """
        return self._healthy and self._stuck_s < STUCK_S

    @property
    def reason(self) -> str:
        """Why it is not healthy, one line; empty when it is."""
        stuck_s = self._stuck_s
        if self._reason or stuck_s < STUCK_S:
            return self._reason
        return (
            f"a PKCS#11 call has not returned for {stuck_s:.0f} s: look at the device and its log,"
            " and restart this node if it stays so"
        )

    @property
    def _stuck_s(self) -> float:
        return 0.0 if self._module is None else self._module.lane.stuck_s

    def on_health(self, callback: Callable[[bool], None]) -> None:
        """Call `callback(healthy)` at each change, in the HSM thread; it must be quick."""
        self._listeners.append(callback)

    @property
    def stats(self) -> HsmStats:
        """A copy of the counters."""
        with self._lock:
            operations = {
                name: OperationStats(one.done, one.failed, one.seconds)
                for name, one in self._stats.operations.items()
            }
            return HsmStats(
                operations,
                self._stats.busy,
                len(self._waiting),
                self._stats.lost,
                self._stats.reopened,
            )

    # ---------------------------------------------------------------- keys in memory

    @property
    def record_key(self) -> bytes:
        """K_record, 32 bytes; stays in memory while the HSM is away. Raises HsmClosed."""
        return self._known_keys().record_key

    @property
    def ake_seed(self) -> bytes:
        """PRF(identity, "ake-key")[:32], seed of the OPAQUE server key pair. Raises HsmClosed."""
        return self._known_keys().ake_seed

    @property
    def state_key(self) -> bytes:
        """K_state of this node, 32 bytes. Raises HsmClosed."""
        return self._known_keys().state_key

    def _known_keys(self) -> Keys:
        if self._keys is None:
            raise HsmClosed
        return self._keys

    # ---------------------------------------------------------------- requests

    async def subset_prfs(self, registration_id: bytes) -> list[tuple[bytes, bytes]]:
        """The seat's share of the OPRF key, set by set; engines.threshold_share takes it as it is.

        [(A as ascending seat bytes, PRF(oprf/A, "oprf-subset", registration_id))], 64 bytes each.

        Raises:
            HsmAway, HsmBusy: retryable. HsmClosed.

        """
        result = await self._ask(SubsetPrfs(registration_id))
        if not isinstance(result, list):
            raise TypeError("subset_prfs: answer of another request")
        return result

    async def seal(
        self, record_id: bytes, registration_id: bytes, contents: SealedContents
    ) -> bytes:
        """The sealed bytes, equal on every node. Raises HsmAway, HsmBusy, HsmClosed."""
        result = await self._ask(Seal(record_id, registration_id, contents))
        if not isinstance(result, bytes):
            raise TypeError("seal: answer of another request")
        return result

    async def unseal(
        self, record_id: bytes, registration_id: bytes, sealed: bytes
    ) -> SealedContents:
        """What `seal` was given.

        Raises:
            SealBroken: altered, or of another record, registration, epoch or cluster.
            HsmAway, HsmBusy: retryable. HsmClosed.

        """
        result = await self._ask(Unseal(record_id, registration_id, sealed))
        if not isinstance(result, sealing.SealedContents):
            raise TypeError("unseal: answer of another request")
        return result

    async def write_stamp(self, data: bytes) -> None:
        """Replace the stamp; on the token when this returns.

        Raises:
            ValueError: more than stamps.MAX_STAMP_BYTES.
            HsmAway, HsmBusy: retryable; the stamp is then the old or the new one. HsmClosed.

        """
        await self._ask(WriteStamp(data))

    def read_stamp(self) -> bytes:
        """The newest stamp; blocking. Raises StampMissing, HsmAway, HsmClosed."""
        return self._blocking(stamps.read)

    def write_stamp_now(self, data: bytes) -> None:
        """As write_stamp, but blocking."""
        self._blocking(partial(_write_stamp, data=data))

    async def _ask(self, job: Job) -> Result:
        module = self._opened()
        module.check_process()
        if not self.healthy:
            raise HsmAway(self.reason)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        with self._lock:
            waiting = len(self._waiting)
            if waiting >= MAX_WAITING:
                self._stats.busy += 1
                raise HsmBusy(waiting)
            self._waiting.append(_Waiting(loop, future, job, time.monotonic()))
            wake, self._draining = not self._draining, True
        if wake:
            module.lane.post(self._drain)
        return await future

    def _blocking(self, function: Callable[[OpenToken], _T]) -> _T:
        def in_lane() -> _T:
            try:
                token, _ = self._ready()
                return function(token)
            except HsmAway as error:
                self._go_away(error)
                raise

        return self._opened().call(in_lane)

    def _opened(self) -> Module:
        if self._module is None or self._closed:
            raise HsmClosed
        return self._module

    # ---------------------------------------------------------------- in the lane: requests

    def _drain(self) -> None:
        with self._lock:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        answers: dict[asyncio.AbstractEventLoop, list[_Answer]] = {}
        for item in batch:
            if not item.future.cancelled():
                answers.setdefault(item.loop, []).append(self._serve(item))
        _deliver(answers)
        with self._lock:
            self._draining = bool(self._waiting)
            again = self._draining
        if again and self._module is not None:
            self._module.lane.post(self._drain)

    def _serve(self, item: _Waiting) -> _Answer:
        if self._module is not None:
            self._module.lane.progress()
        result: Result = None
        failure: Exception | None = None
        try:
            token, keys = self._ready()
            result = run(token, keys, item.job)
        except HsmAway as error:
            self._go_away(error)
            failure = HsmAway(self._reason)
        except Exception as error:  # noqa: BLE001 - ends the request, handed to its caller
            failure = error
        with self._lock:
            count = self._stats.operations.setdefault(item.job.operation, OperationStats())
            count.seconds += time.monotonic() - item.since
            count.done += failure is None
            count.failed += failure is not None
        return _Answer(item.future, result, failure)

    def _ready(self) -> tuple[OpenToken, Keys]:
        """The open token; opened again first if another one made the module start anew."""
        if self._closed:
            raise HsmAway("closed")
        if not self._healthy:
            raise HsmAway(self._reason)
        if self._token is not None and not self._token.is_current:
            try:
                self._open(fresh=False)
            except HsmError as error:
                self._go_away(error)
                raise HsmAway(self._reason) from error
        if self._token is None or self._keys is None:
            raise HsmAway(self._reason)
        return self._token, self._keys

    # ---------------------------------------------------------------- in the lane: health

    def _open_first(self, module: Module) -> None:
        if self._healthy:
            return
        self._module = module
        self._open(fresh=False)
        self._become(healthy=True, reason="")
        self._tick_after(HEALTH_EVERY_S)

    def _open(self, *, fresh: bool) -> None:
        """Open and verify from scratch; leaves nothing open behind on failure."""
        module = self._opened()
        if self._token is not None:
            self._token.close()
            self._token = None
        if fresh:
            module.reinitialise()
        token = open_token(module, self._settings)
        try:
            check_device(token)
            keys = open_keys(token, self._seat)
            stamps.read(token)
            self._check_same_node(token, keys)
        except Exception:
            token.close()
            raise
        self._token, self._keys = token, keys

    def _check_same_node(self, token: OpenToken, keys: Keys) -> None:
        """Opened again, it must be this node's own token: its disk is MACed with that key."""
        known = self._keys
        if known is not None and not hmac.compare_digest(known.state_key, keys.state_key):
            raise NodeKeyChanged(token.label)

    def _tick(self, timer: int) -> None:
        if timer != self._timer or self._closed:
            return
        self._tick_after(REOPEN_MOST_S)  # whatever happens below, there is a next time
        if self._healthy:
            self._check()
        else:
            self._reopen()

    def _check(self) -> None:
        try:
            token, keys = self._ready()
            check_health(token, keys, self._seat)
        except HsmError as error:
            self._go_away(error)
        except Exception as error:  # a check that ends otherwise is a doubt, too (I9)
            self._go_away(HsmAway(f"health check ended with {type(error).__name__}"))
            raise
        else:
            self._tick_after(HEALTH_EVERY_S)

    def _reopen(self) -> None:
        try:
            self._open(fresh=True)
        except (PinWrong, PinLocked) as error:
            self._timer += 1  # for good: the next time planned is called off
            self._become(healthy=False, reason=str(error))
        except HsmError as error:
            self._become(healthy=False, reason=_why(error))
            self._backoff_s = min(self._backoff_s * 2, REOPEN_MOST_S)
            self._tick_after(self._backoff_s)
        else:
            self._stats.reopened += 1
            self._backoff_s = REOPEN_FIRST_S
            self._become(healthy=True, reason="")
            self._tick_after(HEALTH_EVERY_S)

    def _go_away(self, error: HsmError) -> None:
        if not self._healthy:
            return
        self._stats.lost += 1
        self._become(healthy=False, reason=_why(error))
        if isinstance(error, PinWrong | PinLocked):
            self._timer += 1
        else:
            self._tick_after(0.0)

    def _tick_after(self, seconds: float) -> None:
        self._timer += 1
        if self._module is not None:
            self._module.lane.post(partial(self._tick, self._timer), seconds)

    def _become(self, *, healthy: bool, reason: str) -> None:
        changed = healthy != self._healthy
        self._reason = reason
        self._healthy = healthy
        if changed and self._module is not None:
            for listener in self._listeners:  # posted: one that raises harms nothing here
                self._module.lane.post(partial(listener, healthy))

    def _close(self) -> None:
        self._closed = True
        self._become(healthy=False, reason="closed")
        if self._token is not None:
            self._token.close()
            self._token = None


def _why(error: HsmError) -> str:
    return error.why if isinstance(error, HsmAway) else str(error)


def _write_stamp(token: OpenToken, data: bytes) -> None:
    stamps.write(token, data)


def _deliver(answers: Mapping[asyncio.AbstractEventLoop, list[_Answer]]) -> None:
    for loop, batch in answers.items():
        with contextlib.suppress(RuntimeError):  # that loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve, batch)


def _resolve(batch: list[_Answer]) -> None:
    for answer in batch:
        if answer.future.done():
            continue
        if answer.error is not None:
            answer.future.set_exception(answer.error)
        else:
            answer.future.set_result(answer.result)
