"""GBA: global batch gradients aggregation. As many gradients as a synchronous step has make an update; old ones count as zeros::

    the o-th read (from 0) takes the token      q = floor(o / M)                                M = buffer
    M pushes have come, at version k:           w = 1 if k - q <= threshold else 0
        theta <- optimiser(theta, (1 / M) * sum of w * g)                                       the divisor stays M
        by_id:  a row of an embedding  <-  sum of w * g / number of those of weight 1 that touch it

J. Su et al., NeurIPS 2022 (arXiv 2205.11048). From a figure and the abstract: M gradients fill a buffer, workers carry tokens,
and optimiser, rate and global batch are those of synchronous training, so that one can switch without tuning. The weight is
recalled (medium confidence), and the value of the threshold is not known: in part a reconstruction of ours.

Order: the read takes the token and the parameters; the worker reads again at once after its push; the ``M``-th push completes
the update. A gradient of weight 0 fills its place in the buffer, and is never computed. The age ``k - q`` is no staleness: tokens
count reads, versions count updates, and it may be negative.
A gradient touches the rows that it is not zero in. ``by_id`` is the paper's rule for embeddings; by default they are treated like
all else, and the method goes with any task.
Differs from the paper: work that is lost takes its token with it. The samples of an update are those of weight 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from asyncsim.consistency import ASP
from asyncsim.messages import Future, Push, ServerView, Verdict
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.needs import Need
from asyncsim.policies import StepRule, Transform
from asyncsim.policies.accumulate import Group
from asyncsim.policies.mean import mean_push
from asyncsim.policies.step_rule import divided
from asyncsim.policies.transform import policies
from asyncsim.registry import Spec
from asyncsim.simulation.programs import Replica

if TYPE_CHECKING:
    from torch import Tensor


class TokenSettings(Spec):
    """The fields of the transform, and of the method that holds one: pushes an update, the age (updates) up to which a token
    counts (None: any), and whether rows of embeddings are divided by how many gradients touch them."""

    buffer: int = Field(default=4, ge=1)
    threshold: int | None = Field(default=4, ge=0)
    by_id: bool = False


@policies.register("token_buffer")
class TokenBuffer(TokenSettings, Transform):
    """The sum of those of ``buffer`` pushes whose token is at most ``threshold`` updates old, divided by ``buffer``. The token is
    the number of the read over ``buffer``, rounded down, and its age is noted as ``token_age`` (GBA, Su et al. 2022)."""

    needs: ClassVar[Need] = Need.BUFFERS | Need.MEANS
    notes: ClassVar[tuple[str, ...]] = ("token_age",)

    def init(self, params: Tensor | None, num_workers: int) -> Group:
        return Group()

    def update(self, push: Push, state: Group, server: ServerView) -> Push | Verdict:
        push.note("token_age", self.age(push, server))
        state.buffer.append(push)
        if len(state.buffer) < self.buffer:
            return Verdict.BUFFERED
        pushes, state.buffer = state.buffer, []
        late = [self.threshold is not None and self.age(push, server) > self.threshold for push in pushes]
        if any(late) or (self.by_id and server.tables):
            return self.weighed(pushes, late, server)
        return mean_push(pushes) if self.buffer > 1 else push

    def age(self, push: Push, server: ServerView) -> int:
        """Updates made so far, less the token that the push carries."""
        return server.version - push.snapshot.order // self.buffer

    def weighed(self, pushes: list[Push], late: list[bool], server: ServerView) -> Push:
        """The update of ``pushes`` of which those that are ``late`` count as zeros. If all are it is that of the last one."""
        kept = [push for push, old in zip(pushes, late, strict=True) if not old]
        update = mean_push(kept) if len(kept) > 1 else kept[0] if kept else pushes[-1]
        for push, old in zip(pushes, late, strict=True):
            if old and push.payload is not None and push is not update:
                push.payload.discard()
        if not kept:
            update.samples = 0
        if update.payload is not None and not kept:
            update.replaced = server.params.new_zeros(server.params.shape)
        elif update.payload is not None and self.by_id:
            update.replaced, update.penalty = self.by_rows(kept, server), 1.0
        elif update.payload is not None:
            update.replaced = update.gradient * (len(kept) / self.buffer)
        return update

    def by_rows(self, kept: list[Push], server: ServerView) -> Tensor:
        """The sum of gradients over ``buffer``; that of a row of an embedding over how many of them touch it."""
        Future.gather([push.payload for push in kept if push.payload is not None and push.replaced is None])
        gradients = [divided(push) for push in kept]
        total = sum(gradients[1:], start=gradients[0].clone())
        update = total / self.buffer
        for piece, length in server.tables:
            rows = [(each[piece].view(-1, length) != 0).any(dim=1, keepdim=True) for each in gradients]
            touched = sum(rows[1:], start=rows[0].int())
            update[piece] = (total[piece].view(-1, length) / touched.clamp(min=1)).view(-1)
        return update


@methods.register("gba")
class Gba(TokenSettings, Method):
    """GBA, Su et al. 2022, in part our reconstruction: an update is made of ``buffer`` gradients, whoever sent them, of which
    those with an old token count as zeros."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((self.part(TokenBuffer),), optimizer, ASP(), Replica())
