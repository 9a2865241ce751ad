"""Transforms: treatments of an arriving push."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.needs import Need
from asyncsim.policies.state import State
from asyncsim.policies.step_rule import StepRule
from asyncsim.registry import PAPERS, Registry, Spec

if TYPE_CHECKING:
    from torch import Tensor

policies: Registry[Transform] = Registry("policy", home=PAPERS)

Shapes = tuple[tuple[int, ...], ...]
"""The shapes of the parameter tensors of a message, in their order in the flat vector."""


class Transform(Spec):
    """One treatment of a push. Its hyper-parameters are its fields; all that changes during a run lives in the ``state`` that
    ``init`` makes.

    ``needs`` declares what it looks at and what it does. One that looks at numbers (``Need.VALUES``) and decides nothing is
    left out when the timeline alone is simulated. One that returns a verdict has to declare ``Need.DROPS`` or
    ``Need.BUFFERS``. If it does both, the timeline depends on numbers, and its method cannot be planned.
    """

    needs: ClassVar[Need] = Need.NOTHING
    notes: ClassVar[tuple[str, ...]] = ()
    """Names of the numbers that it notes for each push (``push.note``); they are columns of the updates table."""

    @property
    def history(self) -> int:
        """The number of versions before the newest that it asks for (``server.path``), if it declares ``Need.HISTORY``."""
        return 0

    def fits(self, step: StepRule) -> None:
        """Raise ``ValueError`` if this transform cannot stand in front of that step rule."""

    def amplifies_rounding(self, step: StepRule) -> bool:
        """Does it make differences as small as a rounding large in the course of a run in front of that step rule, whatever the
        task? Then runs of one scenario on different engines, devices or builds are comparable by statistics over seeds only."""
        return False

    def init(self, params: Tensor | None, num_workers: int) -> State:
        """The state at the start, for parameters of shape ``(P,)``."""
        return State()

    def update(self, push: Push, state: Any, server: ServerView) -> Push | Verdict:
        """Return the push, changed or replaced, for the next transform; or a verdict, if it ends here."""
        raise NotImplementedError

    def launched(self, push: Push, state: Any, server: ServerView) -> Push | None:
        """Called when a push is launched, which is sent while its worker goes on (``overlap``), if the transform declares
        ``Need.LAUNCHES``: the push that is to be applied at this moment, before the worker reads again, or None. The one that is
        launched comes to ``update`` when it arrives."""
        return None

    def forget(self, worker: int, state: Any) -> None:
        """Called when ``worker`` has gone down: what it knew itself of all that ``state`` holds is lost."""

    def applied(self, direction: Tensor, state: Any, server: ServerView) -> None:
        """Called after every update ``params <- params - lr * direction``; ``direction`` has shape ``(P,)``."""

    def view(self, params: Tensor, state: Any, server: ServerView, worker: int) -> Tensor:
        """What ``worker`` is handed if it reads now, shape ``(P,)``, in place of ``params``, which the step rule and the
        transforms before this one would hand out. It is made once a version, for all workers (``worker`` is -1), unless the
        transform declares ``Need.WORKER_VIEW``."""
        return params

    def nbytes(self, nbytes: float, numbers: int) -> float:
        """Bytes of a message of ``numbers`` numbers after this transform, which had ``nbytes`` before it.

        The message is a push where the transform works at the worker (``uplink``), and what is handed out where it is part
        of the ``downlink``.
        """
        return nbytes

    def layered_bytes(self, nbytes: float, shapes: Shapes) -> float:
        """The same of a message whose parameter tensors have these shapes; by default ``nbytes`` of all their numbers. A
        transform that treats every tensor by itself defines this in place of ``nbytes``."""
        return self.nbytes(nbytes, sum(map(math.prod, shapes)))

    def sent_bytes(self, push: Push, nbytes: float, numbers: int) -> float:
        """Bytes of this very push, which has been through ``update``: asked in place of ``nbytes`` as the push is sent, where a
        transform of the ``uplink`` declares ``Need.SIZES``."""
        return self.nbytes(nbytes, numbers)

    def sub_model(self, share: float, state: Any, server: ServerView, worker: int) -> Tensor | None:
        """The parameters, shape ``(P,)`` bool, that ``worker`` is handed now, as it is to train this ``share`` of the neurons
        (``Need.SUB_MODELS``); the others are zero in its snapshot. None: this transform makes no sub-models."""
        return None

    def cost(self, share: float, shapes: Shapes) -> float:
        """The compute time, and the bytes of a message in each direction, of a worker that is to train this ``share`` of the
        neurons , over those of the whole model, whose parameter tensors have these shapes. A transform that
        makes sub-models defines it; it raises ``ValueError`` where it cannot make any of this model."""
        return 1.0

    def handed(self, view: Tensor, state: Any, server: ServerView, worker: int) -> None:
        """Called after ``worker`` has been handed ``view``, shape ``(P,)``, if the transform declares ``Need.WORKER_VIEW``. It
        lets the server keep a record of what each worker holds."""

    def late_view(self, params: Tensor, state: Any, server: ServerView) -> Tensor:
        """The parameters, shape ``(P,)``, that a late backward pass uses instead of those of its forward pass."""
        return params

    def totals(self, updates: int) -> dict[str, float]:
        """Numbers for the summary of a run with so many updates that follow from the settings of this transform alone, by
        name."""
        return {}

    def settle(self, state: Any, server: ServerView) -> Push | None:
        """Called when a worker has left for good, and at the time that ``closes`` gave: the push that a buffer passes on
        because of that, or None."""
        return None

    def closes(self, state: Any) -> int | None:
        """The virtual time (ns) at which ``settle`` is to be called, whatever arrives until then; None if there is no such
        time.

        It is asked after every arrival, if the transform declares ``Need.CLOSES``.
        """
        return None
