"""Who lives in a pond: how often everybody is looked at, and who has to go."""

import asyncio
from dataclasses import dataclass

from fish import Pond
from fish.residents import SHARE, Residents
from fish.surroundings import Limits
from tests.fish.memory_log import MemoryLog
from tests.fish.ponds import LIST, named, story, turns


@dataclass(eq=False)
class Counted:
    """Someone who notes how often he is looked at."""

    in_use: bool
    looks: int = 0

    @property
    def is_idle(self) -> bool:
        self.looks += 1
        return not self.in_use


def settle(residents: Residents[Counted], guests: list[Counted]) -> None:
    """Let them move in one by one, and see each time who has to go."""

    async def move_in() -> None:
        for number, guest in enumerate(guests):
            residents.move_in((f"guest {number}", 1), guest)
            if residents.is_crowded:
                for key, idle in await residents.surplus():
                    residents.move_out(key, idle)

    asyncio.run(move_in())


def test_each_of_ten_thousand_that_are_in_use_is_looked_at_a_few_times() -> None:
    residents, guests = Residents[Counted](100), [Counted(in_use=True) for _ in range(10_000)]
    settle(residents, guests)
    assert len(residents) == 10_000
    assert sum(guest.looks for guest in guests) <= 2 * SHARE * len(guests)


def test_each_of_ten_thousand_that_are_idle_is_looked_at_a_few_times() -> None:
    residents, guests = Residents[Counted](100), [Counted(in_use=False) for _ in range(10_000)]
    settle(residents, guests)
    assert len(residents) <= 100 + 100 // SHARE
    assert sum(guest.looks for guest in guests) <= 2 * SHARE * len(guests)


def test_as_many_idle_ones_stay_whether_others_are_in_use_or_not() -> None:
    residents = Residents[Counted](100)

    async def act() -> None:
        for number in range(2_000):
            residents.move_in((f"guest {number}", 1), Counted(in_use=number % 2 == 0))
        leaving = await residents.surplus()
        assert len(leaving) == 900
        assert not any(guest.in_use for _, guest in leaving)

    asyncio.run(act())


def test_the_one_that_nobody_asked_for_the_longest_goes_first() -> None:
    residents, guests = Residents[Counted](2), [Counted(in_use=False) for _ in range(3)]

    async def act() -> None:
        for number, guest in enumerate(guests):
            residents.move_in((f"guest {number}", 1), guest)
        assert residents.asked_for(("guest 0", 1)) is guests[0]
        assert [guest for _, guest in await residents.surplus()] == [guests[1]]

    asyncio.run(act())


def test_one_that_somebody_came_for_meanwhile_stays() -> None:
    residents, guest = Residents[Counted](0), Counted(in_use=False)

    async def act() -> None:
        residents.move_in(("guest", 1), guest)
        [(key, idle)] = await residents.surplus()
        guest.in_use = True
        assert not residents.move_out(key, idle)
        assert len(residents) == 1

    asyncio.run(act())


def test_a_fish_that_nobody_watches_stays_among_many_that_are_watched() -> None:
    async def act(_log: MemoryLog, pond: Pond) -> None:
        watched = [pond.observe(named(f"watched {number}")) for number in range(20)]
        await pond.current_state(LIST)
        for number in range(3):
            watched.append(pond.observe(named(f"later {number}")))
            await turns(20)
        assert LIST.name in pond.running

    story(act, limits=Limits(idle_fish=2))


def test_fish_that_were_in_use_go_when_they_fall_idle_all_at_once() -> None:
    async def act(_log: MemoryLog, pond: Pond) -> None:
        fish = [named(f"fish {number}") for number in range(100)]
        observations = [pond.observe(one) for one in fish]
        for one in fish:
            await pond.current_state(one)
        await turns(500)
        assert len(pond.running) == 100
        for observation in observations:
            observation.cancel()
        await turns(1_000)
        assert len(pond.running) <= 16 + 100 // SHARE

    story(act, limits=Limits(idle_fish=16))


def test_fish_that_are_asked_together_go_when_they_have_answered() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 1, "event")
        await asyncio.gather(*(pond.current_state(named(f"fish {n}")) for n in range(100)))
        await turns(1_000)
        assert len(pond.running) <= 16 + 100 // SHARE

    story(act, limits=Limits(idle_fish=16))


def test_no_more_go_than_are_too_many_where_somebody_came_for_others_meanwhile() -> None:
    residents, guests = Residents[Counted](2), [Counted(in_use=False) for _ in range(4)]

    async def act() -> None:
        for number, guest in enumerate(guests):
            residents.move_in((f"guest {number}", 1), guest)
        leaving = await residents.surplus()
        assert [guest for _, guest in leaving] == guests[:2]
        residents.asked_for(("guest 3", 1))
        guests[3].in_use = True
        assert [residents.move_out(*one) for one in leaving] == [True, False]

    asyncio.run(act())
