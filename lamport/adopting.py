"""Taking proofs of forks into a log: at once, when what both branches have in common arrives, or never twice.

A range that contradicts the log comes here from the log itself, a proof from a peer. Either is fitted to what is held
(`lamport.proving`), and what it changes is put in line as one more request for the next commit. Where the stream has
gone on before that commit is built, it is fitted in anew. Proofs whose common event is not held yet wait, a few of
them, in memory: who told of the branches tells again in the next session.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from lamport.chain import Keys, SealedRange
from lamport.commit import CommitBuilder
from lamport.errors import CorruptRange, DivergedStream, OutdatedPlan
from lamport.event import Event
from lamport.forks import Adoption, CheckedProof, ForkProof, check_proof, decode_proof
from lamport.ids import StreamId
from lamport.proving import Prover
from lamport.seams import Work

MAX_PENDING_PROOFS = 16
"""Proofs kept in memory whose common event is not held yet; each has a megabyte at most."""

MAX_PLANS = 64
"""How often a proof is fitted in anew because its stream has gone on meanwhile."""

Submit = Callable[
    [Callable[[CommitBuilder], tuple[Event, ...]], int, int], Awaitable[tuple[Event, ...]]
]
"""Puts a request (what it does to a commit, its events, their bytes) in line and waits until it is durable."""

_log = logging.getLogger("shoal.log")


class Adoptions:
    """The proven forks of one log. `leave` is called before a stream forks, should it be the one that is written."""

    def __init__(
        self,
        prover: Prover,
        keys: Keys,
        work: Work,
        submit: Submit,
        leave: Callable[[StreamId], None],
    ) -> None:
        self.prover = prover
        self.alarmed = asyncio.Event()
        """Set whenever this node itself has found a fork."""
        self._keys = keys
        self._work = work
        self._submit = submit
        self._leave = leave
        self._pending: dict[tuple[StreamId, ...], ForkProof] = {}

    async def contradicted(self, received: SealedRange) -> tuple[Event, ...] | None:
        """Take in a range that contradicts the log, as a branch; None where it proves nothing."""
        proof = await self.prover.contradiction(received)
        if proof is None:
            return None
        return await self._adopt(check_proof(proof, self._keys), found=True)

    async def learn(self, proof: ForkProof) -> tuple[Event, ...]:
        """Take in a peer's proof that a stream has two histories; returns the events that came with it.

        Nothing is added by one that is known. One whose last common event is not held is kept until it is.

        Raises:
            CorruptRange: it does not hold.
            QuarantinedRange, StoreFull, LogClosed: as in `EventLog.receive`.
        """
        checked = await self._work.run(check_proof, proof, self._keys)
        return await self._adopt(checked, found=False)

    async def proof_of(self, branch: StreamId) -> ForkProof | None:
        """The proof by which a branch became known here; None where none is kept, or the disk altered it.

        Whoever sends what does not hold is taken for a forger.
        """
        data = await self.prover.load_proof(branch)
        try:
            proof = None if data is None else decode_proof(data)
            if proof is not None:
                await self._work.run(check_proof, proof, self._keys)
        except CorruptRange as error:
            _log.error("the proof of branch %s was altered on this disk: %s", branch, error)
            return None
        return proof

    async def extended(self, stream: StreamId) -> None:
        """More of a stream is held: it may be what the branches of a waiting proof have in common."""
        for proof in [one for one in self._pending.values() if one.stream == stream.base]:
            await self._adopt(check_proof(proof, self._keys), found=False)

    async def _adopt(self, checked: CheckedProof, *, found: bool) -> tuple[Event, ...]:
        proof = checked.proof
        for _ in range(MAX_PLANS):
            plan = await self.prover.plan(checked, found=found)
            if plan is None:
                self._postpone(proof)
                return ()
            self._pending.pop(proof.branches, None)
            if not plan.grown:
                return ()
            self._leave(proof.stream)
            with suppress(OutdatedPlan):
                return await self._commit(plan)
        raise DivergedStream(f"stream {proof.stream} grows too fast for its fork to be told apart")

    def _postpone(self, proof: ForkProof) -> None:
        if len(self._pending) < MAX_PENDING_PROOFS:
            self._pending[proof.branches] = proof

    async def _commit(self, plan: Adoption) -> tuple[Event, ...]:
        sizes = [len(data) for grown in plan.grown for data in grown.data]
        return await self._submit(lambda builder: builder.fork(plan), len(sizes), sum(sizes))

    def adopted(self, plan: Adoption) -> None:
        """An adoption has become durable, whether or not somebody still waits for that."""
        _log.error(
            "stream %s has two histories behind offset %d, and both bear its author's seals:"
            " there is a copy of that device, or it is dishonest; see `shoal forks`",
            plan.origin.stream,
            plan.origin.offset,
        )
        for proof in plan.proofs:
            self.prover.keep(proof)
        if plan.found:
            self.alarmed.set()
