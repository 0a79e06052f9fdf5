"""The alarm about a stream that has two histories: an event, published by the node that found the proof.

Those who are sent the proof log an error and show it in their status, but publish nothing: one alarm for one finding,
however many nodes hear of it. It is raised anew after a crash, until its event is durable: at least once.
"""

import logging
from typing import Any

from lamport.errors import LogClosed, LogError
from lamport.event import DEFAULT_APP_ID, Draft
from lamport.log import EventLog
from lamport.proving import Fork

ALARM_TAG = "shoal:fork"
"""Tag of the alarm's event."""

_log = logging.getLogger("shoal.node")


async def raise_alarms(log: EventLog) -> None:
    """Publish an alarm for every fork that this node finds, until the log is closed; a task of the node."""
    forks = log.forks
    while True:
        forks.alarmed.clear()
        try:
            for fork in await forks.prover.unraised():
                await log.publish([Draft((ALARM_TAG,), fork_to_json(fork), DEFAULT_APP_ID)])
                await forks.prover.raised(fork)
        except LogClosed:
            return
        except LogError as error:
            _log.error("the alarm about a fork was not published: %s", error)
        await forks.alarmed.wait()


def fork_to_json(fork: Fork) -> dict[str, Any]:
    """A fork: whose, which stream, where both histories part, and the branches."""
    return {
        "author": str(fork.stream.node),
        "stream": str(fork.stream),
        "commonOffset": fork.offset,
        "branches": [
            {
                "branch": one.branch.branch.hex(),
                "address": one.branch.address,
                "firstKey": str(one.first),
                "firstOffset": fork.offset + 1,
                "lastOffset": one.last,
                "events": max(0, one.last - fork.offset),
            }
            for one in fork.branches
        ],
    }
