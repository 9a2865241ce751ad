"""SPARTA: every worker has a model of its own, and after every step all take the mean of a few parameters, drawn by chance::

    worker i, round t:  x_i <- x_i - lr * d(gradient at x_i)              momentum and weight decay are the worker's own
                        I_t = so many of the parameters as ``fraction`` says, drawn anew, the same for all
                        x_i[I_t] <- mean over the workers of x_j[I_t]     the others stay as they are

SPARTA, sparse parameter averaging, 2025 (EXO Labs; public code github.com/exo-explore/gym). The rule and the default are
recalled; neither text nor code was at hand.

Order: read, compute, step, average, all in rounds. With ``lag`` the step is sent while the next gradient is computed, which lacks
it: a round then takes the longer of computing and sending.
Ours: exactly ``max(1, round(fraction * P))`` parameters a round, without repetition (recalled of the code: each with a
probability). All know the seed, so a message is those parameters alone. What is sent and read are so many bytes; with
``cluster.all_reduce`` they travel among the workers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from asyncsim.consistency import BSP
from asyncsim.exchange import AllReduced, exchanges
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.policies import StepRule
from asyncsim.registry import Spec
from asyncsim.simulation.programs import Replica

if TYPE_CHECKING:
    from asyncsim.exchange import Entries
    from asyncsim.streams import Streams


class Settings(Spec):
    """``fraction``: the share of the parameters that is averaged in a round."""

    fraction: float = Field(default=0.005, gt=0, le=1)


@exchanges.register("random_mean")
class RandomMean(Settings, AllReduced):
    """Rounds that end with the mean of a random ``fraction`` of the parameters, each worker after its own step; what is not drawn
    stays its own (SPARTA, 2025)."""

    def entries(self, number: int, numbers: int, streams: Streams) -> Entries | None:
        drawn = self.drawn(numbers)
        return None if drawn == numbers else streams("entries", number).choice(numbers, drawn, replace=False)

    def nbytes(self, nbytes: float, numbers: int) -> float:
        return nbytes * self.drawn(numbers) / numbers

    def drawn(self, numbers: int) -> int:
        """How many of so many parameters a round averages."""
        return max(1, round(self.fraction * numbers))


@methods.register("sparta")
class Sparta(Settings, Method):
    """SPARTA, 2025: after every step all workers take the mean of a random ``fraction`` of their parameters. With ``lag`` it
    travels while the next gradient is computed."""

    lag: int = Field(default=0, ge=0, le=1)

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((), optimizer, BSP(lag=self.lag), Replica(overlap=self.lag > 0), self.part(RandomMean))
