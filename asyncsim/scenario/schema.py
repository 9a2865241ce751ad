"""The scenario: everything that determines a run, as a validated and frozen model."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from asyncsim.checkpoint.cadence import Cadence
from asyncsim.cluster import Cluster
from asyncsim.engine.spec import Auto, EngineSpec, Serial, engines
from asyncsim.errors import first_line
from asyncsim.methods import Bundle, Method, fitting
from asyncsim.methods.asgd import ASGD
from asyncsim.methods.method import methods
from asyncsim.needs import Need
from asyncsim.policies import SGD, Schedule, StepRule
from asyncsim.policies.schedule import Constant, schedules
from asyncsim.policies.step_rule import optimizers
from asyncsim.records.rows import COSTS
from asyncsim.registry import Spec, located
from asyncsim.scenario.document import Document, plain_document
from asyncsim.scenario.merge import merged
from asyncsim.scenario.model_cut import Stages
from asyncsim.scenario.problems import validated
from asyncsim.simulation.length import Evaluation, RunLength
from asyncsim.simulation.programs import Program
from asyncsim.simulation.stream import Stream
from asyncsim.tasks import Cut, TaskSpec
from asyncsim.tasks.partition import partitions
from asyncsim.tasks.spec import tasks
from asyncsim.units import Bytes

if TYPE_CHECKING:
    from asyncsim.tasks.task import Task

NAME = r"\w[\w .+=,@-]*"
NAME_RULE = "is made of letters, digits, spaces and . _ + = , @ -, and starts with a letter or digit"
OVERLAPPING = Need.OVERLAPS | Need.LAGS


class Records(Spec):
    """The tables that are kept. The fingerprints cover all rows, whether they are kept or not."""

    events: bool = True
    updates: bool = True

class Scenario(Spec):
    """One run: task, cluster, method, optimiser, length. Two equal scenarios give the same bits.

    ``device`` is any of PyTorch's (``cpu``, ``cuda``, ``cuda:1``, ``mps``); ``threads`` are PyTorch's intra-op threads on a CPU
    (part of the numbers' identity; one is fastest for small models). ``message`` is the size of what travels in each
    direction; by default that of the parameters. ``push`` is the size of a push, where that differs (sparse or compressed ones).
    """

    name: str = Field(default="scenario", min_length=1, max_length=100)
    task: Annotated[TaskSpec, tasks]
    cluster: Cluster = Cluster()
    stages: Stages = Stages()
    stream: Stream | None = None
    method: Annotated[Method, methods] = ASGD()
    optimizer: Annotated[StepRule, optimizers] = SGD()
    schedule: Annotated[Schedule, schedules] = Constant()
    run: RunLength
    evaluate: Evaluation = Evaluation()
    seed: int = Field(default=0, ge=0, lt=2**63)
    engine: Annotated[EngineSpec, engines] = Auto()
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float32"
    threads: int = Field(default=1, ge=1, le=1024)
    message: Bytes | None = None
    push: Bytes | None = None
    records: Records = Records()
    checkpoint: Cadence | None = None

    @field_validator("name")
    @classmethod
    def _file_name(cls, name: str) -> str:
        if not re.fullmatch(NAME, name):
            raise ValueError(f"a name {NAME_RULE}")
        return name

    @field_validator("device")
    @classmethod
    def _device_name(cls, device: str) -> str:
        if not re.fullmatch(r"(cpu|mps|(cuda|xpu)(:\d+)?)", device):
            raise ValueError("a device is cpu, cuda, cuda:<index>, xpu or mps")
        return device

    @model_validator(mode="after")
    def _fits(self) -> Scenario:
        count, workers = self.stages.count, self.cluster.num_workers
        if workers % count:
            message = f"{count} stages need a multiple of {count} workers, one worker a stage; this fleet has {workers}"
            raise located("scenario", [(("stages",), count, message)])
        for section, part in (("method", self.bundle), ("stages", self.cut)):
            try:
                part()
            except ValidationError:
                raise
            except ValueError as error:
                raise located("scenario", [((section,), None, str(error))]) from None
        self._pipeline_fits()
        self._sub_models_fit()
        self._cluster_fits()
        self._stream_fits()
        if "validation" in self.evaluate.splits and getattr(self.task, "validation", None) == 0:
            message = "there is no validation split, as `task.validation` is 0; raise that, or evaluate test or train"
            raise located("scenario", [(("evaluate", "splits"), list(self.evaluate.splits), message)])
        target = self.run.target
        if target is not None and target.metric not in self.metrics:
            known = ", ".join(self.metrics)
            raise located("scenario", [(("run", "target", "metric"), target.metric, f"this run evaluates only: {known}")])
        return self

    def _sub_models_fit(self) -> None:
        """Check that the model can be made smaller, if the method does that."""
        bundle = self.bundle()
        if Need.SUB_MODELS in bundle.needs:
            try:
                bundle.cost(0.5, self.task.layer_shapes())
            except (ValueError, RuntimeError, OverflowError, TypeError) as error:  # the last three: torch cannot describe it
                raise located("scenario", [(("method",), None, first_line(error))]) from None

    def _pipeline_fits(self) -> None:
        """Check that batches can be divided as the pipeline wants, and that the engine computes stages."""
        program = self.bundle().program
        if self.task.batch % program.num_micro_batches:
            message = f"cannot be cut into {program.num_micro_batches} equal micro-batches; take a multiple"
            raise located("scenario", [(("task", "batch"), self.task.batch, message)])
        if self.staged and self.engine.kind not in ("auto", "serial"):
            message = "computes whole models; a model in stages takes the engine serial, which auto chooses"
            raise located("scenario", [(("engine",), self.engine.kind, message)])

    def _stream_fits(self) -> None:
        """Check that a stream has one sequence of items whose predictions are right or wrong, and a turn for every worker."""
        if self.stream is None:
            return
        program = self.bundle().program
        if not program.takes_items:
            message = f"the program `{program.kind}` takes batches of its own; take `replica`, or `stage` without micro-batches"
            raise located("scenario", [(("stream",), None, message)])
        partition = getattr(self.task, "partition", None)
        if partition is None or not partition.common:
            known = ", ".join(name for name, cls in partitions if cls.common)
            shown = None if partition is None else partition.kind
            message = f"the items of a `stream` come one after the other and belong to nobody; take the partition {known}"
            raise located("scenario", [(("task", "partition"), shown, message)])
        if "accuracy" not in self.task.metrics:
            raise located("scenario", [(("stream",), None, f"task `{self.task.kind}` has no accuracy to measure online")])
        if self.stream.turns is not None and self.stream.turns < self.groups:
            message = f"{self.groups} workers take turns, so {self.groups} is the least"
            raise located("scenario", [(("stream", "turns"), self.stream.turns, message)])

    def _cluster_fits(self) -> None:
        """Check that the cluster asks for nothing that the method cannot do: the exclusions of `asyncsim.methods.fitting`."""
        bundle, cluster = self.bundle(), self.cluster
        needs = bundle.needs | (Need.PASSES if self.stages.count > 1 else Need.NOTHING)
        asked = [
            (fitting.ALL_REDUCE, ("cluster", "all_reduce"), cluster.all_reduce),
            (fitting.JOINING, ("cluster", "events"), "join" if cluster.elastic else None),
            (fitting.SERVER_CRASH, ("cluster", "server", "faults"), cluster.server.faults),
            (fitting.STREAM, ("stream",), None if self.stream is None else True),
            (fitting.SERVICE, ("cluster", "server", "service"), True if cluster.server.service.expected else None),
            (fitting.VIEWS, ("method",), True if Need.OLD_VERSIONS in needs else None),
            (fitting.OVERLAP, ("method", "program", "overlap"), True if needs & OVERLAPPING == Need.OVERLAPS else None),
            (fitting.LAG, ("method", "consistency", "lag"), True if Need.LAGS in needs else None),
            (fitting.MEMORY, ("method",), True if self.task.remembers else None),
            (fitting.POWER, ("cluster", "instance"), None if cluster.priced else True),
            (fitting.LAUNCHED, ("method", "program", "overlap"), False if Need.LAUNCHES in needs else None),
            (fitting.REGIONAL, ("cluster", "network"), cluster.network),
            (fitting.REGIONAL, ("cluster", "server"), cluster.server.faults or cluster.server.service.expected or None),
            (fitting.FORESIGHT, ("method",), None if self._arrivals_known(bundle) else True),
        ]
        for exclusion, where, value in asked:
            if value is not None and exclusion.missed(needs):
                shown = value if isinstance(value, str | bool) else None
                raise located("scenario", [(where, shown, exclusion.sentence(self.method.kind, needs))])
        if Need.PEERS in needs and cluster.network is not None:
            self._sites_fit(combinations(sorted(set(cluster.network.sites(cluster.num_workers))), 2))
        for group in range(self.groups if self.stages.count > 1 and cluster.network is not None else 0):
            self._neighbours_fit(range(group * self.stages.count, (group + 1) * self.stages.count))

    def _arrivals_known(self, bundle: Bundle) -> bool:
        """Is it known when a push will arrive, once its worker has read?"""
        cluster = self.cluster
        shared = cluster.network or cluster.all_reduce or cluster.server.service.expected or cluster.server.faults
        others = Need.OVERLAPS | Need.SIZES | Need.OWN_PARAMETERS
        return not shared and type(bundle.program).round is Program.round and not bundle.needs & others

    def _neighbours_fit(self, workers: range) -> None:
        network = self.cluster.network
        assert network is not None
        sites = network.sites(self.cluster.num_workers)
        for one, other in pairwise(workers):
            if network.distance(sites[one], sites[other]) is None:
                message = f"no round-trip time is known between the regions of workers {one} and {other}, stages of one model"
                raise located("scenario", [(("cluster", "network"), network.kind, message)])

    def _sites_fit(self, pairs: Iterable[tuple[int, int]]) -> None:
        network = self.cluster.network
        assert network is not None
        for one, other in pairs:
            if network.distance(one, other) is None:
                message = f"no round-trip time is known between sites {one} and {other}, whose workers exchange with each other"
                raise located("scenario", [(("cluster", "network"), network.kind, message)])

    @property
    def metrics(self) -> tuple[str, ...]:
        """The columns of this run's metrics, such as ``test_accuracy``."""
        online = () if self.stream is None else ("online_accuracy",)
        return (*(f"{split}_{metric}" for split in self.evaluate.splits for metric in self.task.metrics), *online)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the metrics table that this run has in addition to those of every run."""
        return (*(COSTS if self.cluster.priced else ()), *self.metrics)

    @property
    def notes(self) -> tuple[str, ...]:
        """The columns of the updates table that the parts of the method add."""
        return self.bundle().notes

    def bundle(self) -> Bundle:
        """The parts of the method, for this fleet and optimiser."""
        return self.method.bundle(self.groups, self.optimizer, self.stages.count)

    @property
    def groups(self) -> int:
        """The number of replicas of the whole model, which is the number of workers that share a shard."""
        return self.cluster.num_workers // self.stages.count

    def cut(self) -> Cut:
        """Where the model is cut, and what each stage costs."""
        return self.stages.cut(self.task)

    @property
    def staged(self) -> bool:
        """Does the run compute passes of stages, rather than gradients of whole models?"""
        return self.stages.count > 1 or Need.PASSES in self.bundle().needs

    def engine_for(self, task: Task) -> EngineSpec:
        """The engine that computes this run."""
        return Serial() if self.staged else self.engine.resolve(task, self.groups)

    @property
    def message_bytes(self) -> float:
        """The size in bytes of the parameters on their way to a worker."""
        if self.message is not None:
            return self.message
        return self.task.num_parameters() * (8 if self.dtype == "float64" else 4)

    @property
    def push_bytes(self) -> float:
        """The size of a push in bytes."""
        return self.message_bytes if self.push is None else self.push

    def document(self) -> dict[str, Any]:
        """Plain data from which an equal scenario can be built."""
        return self.model_dump(mode="json", exclude_none=True)

    def evolve(self, changes: Mapping[str, Any] | None = None, /, **sections: Any) -> Scenario:
        """A changed copy, which is validated anew::

            import asyncsim

            scenario = asyncsim.load_scenario("scenarios/digits_quickstart.yaml")
            larger = scenario.evolve({"cluster.workers": 64}, method="gap_aware", seed=1)

        Keys may be dotted paths; a mapping is merged into what is there, unless it names a ``kind``. Raises
        ``ScenarioError``.
        """
        everything = plain_document(Document({**(changes or {}), **sections}, "evolve")).data
        return build_scenario(Document(merged(self.document(), everything), "evolve"))

    def _repr_html_(self) -> str:
        """For notebooks: the sections that differ from their defaults, as a file would have them."""
        given = self.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        lines = [f"{name}: {json.dumps(value)}" for name, value in given.items()]
        return f"<pre>{escape(chr(10).join(lines))}</pre>"

    @property
    def hash(self) -> str:
        """Ten hexadecimal digits that identify everything except the name, and except when checkpoints are written."""
        document = {key: value for key, value in self.document().items() if key not in ("name", "checkpoint")}
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:10]


def build_scenario(document: Document, overridden: tuple[str, ...] = (), folder: str | None = None) -> Scenario:
    """Validate plain data. Relative paths in it start at ``folder``. Raises ``UserError`` with one line for each problem."""
    document = plain_document(document, overridden)
    return validated(Scenario, document.data, document, overridden, context={"folder": folder})
