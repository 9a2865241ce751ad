"""A method: a name of the literature for a short bundle of a policy, a consistency rule and a program."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from asyncsim.consistency import ASP, Consistency, consistencies
from asyncsim.gossip import Gossip
from asyncsim.policies import StepRule, Transform, policies
from asyncsim.registry import Registry, Spec
from asyncsim.simulation.programs import Program, Replica, programs
from asyncsim.simulation.stages import Stage

methods = Registry("method")


class Bundle(NamedTuple):
    """A method taken apart: three independent choices and the step rule that ends the chain; and, where groups keep parameters
    of their own, how they mix them."""

    transforms: tuple[Transform, ...]
    step: StepRule
    consistency: Consistency
    program: Program
    gossip: Gossip | None = None

    @property
    def amplifies_rounding(self) -> bool:
        """Does a part say that runs on different engines, devices or builds part exponentially?"""
        return any(transform.amplifies_rounding(self.step) for transform in self.transforms)


class Method(Spec):
    """Parts combine freely: ``before`` puts more transforms in front of the method's own, ``consistency`` and ``program``
    replace the method's."""

    before: tuple[Annotated[Transform, policies], ...] = ()
    consistency: Annotated[Consistency, consistencies] | None = None
    program: Annotated[Program, programs] | None = None

    def bundle(self, num_workers: int, optimizer: StepRule, stages: int = 1) -> Bundle:
        """The parts for ``num_workers`` that share a shard, of models cut into so many stages; raises ``ValueError`` if the
        method does not fit them."""
        parts = self.staged_parts(num_workers, stages, optimizer)
        program = self.program or parts.program
        if stages > 1 and not isinstance(program, Stage):
            pipelines = ", ".join(name for name, cls in methods if cls.staged_parts is not Method.staged_parts)
            raise ValueError(
                f"`{self.kind}` computes whole models, which have one stage, not {stages}; give it `program: {{kind: stage}}`, "
                f"or take a method of pipelines: {pipelines}"
            )
        consistency = self.consistency or parts.consistency
        if stages > 1 and consistency.kind not in ("asp", "lockstep"):
            raise ValueError(f"stages go with the consistency rules asp and lockstep, not with {consistency.kind}")
        if stages > 1 and consistency.recalling:
            raise ValueError("the passes of a pipeline cannot be recalled; leave `recall_after` out")
        transforms = self.before + parts.transforms
        for transform in transforms:
            transform.fits(parts.step)
        return Bundle(transforms, parts.step, consistency, program, parts.gossip)

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        """The method's own choices."""
        return Bundle((), optimizer, ASP(), Replica())

    def staged_parts(self, num_workers: int, stages: int, optimizer: StepRule) -> Bundle:
        """The method's own choices for models in stages."""
        return self.parts(num_workers, optimizer)
