"""FTPipe: PipeDream's order, with options that meet its staleness::

    one forward, one backward in turn; ``step_every`` backward passes make an update, of their mean gradient
    Gap-Aware:    a gradient is divided by 1 + gap / C        gap: how far the stage has moved since the forward pass
    prediction:   forward passes are handed the parameters after n steps without gradients
                  n: updates until the gradient arrives, the steps among the batches in flight

Eliad, Hakimi, De Jagger, Silberstein, Schuster, "FTPipe", USENIX ATC 2021. The rules are those of the public code
saareliad/FTPipe; of the paper only the abstract was at hand. Equations: `asyncsim.methods.ftpipe_sgd`, `ftpipe_adam`.

Order: a ``stash`` holds what the forward pass was handed, a prediction included. The backward pass uses it, and with
``recompute`` repeats the forward pass from it first. Without stash it uses the current parameters, or recomputes with those.
Differs from the code: until a stage has had its first gradient nothing is predicted (there: weight decay alone), and ``n`` is
that of a full pipeline from the start. That ``step_every`` gradients are averaged is our reading. The defaults are ours.
Left out: Mixed-pipe, which puts several stages on one device.
"""

from __future__ import annotations

from typing import Any

from asyncsim.methods.ftpipe_adam import FTPipeAdam
from asyncsim.methods.ftpipe_sgd import FTPipeSettings, FTPipeSGD
from asyncsim.methods.method import Bundle, methods
from asyncsim.methods.pipelines import PipelineMethod
from asyncsim.policies import SGD, Adam, StepRule, heavy_ball
from asyncsim.simulation.orders import OneForwardOneBackward
from asyncsim.simulation.stage_program import Stage


@methods.register("ftpipe")
class FTPipe(FTPipeSettings, PipelineMethod):
    """FTPipe, Eliad et al. 2021 (USENIX ATC): one forward, one backward in turn, with the options of their code. With neither
    ``gap_aware`` nor ``predict`` it is PipeDream, whose optimizer may be any; otherwise that is ``sgd`` or ``adam``.

    - ``stash``: backward passes use what their forward pass was handed, otherwise current parameters. ``recompute``: they repeat
      the forward pass, with the parameters that they use.
    """

    stash: bool = True
    recompute: bool = False
    nag_with_predictor: bool = False

    @property
    def gathers(self) -> tuple[int, bool]:
        return self.step_every, False

    def stage(self, stages: int) -> Stage:
        if self.stash:
            return Stage(order=OneForwardOneBackward(), backward="stashed", recompute=self.recompute)
        return Stage(order=OneForwardOneBackward(), backward="replayed" if self.recompute else "current")

    def staged_parts(self, num_workers: int, stages: int, optimizer: StepRule) -> Bundle:
        apart = num_workers > 1 and self.gossip is None and self.sharing == "asynchronous"
        refuse(self, optimizer, stages, apart)
        return super().staged_parts(num_workers, stages, optimizer)

    def step(self, optimizer: StepRule) -> StepRule:
        if self.gap_aware == "none" and self.predict == "none":
            return optimizer
        if type(optimizer) is Adam:
            return self.part(FTPipeAdam, **{name: getattr(optimizer, name) for name in Adam.model_fields})
        settings: dict[str, Any] = heavy_ball(optimizer, "FTPipe")
        own = {"gap_from": "stashed" if self.stash else "gradient", "decay": 0.999}
        return self.part(FTPipeSGD, **settings, **own)


def refuse(method: FTPipe, optimizer: StepRule, stages: int, apart: bool) -> None:
    """Raise ``ValueError`` for what the public code cannot do, or what would do nothing. ``apart``: other groups make updates
    between two passes of a batch."""
    gaps, predicts = method.gap_aware != "none", method.predict != "none"
    known = isinstance(optimizer, SGD) and not optimizer.nesterov
    adam = type(optimizer) is Adam
    refused = [
        ((gaps or predicts) and not (known or adam),
         f"`gap_aware` and `predict` are there for the optimizers sgd (without nesterov) and adam, not for {optimizer.kind}; "
         "`gap_aware: none` leaves it alone"),
        (gaps and method.step_every > 1,
         "`gap_aware` divides the gradient of every backward pass, and with `step_every` above 1 what has been accumulated would "
         "be divided again; take `gap_aware: none`"),
        (gaps and adam and not method.stash,
         "`gap_aware` with Adam compares with stashed parameters: take `stash: true`, or `gap_aware: none`"),
        (gaps and not method.stash and (stages > 2 or apart),
         f"without a stash `gap_aware` knows the gap of a staleness of 1 only, and in {stages} stages the first has more; take "
         "`stash: true`, 2 stages of one group, or `gap_aware: none`"),
        (predicts and adam and optimizer.weight_decay > 0 and not getattr(optimizer, "decoupled", False),
         "`predict` is there for AdamW: give the optimizer adam `decoupled: true`, or no weight decay"),
        (predicts and apart,
         "`predict` foresees the steps of one group; with several take `sharing: all_reduce`, or gossip"),
        (method.scheduler_aware and not predicts, "`scheduler_aware` has an effect with `predict` only"),
        (method.nag_with_predictor and not (predicts and known),
         "`nag_with_predictor` takes `predict`, and the optimizer sgd with momentum"),
    ]  # fmt: skip
    for applies, reason in refused:
        if applies:
            raise ValueError(reason)
