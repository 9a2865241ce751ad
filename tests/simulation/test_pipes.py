"""Shared pipes against brute force in exact fractions, queueing theory, and what happens to messages that are given up."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import numpy as np
import pytest
import simpy

from asyncsim.simulation.transport.pipes import Fair, Fifo, rate, work

Message = tuple[int, tuple[int, ...], float | None, float]
"""When it comes (ns), through which pipes, held to how many bytes a second, and its bytes."""


def simulated(
    kind: type, capacities: list[float], messages: list[Message], gone: dict[int, int] | None = None
) -> list[int | None]:
    """When each message has passed (ns); ``gone``: when it is given up, by message."""
    env = simpy.Environment(initial_time=0)
    pipes = kind(env, [rate(each) for each in capacities])
    ends: list[int | None] = [None] * len(messages)

    def carry(index: int):
        start, route, cap, nbytes = messages[index]
        yield env.timeout(start)
        flow = pipes.begin(route, None if cap is None else rate(cap), work(nbytes))
        if gone and index in gone:
            yield env.timeout(gone[index] - start) | flow.done
            pipes.abort(flow)
        else:
            yield flow.done
        ends[index] = env.now

    for index in range(len(messages)):
        env.process(carry(index))
    env.run()
    return ends


def filled(capacities: list[Fraction], flows: dict[int, Message]) -> dict[int, Fraction]:
    """Max-min fair rates (bytes a nanosecond) of single flows: raise all together, fix those that a pipe or cap stops."""
    rates = dict.fromkeys(flows, Fraction(0))
    free, left = set(flows), list(capacities)
    while free:
        sharing = {pipe: sum(pipe in flows[i][1] for i in free) for pipe in range(len(left))}
        steps = [left[pipe] / count for pipe, count in sharing.items() if count]
        steps += [Fraction(flows[i][2]) / 10**9 - rates[i] for i in free if flows[i][2] is not None]
        step = min(steps)
        for i in free:
            rates[i] += step
            for pipe in flows[i][1]:
                left[pipe] -= step
        free = {
            i for i in free
            if all(left[pipe] > 0 for pipe in flows[i][1]) and (flows[i][2] is None or rates[i] < Fraction(flows[i][2]) / 10**9)
        }  # fmt: skip
    return rates


def brute_force(capacities: list[float], messages: list[Message]) -> list[int]:
    """The fluid model in fractions of a nanosecond, but completions count at the nearest whole one."""
    exact = [Fraction(each) / 10**9 for each in capacities]
    left = {i: Fraction(message[3]) for i, message in enumerate(messages)}
    coming, under_way, now, ends = sorted(range(len(messages)), key=lambda i: messages[i][0]), set(), 0, [0] * len(messages)
    while coming or under_way:
        rates = filled(exact, {i: messages[i] for i in under_way})
        due = {i: now + math.floor(left[i] / rates[i] + Fraction(1, 2)) for i in under_way}
        then = min([*due.values(), *(messages[i][0] for i in coming[:1])])
        for i in list(under_way):
            left[i] -= rates[i] * (then - now)
            if due[i] == then:
                under_way.discard(i)
                ends[i] = then
        now = then
        while coming and messages[coming[0]][0] == now:
            under_way.add(coming.pop(0))
    return ends


@pytest.mark.parametrize("seed", range(12))
def test_fair_sharing_is_the_fluid_model_to_the_nanosecond(seed):
    """Random messages through random pipes, some with a cap of their own: progressive filling by kinds of flows gives what it
    gives flow by flow in exact fractions."""
    rng = random.Random(seed)
    capacities = [rng.uniform(1e6, 1e9) for _ in range(rng.randint(1, 4))]
    caps = [None, rng.uniform(1e5, 1e9), rng.uniform(1e5, 1e9)]
    routes = [tuple(sorted(rng.sample(range(len(capacities)), rng.randint(1, len(capacities))))) for _ in range(4)]
    messages = [(rng.randrange(10**7), rng.choice(routes), rng.choice(caps), rng.uniform(1, 1e6)) for _ in range(40)]
    assert simulated(Fair, capacities, messages) == brute_force(capacities, messages)


def test_a_message_that_is_given_up_leaves_its_share():
    """Two of 1000 bytes at 1 byte a nanosecond; the second is given up after 500 ns, when each has 750 left; the first then has
    the pipe alone. First come, first served: the second never gets the pipe."""
    both = [(0, (0,), None, 1000.0), (0, (0,), None, 1000.0)]
    assert simulated(Fair, [1e9], both, {1: 500}) == [1250, 500]
    assert simulated(Fifo, [1e9], both, {1: 500}) == [1000, 500]
    assert simulated(Fifo, [1e9], [*both, (100, (0,), None, 1000.0)], {0: 500}) == [500, 1500, 2500]


def test_first_come_first_served_is_store_and_forward():
    """Own link 500 ns, then each of two pipes 100 and 200 ns; the second message leaves at the same time, and waits in each."""
    message = (0, (0, 1), 2e9, 1000.0)
    assert simulated(Fifo, [1e10, 5e9], [message, message]) == [500 + 100 + 200, 500 + 100 + 200 + 200]


def poisson(load: float, sizes: np.ndarray, rng: np.random.Generator) -> list[Message]:
    """Messages at random times, through one pipe of a byte a nanosecond with that load."""
    times = np.cumsum(rng.exponential(sizes.mean() / load, len(sizes))).astype(np.int64)
    return [(int(time), (0,), None, float(size)) for time, size in zip(times, sizes, strict=True)]


def test_processor_sharing_is_insensitive_and_a_queue_is_not():
    """M/G/1-PS: the mean time of a message is ``E[S] / (1 - rho)`` for every distribution of sizes; first come, first served it
    is ``E[S] + rho E[S] (1 + cv^2) / (2 (1 - rho))`` (Pollaczek-Khinchine). 20,000 messages at load 0.6, 4 standard errors of
    20 batch means; the sizes of cv 2 refuse the other's law."""
    rng, load, count = np.random.default_rng(1), 0.6, 20_000
    for cv2 in (0.0, 1.0, 4.0):
        sizes = np.full(count, 1e6) if cv2 == 0 else rng.gamma(1 / cv2, 1e6 * cv2, count) + 1
        messages = poisson(load, sizes, rng)
        laws = {Fair: sizes.mean() / (1 - load), Fifo: sizes.mean() * (1 + load * (1 + cv2) / (2 * (1 - load)))}
        for kind, law in laws.items():
            times = np.array(simulated(kind, [1e9], messages)) - np.array([message[0] for message in messages])
            means = np.array([part.mean() for part in np.array_split(times, 20)])
            error = means.std(ddof=1) / math.sqrt(20)
            assert abs(means.mean() - law) < 4 * error
            if cv2 == 4.0:
                assert abs(means.mean() - laws[Fifo if kind is Fair else Fair]) > 4 * error
