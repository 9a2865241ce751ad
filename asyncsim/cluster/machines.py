"""Machine heterogeneity: the CVB method, and presets that name settings of the literature."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Literal

import numpy as np
from pydantic import Field

from asyncsim.cluster.composite import Tiers
from asyncsim.cluster.delays import Delay, SteadyDelay, bounded, delays
from asyncsim.cluster.distributions import MOST_CV, Constant, Gamma, Lognormal
from asyncsim.cluster.fields import NonNegative
from asyncsim.streams import Streams
from asyncsim.units import PositiveSeconds

_LEAST = 1e-9  # a machine's mean may underflow to 0 when cv_machine is large; time must pass all the same


@delays.register("cvb")
class Cvb(Delay):
    """Coefficient-of-variation-based heterogeneity: worker i has mean p_i, and each of its batches varies around p_i.

        p_i ~ Gamma(1 / Vm², mean · Vm²)     once, from the stream ("machine", i)
        t   ~ Gamma(1 / Vt², p_i · Vt²)      for every batch

    Either coefficient may be 0. S. Ali, H. J. Siegel, M. Maheswaran, D. Hensgen, "Representing task and machine
    heterogeneities for heterogeneous computing systems", Tamkang J. of Science and Engineering 3(3), 2000. Differs from
    the paper in that machine heterogeneity is always the outer draw, as in the asynchronous-SGD literature.
    """

    mean: PositiveSeconds
    cv_machine: NonNegative = Field(le=MOST_CV)
    cv_task: NonNegative = Field(le=MOST_CV)

    @property
    def expected(self) -> float:
        return self.mean

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return bounded(self._machines(rng, size) * Gamma(mean=1.0, cv=self.cv_task).sample(rng, size))

    def for_worker(self, streams: Streams, worker: int) -> Delay:
        return Gamma(mean=float(self._machines(streams("machine", worker), 1)[0]), cv=self.cv_task)

    def _machines(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return np.maximum(Gamma(mean=self.mean, cv=self.cv_machine).sample(rng, size), _LEAST)


class Preset(Delay):
    """A short name for a delay whose settings are known from the literature."""

    @abstractmethod
    def spelled_out(self) -> Delay:
        """The delay for which the name stands."""

    @property
    def expected(self) -> float:
        return self.spelled_out().expected

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return self.spelled_out().sample(rng, size)

    def for_worker(self, streams: Streams, worker: int) -> Delay:
        return self.spelled_out().for_worker(streams, worker)


@delays.register("gamma_homogeneous")
class GammaHomogeneous(Preset):
    """The homogeneous setting of the Gap-Aware and DANA papers: one gamma of CV 0.1 for all batches of all workers.

    0.94 % of the batches take more than 1.25 means. Source: github.com/rafi-cohen/SMEGA2 (shape 100).
    """

    mean: PositiveSeconds = 1.0

    def spelled_out(self) -> Delay:
        return Gamma(mean=self.mean, cv=0.1)


@delays.register("gamma_heterogeneous")
class GammaHeterogeneous(Preset):
    """The heterogeneous setting of the Gap-Aware and DANA papers: `cvb` with 0.6 between machines and 0.1 between batches.

    27.87 % of the batches take more than 1.25 means. Source: Barkai et al. 2020 (arXiv 1909.10802).
    """

    mean: PositiveSeconds = 1.0

    def spelled_out(self) -> Delay:
        return Cvb(mean=self.mean, cv_machine=0.6, cv_task=0.1)


@delays.register("edge_tiers")
class EdgeTiers(Preset):
    """Edge devices in turn, 1 : 1.8125 : 11.625 (TX2 : Nano : Pi); ``base`` is the TX2. Source: github.com/boyi-liu/AFL-Lib."""

    base: SteadyDelay = Constant(mean=1.0)

    def spelled_out(self) -> Delay:
        return Tiers(base=self.base, factors=(1.0, 1.8125, 11.625))


Fleet = Literal["v100_availability", "v100_preemption", "r5"]
_SPOT_UP = {"v100_availability": (-0.23, 1.46), "v100_preemption": (-0.54, 1.68), "r5": (-0.92, 1.71)}
_SPOT_DOWN = (-0.88, 1.47)


def _hours(mu: float, sigma: float) -> Lognormal:
    return Lognormal(median=3600 * math.exp(mu), sigma=sigma)


@delays.register("spot_up")
class SpotUp(Preset):
    """How long an AWS spot instance lives: lognormals fitted by us to the traces of "Can't Be Late" (NSDI 2024).

    ``fleet`` and the fit's (mu, sigma) in hours: v100_availability, 9 zones (-0.23, 1.46); v100_preemption, 4 zones
    (-0.54, 1.68); r5, CPU, 3 zones (-0.92, 1.71). Kolmogorov-Smirnov distances 0.14, 0.07, 0.07; an exponential has 0.24
    or more. The traces: github.com/skypilot-org/spot-traces.
    """

    fleet: Fleet = "v100_availability"

    def spelled_out(self) -> Delay:
        return _hours(*_SPOT_UP[self.fleet])


@delays.register("spot_down")
class SpotDown(Preset):
    """How long a lost AWS V100 spot instance stays away: lognormal(-0.88, 1.47) in hours, fitted like `spot_up`."""

    def spelled_out(self) -> Delay:
        return _hours(*_SPOT_DOWN)
