"""When work is finished: against brute force, and by the properties that any such function has."""

from __future__ import annotations

import math
import pickle
from fractions import Fraction
from functools import partial
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncsim.cluster import Cluster, Episode, Speed, TwoState, segments
from asyncsim.registries import delays
from asyncsim.streams import Draws, Streams
from asyncsim.units import NANOSECONDS, nanoseconds

SECOND = NANOSECONDS
FACTORS = st.sampled_from([0.5, 1.3, 2.0, 3.0, 7.5, 100.0])
EPISODES = st.lists(
    st.builds(
        lambda start, length, factor: Episode(start, None if length is None else start + length, factor),
        st.integers(0, 400), st.none() | st.integers(1, 200), FACTORS,
    ),
    max_size=6,
).map(lambda episodes: sorted(episodes, key=lambda episode: episode.start))  # fmt: skip
STARTS = st.integers(0, 600)
WORK = st.integers(0, 300)


def speed_of(episodes: list[Episode]) -> Speed:
    return Speed(partial(iter, episodes))


def brute_force(episodes: list[Episode], start: int, work: int) -> Fraction:
    """Nanosecond by nanosecond: each does 1 / (product of the factors of the episodes it lies in) of work."""
    left, now = Fraction(work), start
    while True:
        factor = math.prod(Fraction(str(e.factor)) for e in episodes if e.start <= now and (e.end is None or now < e.end))
        if left * factor <= 1 or now > 600:
            return now + left * factor
        left -= Fraction(1) / factor
        now += 1


@given(EPISODES, STARTS, WORK)
@settings(max_examples=300, deadline=None)
def test_against_brute_force(episodes, start, work):
    finish = speed_of(episodes).finish(start, work / SECOND)
    assert abs(finish - brute_force(episodes, start, work)) <= Fraction(1, 2)


@given(EPISODES, STARTS, st.lists(WORK, min_size=2, max_size=8))
@settings(max_examples=200, deadline=None)
def test_work_may_be_cut_in_two(episodes, start, parts):
    """Each stop rounds by at most half a nanosecond, which later factors stretch by the slowest over the fastest at most."""
    speed = speed_of(episodes)
    now = start
    for part in parts:
        now = speed.finish(now, part / SECOND)
    ratio = math.prod(max(e.factor, 1 / e.factor) for e in episodes)
    assert abs(now - speed.finish(start, sum(parts) / SECOND)) <= 1 + 0.5 * len(parts) * ratio


def test_work_cut_at_whole_nanoseconds_is_exact():
    speed = speed_of([Episode(10, 50, 2.0), Episode(38, 62, 3.0)])
    assert speed.finish(0, 35e-9) == 67
    for cut, at in ((5, 5), (10, 10), (15, 20), (24, 38), (25, 44), (26, 50), (30, 62)):
        assert speed.finish(0, cut * 1e-9) == at
        assert speed.finish(at, (35 - cut) * 1e-9) == 67


@given(EPISODES, STARTS, STARTS, WORK, WORK)
@settings(max_examples=300, deadline=None)
def test_monotone(episodes, start, other, work, more):
    speed = speed_of(episodes)
    assert start <= speed.finish(start, work / SECOND) <= speed.finish(start, (work + more) / SECOND)
    first, last = sorted((start, other))
    assert speed.finish(first, work / SECOND) <= speed.finish(last, work / SECOND)


@given(EPISODES, st.lists(st.tuples(STARTS, WORK), min_size=1, max_size=10))
@settings(max_examples=200, deadline=None)
def test_any_order_of_questions_gives_the_same_answers(episodes, questions):
    used = speed_of(episodes)
    assert [used.finish(at, work / SECOND) for at, work in questions] == [
        speed_of(episodes).finish(at, work / SECOND) for at, work in questions
    ]


@given(st.integers(0, 10**18), st.floats(0, 1e9))
def test_without_episodes(start, work):
    assert Speed().finish(start, work) == start + nanoseconds(work)
    assert Speed(partial(iter, [])).finish(start, work) == start + nanoseconds(work)


def test_decimal_factors_are_exact():
    """0.1 s at factor 1.1 is 110,000,000 ns, though 1.1 is no binary fraction; 10 million seconds too."""
    for seconds in (0.1, 1e7):
        assert speed_of([Episode(0, None, 1.1)]).finish(0, seconds) == nanoseconds(seconds) * 11 // 10


def test_overlapping_factors_multiply():
    line = list(segments([Episode(0, 20, 2.0), Episode(10, None, 1.5), Episode(10, 15, 4.0)]))
    assert [(s.start, s.end, float(s.factor)) for s in line] == [(0, 10, 2), (10, 15, 12), (15, 20, 3), (20, math.inf, 1.5)]
    assert speed_of([Episode(0, 20, 2.0), Episode(10, None, 1.5)]).factor(12) == 3


def test_negative_input_is_refused():
    for start, work in ((-1, 1.0), (0, -1.0)):
        with pytest.raises(ValueError, match="at least 0"):
            Speed().finish(start, work)


TWO_STATE = {
    "kind": "two_state",
    "base": "1s",
    "factor": 4,
    "normal": {"kind": "exponential", "mean": "10s"},
    "slow": {"kind": "exponential", "mean": "5s"},
}


class TestTwoState:
    def test_long_run_rate(self):
        """In the long run a batch takes base / (2/3 + 1/3 / 4) = 4/3 s.

        200,000 batches span 17,800 cycles; the slow share of a cycle of two exponentials has a relative standard error of
        sqrt(2) (1 - p) / sqrt(cycles) = 0.7 %, which moves the mean by 0.24 %. Five of these: 1.2 %.
        """
        delay = delays.parse(TWO_STATE)
        assert delay.expected == pytest.approx(4 / 3)
        speed = Speed(partial(delay.episodes, Streams(0), 0))
        now, batches = 0, 200_000
        for _ in range(batches):
            now = speed.finish(now, 1.0)
        assert now / SECOND / batches == pytest.approx(delay.expected, rel=0.012)

    def test_memory_is_bounded(self):
        speed = Speed(partial(delays.parse(TWO_STATE).episodes, Streams(0), 0))
        now = 0
        for _ in range(5000):
            now = speed.finish(now, 1.0)
            assert len(speed._known) < 10
        assert speed.finish(0, 1.0) == Speed(partial(delays.parse(TWO_STATE).episodes, Streams(0), 0)).finish(0, 1.0)

    def test_states_that_never_or_always_hold(self):
        endless = delays.parse("100000d")
        assert TwoState(base=1, factor=4, normal=endless, slow=1).expected == pytest.approx(1)
        assert TwoState(base=1, factor=4, normal=1, slow=endless).expected == pytest.approx(4)

    def test_workers_have_their_own_episodes(self):
        delay = delays.parse(TWO_STATE)
        first = [list(zip(range(100), delay.episodes(Streams(0), worker), strict=False)) for worker in (0, 1, 0)]
        assert first[0] == first[2] != first[1]

    def test_one_shot_and_two_state_multiply(self):
        event = {"at": "12s", "workers": [1], "slowdown": 3}
        compute = {**TWO_STATE, "normal": "10s", "slow": "5s"}
        profile = Cluster(workers=2, compute=compute, events=[event]).profile(1)
        speed = profile.speed(Streams(0))
        assert [speed.factor(at * SECOND) for at in (9, 10, 12, 15)] == [1, 4, 12, 3]

    def test_machine_and_episodes_together(self):
        delay = delays.parse({**TWO_STATE, "base": {"kind": "gamma_heterogeneous"}})
        bound = delay.for_worker(Streams(0), 2)
        machine = Streams(0)("machine", 2).gamma(1 / 0.36, 0.36)
        assert bound.base.expected == machine
        assert bound.expected == pytest.approx(machine * 4 / 3)
        draws = Draws(Streams(0), "compute", (2,), bound.sample)
        np.testing.assert_allclose([draws[step] for step in range(64)], machine, rtol=0.6)

    def test_a_checkpointed_speed_goes_on(self):
        delay = delays.parse(TWO_STATE)
        speed = Speed(partial(delay.episodes, Streams(0), 0))
        halfway = [speed.finish(at * SECOND, 1.0) for at in range(50)]
        again = pickle.loads(pickle.dumps(speed))
        assert [again.finish(at * SECOND, 1.0) for at in range(50)] == halfway

    def test_instant_states_do_not_hang(self):
        """Draws that round to 0 ns last one nanosecond: three in ten are below 0.5 ns."""
        holding = {"kind": "exponential", "mean": "1.4ns"}
        episodes = TwoState(base=1, factor=2, normal=holding, slow=holding).episodes(Streams(0), 0)
        ends = [0]
        for _, episode in zip(count(), episodes, strict=False):
            assert ends[-1] < episode.start < episode.end
            ends.append(episode.end)
            if len(ends) > 300:
                break
