"""How much one peer may ask at once, and in the long run."""

from hypothesis import given
from hypothesis import strategies as st

from transport.buckets import BYTES_AT_ONCE, MESSAGES_AT_ONCE, MESSAGES_PER_S, Allowance, Bucket


def test_a_peer_that_was_quiet_may_say_much_at_once() -> None:
    allowance = Allowance()
    assert allowance.heard(MESSAGES_AT_ONCE, 5.0) == 0
    assert allowance.heard(MESSAGES_PER_S, 5.0) == 1
    assert allowance.heard(0, 6.0) == 0


def test_reading_and_serving_have_buckets_of_their_own() -> None:
    allowance = Allowance()
    assert allowance.read(2 * BYTES_AT_ONCE, 0.0) > 0
    assert allowance.served(BYTES_AT_ONCE, 0.0) == 0
    assert allowance.heard(1, 0.0) == 0


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 50)), max_size=60))
def test_who_waits_as_told_never_exceeds_the_rate_and_what_is_allowed_at_once(
    steps: list[tuple[float, int]],
) -> None:
    bucket, now, taken, last = Bucket(10.0, 20.0), 0.0, 0, 0
    for pause, amount in steps:
        now += pause
        wait = bucket.take(amount, now)
        taken, last = taken + amount, amount
        assert taken - last <= 20 + 10 * now + 1e-6
        now += wait
