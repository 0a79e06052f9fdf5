"""Telling linked peers where nodes may be dialled, now and then, and only what they were not told before."""

import asyncio
from collections.abc import Callable, Mapping
from typing import NoReturn

from lamport.ids import NodeId
from transport.exchange import TOLD_AGAIN_S, tellable
from transport.link import Link
from transport.messages import Addresses
from transport.network import Address, Candidate
from transport.phases import Phase

EXCHANGING_S = 1.0
"""How often it is looked whether there is anything to tell."""


async def keep_telling(
    mine: Candidate,
    links: Mapping[NodeId, Link],
    reached: Callable[[], Mapping[NodeId, Address]],
) -> NoReturn:
    """Tell each link, once it is live, of this node (`mine`) and of those that were `reached` from here."""
    while True:
        known = [mine, *(Candidate(node, (at,)) for node, at in sorted(reached().items()))]
        for link in links.values():
            _tell(link, known)
        await asyncio.sleep(EXCHANGING_S)


def _tell(link: Link, known: list[Candidate]) -> None:
    now = asyncio.get_running_loop().time()
    said, said_at = link.told_addresses
    others = [one for one in known if one.node != link.channel.peer]
    news = tellable(others, link.channel.remote)
    if link.session.phase is Phase.LIVE and news != said and now - said_at >= TOLD_AGAIN_S:
        link.told_addresses = news, now
        link.session.say(Addresses(news))
        link.wake()
