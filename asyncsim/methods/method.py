"""A method: a name of the literature for a short bundle of a policy, a consistency rule and a program."""

from __future__ import annotations

import math
from typing import Annotated, Any, NamedTuple, TypeVar

from asyncsim.consistency import ASP, Consistency, consistencies
from asyncsim.exchange import Exchange, RegionalServers, exchanges
from asyncsim.methods.fitting import (
    APART,
    AT_HOME,
    HEARING,
    HIERARCHICAL,
    IN_ROUNDS,
    OLDER,
    PEERS,
    PIPELINE,
    SHARED_OUT,
    SIZED_RECALLS,
    SIZED_VIEWS,
    STAGES,
    UPLINK,
    WHOLE,
)
from asyncsim.needs import Need, joined
from asyncsim.policies import Shapes, StepRule, Transform
from asyncsim.policies.transform import policies
from asyncsim.records.rows import UPDATES
from asyncsim.registry import PAPERS, Registry, Spec
from asyncsim.simulation.programs import Program, Replica, programs

methods: Registry[Method] = Registry("method", home=PAPERS)
P = TypeVar("P", bound=Spec)
AT_THE_SERVER = ("launched", "forget", "applied", "settle", "closes", "late_view", "sub_model")
"""What only the transforms between an arrival and the step rule are asked, not those of an ``uplink`` or a ``downlink``."""


class Bundle(NamedTuple):
    """A method taken apart: three independent choices and the step rule that ends the chain; where workers keep parameters of
    their own, how they exchange them; and where there are servers of two levels, what those give each other."""

    transforms: tuple[Transform, ...]
    step: StepRule
    consistency: Consistency
    program: Program
    exchange: Exchange | None = None
    uplink: tuple[Transform, ...] = ()
    downlink: tuple[Transform, ...] = ()
    hierarchy: RegionalServers | None = None

    @property
    def needs(self) -> Need:
        """Everything that any of the parts needs or does."""
        return joined(part.needs for part in self._parts())

    @property
    def decided_by_values(self) -> list[str]:
        """The parts that look at numbers and decide by them what happens in virtual time; mostly none."""
        return [part.kind for part in self._parts() if part.needs.decides_by_values]

    @property
    def notes(self) -> tuple[str, ...]:
        """Numbers that the parts note of every push, each once."""
        return tuple(dict.fromkeys(name for part in self._parts() for name in getattr(part, "notes", ())))

    def cost(self, share: float, shapes: Shapes) -> float:
        """The compute time and bytes of a worker that is to train a ``share`` of the model's neurons, over those of the whole
        model; raises ``ValueError`` if no such sub-model of it can be made."""
        return math.prod(transform.cost(share, shapes) for transform in self.transforms)

    def _parts(self) -> list[Transform | StepRule | Consistency | Program | Exchange | RegionalServers]:
        others = [each for each in (self.exchange, self.hierarchy) if each is not None]
        return [*self.uplink, *self.transforms, *self.downlink, self.step, self.consistency, self.program, *others]

    @property
    def amplifies_rounding(self) -> bool:
        """Does a part say that runs on different engines, devices or builds part by more than roundings?"""
        transforms = (*self.uplink, *self.transforms, *self.downlink)
        return self.step.amplifies_rounding or any(each.amplifies_rounding(self.step) for each in transforms)


class Method(Spec):
    """Parts combine freely: ``before`` puts more transforms in front of the method's own, ``uplink`` and ``downlink`` add
    transforms at the worker and to what is handed out, ``consistency`` and ``program`` replace the method's. With ``exchange``
    every worker keeps parameters of its own and exchanges them with others by this rule, instead of the method's."""

    before: tuple[Annotated[Transform, policies], ...] = ()
    uplink: tuple[Annotated[Transform, policies], ...] = ()
    downlink: tuple[Annotated[Transform, policies], ...] = ()
    consistency: Annotated[Consistency, consistencies] | None = None
    program: Annotated[Program, programs] | None = None
    exchange: Annotated[Exchange, exchanges] | None = None

    def bundle(self, num_workers: int, optimizer: StepRule, stages: int = 1) -> Bundle:
        """The parts for ``num_workers`` that share a shard, of models cut into so many stages; raises ``ValueError`` if the
        method does not fit them."""
        parts = self.staged_parts(num_workers, stages, optimizer)
        program = self.program or parts.program
        if stages > 1 and Need.CUTS not in program.needs:
            pipelines = ", ".join(name for name, cls in methods if cls.staged_parts is not Method.staged_parts)
            raise ValueError(
                f"`{self.kind}` computes whole models, which have one stage, not {stages}; give it `program: {{kind: stage}}`, "
                f"or take a method of pipelines: {pipelines}"
            )
        program.fits(stages)
        consistency = self.consistency or parts.consistency
        excluded = (STAGES, PIPELINE) if stages > 1 else (OLDER,) if Need.OLD_VERSIONS in program.needs else ()
        for exclusion in excluded:
            if exclusion.missed(consistency.needs):
                raise ValueError(exclusion.sentence(self.kind, consistency.needs))
        uplink, downlink = parts.uplink + self.uplink, parts.downlink + self.downlink
        for transform in uplink:
            if UPLINK.missed(transform.needs):
                raise ValueError(UPLINK.sentence(transform.kind, transform.needs))
            if Need.SIZES in transform.needs and SIZED_RECALLS.missed(consistency.needs):
                raise ValueError(SIZED_RECALLS.sentence(transform.kind, consistency.needs))
        for transform in downlink:
            if SIZED_VIEWS.missed(transform.needs):
                raise ValueError(SIZED_VIEWS.sentence(transform.kind, transform.needs))
        check_places(uplink, downlink)
        transforms = self.before + parts.transforms
        for transform in (*uplink, *transforms):
            transform.fits(parts.step)
        exchange = self.exchange or parts.exchange
        bundle = Bundle(transforms, parts.step, consistency, program, exchange, uplink, downlink, parts.hierarchy)
        check_exchange(self.kind, bundle, num_workers, stages)
        check_shares(self.kind, bundle)
        taken = [name for name in bundle.notes if name in UPDATES]
        if Need.VALUES in consistency.needs and consistency.sees not in ("loss", *bundle.notes):
            raise ValueError(f"the rule `{consistency.kind}` looks at `{consistency.sees}`, which no part of the method notes")
        if taken:
            raise ValueError(f"a part notes `{taken[0]}`, which is a column of every run already; give it another name")
        return bundle

    def part(self, cls: type[P], **given: Any) -> P:
        """A part whose settings the method repeats: both have them from one class of settings, which neither is a part nor a
        method. Settings that are ``given`` are not the method's, or not as it has them."""
        return cls(**{name: getattr(self, name) for name in cls.model_fields if name not in given} | given)

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        """The method's own choices."""
        return Bundle((), optimizer, ASP(), Replica())

    def staged_parts(self, num_workers: int, stages: int, optimizer: StepRule) -> Bundle:
        """The method's own choices for models in stages."""
        return self.parts(num_workers, optimizer)


def check_exchange(kind: str, bundle: Bundle, num_workers: int, stages: int) -> None:
    """Raise ``ValueError`` if the other parts do not fit the exchange of a method ``kind``, or it does not fit the workers."""
    exchange = bundle.exchange
    between = Need.PEERS in bundle.needs
    others = bundle._replace(exchange=None).needs
    asked = [(HEARING, bundle.needs, Need.HEARS in others), (HIERARCHICAL, bundle.needs, bundle.hierarchy is not None)]
    if bundle.hierarchy is not None:
        bundle.hierarchy.places(num_workers)
    if exchange is not None:
        exchange.fits(num_workers)
        asked += [
            (WHOLE, exchange.needs, stages > 1), (PEERS, others, between),
            (AT_HOME, exchange.needs, between and bool(bundle.uplink or bundle.downlink)),
            (APART, others, not between and Need.WHOLE_MODELS in exchange.needs),
            (IN_ROUNDS, others, not between and Need.WHOLE_MODELS in exchange.needs),
        ]  # fmt: skip
    for exclusion, needs, applies in asked:
        if applies and exclusion.missed(needs):
            raise ValueError(exclusion.sentence(kind, needs))


def check_shares(kind: str, bundle: Bundle) -> None:
    """Raise ``ValueError`` if the other parts of a method ``kind`` do not fit a rule that gives workers shares of the model, or
    if there is a transform for such a rule, and no rule."""
    makers = [each.kind for each in bundle.transforms if _has(each, "sub_model")]
    if Need.SUB_MODELS not in bundle.needs:
        if makers:
            raise ValueError(
                f"`{makers[0]}` makes sub-models where the consistency rule gives workers shares of the model, and "
                f"`{bundle.consistency.kind}` gives none: take `recalibrated` or `fixed_shares`"
            )
        return
    if SHARED_OUT.missed(bundle.needs):
        raise ValueError(SHARED_OUT.sentence(kind, bundle.needs))
    if not bundle.program.computes_at_once:
        raise ValueError(f"program `{bundle.program.kind}` has times of its own, which do not follow the size of a sub-model")
    if len(makers) != 1:
        raise ValueError(
            f"the consistency rule `{bundle.consistency.kind}` gives workers shares of the model, so one transform has to make "
            f"sub-models of them (`before: [sub_models]`), and here {', '.join(makers) or 'none'} would"
        )


def check_places(uplink: tuple[Transform, ...], downlink: tuple[Transform, ...]) -> None:
    """Raise ``ValueError`` for a transform that would do nothing in its place, or only a part of what it does."""
    for transform in uplink:
        if not _has(transform, "update"):
            raise ValueError(f"`{transform.kind}` does not change a push: it has no `update` for an `uplink`")
    for transform in downlink:
        if not _has(transform, "view"):
            raise ValueError(f"`{transform.kind}` does not change what workers are handed: it has no `view` for a `downlink`")
    server_only = ("an `uplink`", uplink, (*AT_THE_SERVER, "handed")), ("a `downlink`", downlink, AT_THE_SERVER)
    for place, transforms, names in server_only:
        for transform in transforms:
            for name in names:
                if _has(transform, name):
                    raise ValueError(
                        f"`{transform.kind}` works at the server: its `{name}` would never be called in {place}; "
                        f"take `before: [{transform.kind}]`"
                    )


def _has(transform: Transform, name: str) -> bool:
    """Does the class of a transform define this method itself?"""
    return getattr(type(transform), name) is not getattr(Transform, name)
