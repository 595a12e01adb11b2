"""Asks and answers between nodes: numbering, batching, cancelling, and links that go down.

Thin: it decides nothing about shares. All messages to one peer within one pass of the event loop
travel as one frame. An ask to ourselves takes the same road without the network. Every ask is
answered exactly once: by its share, by a refusal, or by `unreachable`; unless it is cancelled.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from typing import TYPE_CHECKING, Final, assert_never

import msgspec

from node.share_messages import (
    MAX_MESSAGES,
    Answer,
    Ask,
    AttemptAsk,
    AttemptShare,
    CancelAsk,
    Declined,
    Message,
    Reason,
    RegistrationAsk,
    RegistrationShare,
    decode_frame,
    encode_frame,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.types import NodeId
    from node.metrics import Metrics
    from node.shares import Giver

MAX_TASKS_PER_PEER: Final = 4096
"""Asks of one peer under way here; more are declined as busy."""


class Exchange:
    """One node's end of the share protocol. Loop thread only.

    Args:
        node_id: ourselves.
        giver: who answers.
        send: queue a service frame to a peer; False when the link is down or its buffer full.
        metrics: counts frames that do not decode.

    """

    def __init__(
        self,
        node_id: NodeId,
        giver: Giver,
        send: Callable[[NodeId, bytes], bool],
        metrics: Metrics,
    ) -> None:
        self._node_id = node_id
        self._giver = giver
        self._send = send
        self._metrics = metrics
        # Not from 1: an ask of our life before must not be taken for one of this.
        self._numbers = itertools.count(secrets.randbits(48))
        self._asked: dict[int, tuple[NodeId, Callable[[NodeId, Answer], None]]] = {}
        self._tasks: dict[tuple[NodeId, int], asyncio.Task[None]] = {}
        self._load: dict[NodeId, int] = {}
        self._outbox: dict[NodeId, list[Message]] = {}
        self._closed = False

    def ask(
        self,
        to: NodeId,
        make: Callable[[int], Ask],
        answered: Callable[[NodeId, Answer], None],
    ) -> int:
        """Ask a node; `answered` is called once, later, on the loop. Returns the ask's number."""
        number = next(self._numbers)
        self._asked[number] = (to, answered)
        message = make(number)
        if to == self._node_id:
            self._serve(to, message)
        else:
            self._post(to, message)
        return number

    def cancel(self, number: int) -> None:
        """Nobody waits for this ask any more; no error when it is answered already."""
        asked = self._asked.pop(number, None)
        if asked is None:
            return
        to, _ = asked
        if to == self._node_id:
            self._drop(to, number)
        else:
            self._post(to, CancelAsk(number))

    def on_frame(self, sender: NodeId, payload: bytes) -> None:
        """One service frame from an authenticated peer; a malformed one is dropped and counted."""
        try:
            messages = decode_frame(payload)
        except msgspec.DecodeError:
            self._metrics.bad_service_frames.inc()
            return
        for message in messages:
            self._take(sender, message)

    def on_link_down(self, peer: NodeId) -> None:
        """What we asked of it is answered `unreachable`; what it asked is dropped."""
        for number in [n for n, (to, _) in self._asked.items() if to == peer]:
            self._unreachable(number)
        for asker, number in [key for key in self._tasks if key[0] == peer]:
            self._drop(asker, number)

    def close(self) -> None:
        """Drop everything."""
        self._closed = True
        self._asked.clear()
        for asker, number in list(self._tasks):
            self._drop(asker, number)

    def _take(self, sender: NodeId, message: Message) -> None:
        match message:
            case AttemptAsk() | RegistrationAsk():
                self._serve(sender, message)
            case CancelAsk():
                self._drop(sender, message.ask)
            case AttemptShare() | RegistrationShare() | Declined():
                self._answer(sender, message)
            case _:
                assert_never(message)

    def _answer(self, sender: NodeId, answer: Answer) -> None:
        asked = self._asked.get(answer.ask)
        if asked is None or asked[0] != sender:
            return  # cancelled meanwhile, or not the node that was asked
        del self._asked[answer.ask]
        asked[1](sender, answer)

    def _serve(self, asker: NodeId, ask: Ask) -> None:
        key = (asker, ask.ask)
        if self._closed or key in self._tasks:
            return
        if self._load.get(asker, 0) >= MAX_TASKS_PER_PEER:
            self._reply(asker, Declined(ask.ask, Reason.BUSY))
            return
        self._load[asker] = self._load.get(asker, 0) + 1
        task = asyncio.get_running_loop().create_task(self._work(asker, ask))
        self._tasks[key] = task
        task.add_done_callback(lambda _task: self._done(key))

    async def _work(self, asker: NodeId, ask: Ask) -> None:
        match ask:
            case AttemptAsk():
                answer = await self._giver.attempt(ask)
            case RegistrationAsk():
                answer = await self._giver.registration(ask)
            case _:
                assert_never(ask)
        if (asker, ask.ask) in self._tasks:
            self._reply(asker, answer)

    def _done(self, key: tuple[NodeId, int]) -> None:
        self._load[key[0]] -= 1
        task = self._tasks.pop(key, None)
        if task is None or task.cancelled():
            return
        error = task.exception()
        if error is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "giving a share failed", "exception": error, "task": task}
            )
            self._reply(key[0], Declined(key[1], Reason.REFUSED))

    def _drop(self, asker: NodeId, number: int) -> None:
        task = self._tasks.get((asker, number))
        if task is not None:
            task.cancel()

    def _reply(self, asker: NodeId, answer: Answer) -> None:
        if asker == self._node_id:  # later, too: `ask` has not returned its number yet
            asyncio.get_running_loop().call_soon(self._answer, asker, answer)
        else:
            self._post(asker, answer)

    def _post(self, to: NodeId, message: Message) -> None:
        waiting = self._outbox.setdefault(to, [])
        if not waiting:
            asyncio.get_running_loop().call_soon(self._flush, to)
        waiting.append(message)

    def _flush(self, to: NodeId) -> None:
        messages = self._outbox.pop(to, [])
        for start in range(0, len(messages), MAX_MESSAGES):
            part = messages[start : start + MAX_MESSAGES]
            if self._send(to, encode_frame(part)):
                continue
            for message in part:
                if isinstance(message, AttemptAsk | RegistrationAsk):
                    self._unreachable(message.ask)

    def _unreachable(self, number: int) -> None:
        asked = self._asked.pop(number, None)
        if asked is not None:
            to, answered = asked
            answered(to, Declined(number, Reason.UNREACHABLE))
