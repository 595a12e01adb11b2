"""A client that does everything a phone may do to its record, also to the bitter end.

Beyond `Client`: it asks all nodes for the same attempt at once, spends its last guess, proves a
guess made before that within the grace, waits for the lock, deletes, and registers anew. Each
of these ends in something that the vault must say; what it says instead is a broken rule.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from chaos.client import PATIENCE_S, Client, Guess, OutOfPatienceError, RefusedError, Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chaos.history import Op

TWINS_FROM: Final = 10_000
"""Client numbers of a phone's twins: one operation at a time each (chaos.history)."""
LOCK_PATIENCE_S: Final = 120.0
"""How long after the last guess a lock may take beyond the grace: every new leader counts anew."""
LOCK_POLL_S: Final = 0.5
SHUN_S: Final = 10.0
"""How long a node that let a request hang is asked less."""
SHUN_CHANCE: Final = 0.9
TOKEN_AGE_S: Final = 11 * 3600
"""Tokens are issued so far in the past and end so far in the future: a node whose wall clock is
off by less takes them. (At most 24 h by design section 7.)"""
SHUT: Final = frozenset({"exhausted", "locked"})
TOO_LATE: Final = SHUT | {"superseded", "not-registered", "stale"}


@dataclass
class Phone(Client):
    """One account, its client, and a twin of it for each node."""

    shut_era: int | None = field(init=False, default=None)
    """The era in which the last guess was refused, until a new registration."""
    done: int = field(init=False, default=0)
    """Whole operations."""
    _shunned: dict[int, float] = field(init=False, default_factory=dict)

    def any_node(self) -> int:
        """Where the next request goes: seldom where one hung just now."""
        node = super().any_node()
        if self._shunned.get(node, 0.0) > time.monotonic() and self.random.random() < SHUN_CHANCE:
            return super().any_node()
        return node

    async def send(
        self, node: int, op: Op, method: str, path: str,
        body: Mapping[str, Any] | None = None, **facts: Any,
    ) -> Reply:  # fmt: skip
        """Send once; a node that lets it hang is remembered."""
        reply = await super().send(node, op, method, path, body, **facts)
        if reply.status == 0:
            self._shunned[node] = time.monotonic() + SHUN_S
        return reply

    async def _may_go_on(self, op: Op, reply: Reply, deadline: float) -> None:
        if reply.status == 401 and time.monotonic() < deadline:
            return  # the token is good: that node's clock is not
        await super()._may_go_on(op, reply, deadline)

    # ---------------------------------------------------------------- one of many things

    async def one(self) -> None:
        """Do one whole operation, drawn from this client's randomness."""
        draw = self.random.random()
        if draw < 0.08:
            await self.register(b"right %d" % self.random.getrandbits(32))
        elif draw < 0.32 and self.may_guess:
            await self.guess_wrong()
        elif draw < 0.44:
            await self.observe()
        elif draw < 0.54 and self.may_guess:
            await self.everywhere()
        elif draw < 0.58:
            await self.to_the_end()
        elif draw < 0.62:
            await self.delete()
        else:
            await self.login()
        self.done += 1

    async def guess_wrong(self) -> None:
        """Spend one guess; unlike the base class, a clock that is off refuses nothing."""
        guess = self.guess(b"wrong %d" % self.random.getrandbits(64))
        reply = await self.attempt(self.any_node(), guess)
        if reply.ok and guess.opens(reply.body) is not None:
            self.expect.refused("a wrong password opened the record")

    # ---------------------------------------------------------------- the same one everywhere

    async def everywhere(self) -> None:
        """Send one attempt to every node at once: it is charged once (I5)."""
        guess = self.guess(self.expect.password)
        nodes = list(self.vault.urls)
        replies = await asyncio.gather(
            *(
                self._twin(place).attempt(node, guess, alone=False)
                for place, node in enumerate(nodes)
            )
        )
        told = [reply.charged for reply in replies if not reply.ok]
        answers = [reply for reply in replies if reply.ok]
        fresh = [reply for reply in answers if not reply.body["replayed"]]
        if len(fresh) + told.count("yes") > 1:
            self.expect.broken.append(
                f"account {self.account}: I5: attempt {guess.attempt_id[:12]} was charged "
                f"{len(fresh) + told.count('yes')} times by sends at once"
            )
        charged = next((word for word in ("yes", "unknown") if word in told), "no")
        self.expect.attempted(guess.attempt_id, "yes" if answers else charged)
        for reply in answers:
            self.expect.shown(
                reply.body["guesses_remaining"], reply.body["era"], f"node {reply.node}"
            )
        if answers:
            export_key = guess.opens(answers[0].body)
            if export_key is None:
                self.expect.refused(f"the right password does not open {guess.attempt_id[:12]}")
            elif self.random.random() < 0.5:
                await self.prove(guess, answers[0].body, export_key)

    def _twin(self, place: int) -> Client:
        number = TWINS_FROM + 10 * self.number + place
        twin = Client(self.vault, number, self.history, self.random, self.account)
        twin.record_id = self.record_id
        return twin

    # ---------------------------------------------------------------- to the last guess

    async def to_the_end(self) -> None:
        """Guess until it is refused; perhaps prove an earlier guess in time; else be locked out."""
        kept: tuple[Guess, Mapping[str, Any]] | None = None
        if self.random.random() < 0.5:
            guess = self.guess(self.expect.password)
            kept = (guess, await self.answered(guess))
        while await self._refused() is None:
            pass
        self.shut_era = self.expect.book.era
        if kept is not None and await self._proved_in_time(*kept):
            self.shut_era = None
            return
        await self._until_locked()
        code = await self._refused()
        if code != "locked":
            self.expect.refused(f"after the lock a new attempt was told {code or 'an answer'}")
        await self.register(b"right %d" % self.random.getrandbits(32))

    async def _refused(self) -> str | None:
        """A new wrong guess, sent until it is answered (None) or refused for good (the code)."""
        guess = self.guess(b"wrong %d" % self.random.getrandbits(64))
        deadline = time.monotonic() + PATIENCE_S
        while True:
            reply = await self.attempt(self.any_node(), guess)
            if reply.ok:
                return None
            if reply.code in SHUT:
                return reply.code
            await self._may_go_on("attempt", reply, deadline)

    async def _proved_in_time(self, guess: Guess, answer: Mapping[str, Any]) -> bool:
        """Prove a guess of the full list: while the grace lasts, the owner gets the key."""
        export_key = guess.opens(answer)
        if export_key is None:
            raise RefusedError("the right password does not open the vault's answer")
        path, proof, facts = self.proof(guess, answer, export_key)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            reply = await self.send(self.any_node(), "prove", "POST", path, proof, **facts)
            if reply.ok:
                self.take(answer, export_key, reply)
                return True
            if reply.code in TOO_LATE:
                return False
            await self._may_go_on("prove", reply, deadline)

    async def _until_locked(self) -> None:
        deadline = time.monotonic() + LOCK_PATIENCE_S
        while (await self.observe())["state"] != "locked":
            if time.monotonic() > deadline:
                raise OutOfPatienceError(
                    f"{self.account} is not locked {LOCK_PATIENCE_S:g} s after its last guess"
                )
            await asyncio.sleep(LOCK_POLL_S)

    # ---------------------------------------------------------------- looking and ending

    async def observe(self, node: int | None = None) -> Mapping[str, Any]:
        """Look at the record; of a full one, that it is exhausted, then locked, never open."""
        if self.shut_era is None and self.expect.now is not None:
            return await super().observe(node)
        reply = await self.look(node)
        body = reply.body
        if self.shut_era is not None:
            allowed = {("exhausted", self.shut_era), ("locked", self.shut_era + 1)}
            if (body["state"], body["era"]) not in allowed:
                self.expect.refused(
                    f"node {reply.node}: {body['state']} in era {body['era']}, "
                    f"exhausted in era {self.shut_era}"
                )
        elif body["state"] != "none":
            self.expect.refused(f"node {reply.node}: {body['state']} after it was deleted")
        return body

    async def delete(self) -> None:
        """Delete the record, be told that nothing is there, and begin anew."""
        era = (await self.observe())["era"]
        await self.until_ok("delete", "DELETE", f"/v1/record?era={era}", era=era)
        self.expect.ended()
        await self.observe()
        await self.register(b"right %d" % self.random.getrandbits(32))

    async def register(self, password: bytes, *, key_bytes: int = 32) -> None:
        """Make a new key; whatever was exhausted or locked is past then."""
        await super().register(password, key_bytes=key_bytes)
        self.shut_era = None
