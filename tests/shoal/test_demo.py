"""The demo, as a user starts it."""

from tests.shoal.daemons import Ended, shoal_process


def assert_told(ended: Ended, how_they_met: str) -> None:
    """Check that the story came to its good end, and what was shown on the way."""
    assert (ended.status, ended.err) == (0, ""), ended
    assert how_they_met in ended.out
    cut, healed = ended.out.split("The robot comes back: the cut heals.")
    assert "Cut off, each side believes what it knows:" in cut
    assert "Healed, all know the same events:" in healed
    assert "All three agree: FOO was never ended by anybody" in healed
    assert "would say 'idle'" in healed


def test_the_demo_over_static_addresses_ends_in_agreement() -> None:
    assert_told(shoal_process("demo", "--no-mdns"), "They are linked.")


def test_the_demo_ends_in_agreement_whether_multicast_works_or_not() -> None:
    ended = shoal_process("demo")
    fell_back = "Multicast does not get through here" in ended.out
    assert_told(ended, "They are linked." if fell_back else "They found each other by mDNS.")
