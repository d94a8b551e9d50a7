"""Lines about what repeats: one at once, then one every 30 s with the count."""

from tss.core.throttle import LOG_SECS, LogThrottle


def test_a_line_at_once_and_then_every_30_s_with_the_count() -> None:
    throttle = LogThrottle()
    assert throttle.add(2, 100.0) == 2
    assert [throttle.add(1, 100.0 + secs) for secs in (0, 1, LOG_SECS - 1)] == [0, 0, 0]
    assert throttle.add(1, 100.0 + LOG_SECS) == 4
    assert throttle.add(5, 101.0 + LOG_SECS) == 0


def test_a_clock_that_goes_back_holds_no_line_back() -> None:
    throttle = LogThrottle()
    assert throttle.add(1, 1e9) == 1
    assert throttle.add(1, 5.0) == 1
