"""A character language model on text that needs no download."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from asyncsim.errors import UserError
from asyncsim.tasks.data.arrays import Arrays, Part
from asyncsim.tasks.data.topics import VOCABULARY, topics
from asyncsim.tasks.data_task import AnyModel, DataTask
from asyncsim.tasks.models.text import CharMlp
from asyncsim.tasks.spec import MOST_BATCH, Signature, TextModel, tasks

if TYPE_CHECKING:
    from asyncsim.tasks.objective import Objective


@tasks.register("pydoc_lm")
class PydocLm(DataTask):
    """Predict the next character of Python's language reference (about 470,000 characters, 97 distinct after folding).

    A sample is a window of the model's context. Models that predict one character see a window at every position, models
    that predict all see windows end to end, so that an epoch predicts each character once. The last tenth of the topics
    is the test set, the last ``validation`` of the rest the validation set. Metrics: loss in nats, and bits per character.
    """

    metrics: ClassVar[tuple[str, ...]] = ("loss", "bits_per_char")

    batch: int = Field(default=64, ge=1, le=MOST_BATCH)
    model: AnyModel = CharMlp()

    @property
    def signature(self) -> Signature:
        return Signature("text", (), VOCABULARY)

    def arrays(self) -> Arrays:
        model = self.model
        if not isinstance(model, TextModel):
            raise UserError(f"task.model: `{model.kind}` is not a TextModel, so its context is unknown")
        return _windows(model.context, model.dense)

    def objective(self) -> Objective:
        from asyncsim.tasks.objective import NextCharacter

        return NextCharacter()


@lru_cache(maxsize=4)
def _windows(context: int, dense: bool) -> Arrays:
    train, test, _ = topics()
    shortest = min(len(train), len(test))
    if context >= shortest:
        raise UserError(f"task.model.context: {context} characters are more than the test text has ({shortest}); lower it")
    return Arrays(_part(train, context, dense), _part(test, context, dense), labels=False)


def _part(text: np.ndarray, context: int, dense: bool) -> Part:
    """Windows ``(n, context)`` and what follows them, ``(n, context)`` if dense, else ``(n,)``: views of the text."""
    windows = np.lib.stride_tricks.sliding_window_view(text, context)
    if dense:
        return windows[:-1:context], windows[1::context]
    return windows[:-1], text[context:]
