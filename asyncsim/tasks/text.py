"""Language models: the next character, byte or token of a text."""

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from asyncsim.errors import UserError
from asyncsim.paths import ScenarioPath
from asyncsim.tasks.data import tokens
from asyncsim.tasks.data.arrays import Arrays, Part
from asyncsim.tasks.data.topics import VOCABULARY, topics
from asyncsim.tasks.data_task import AnyModel, DataTask
from asyncsim.tasks.models.text import CharMlp, Transformer
from asyncsim.tasks.spec import MOST_BATCH, Signature, TextModel, tasks

if TYPE_CHECKING:
    from asyncsim.tasks.objective import Objective

MOST_NUMBERS = 10**9
"""Of all windows of a text together."""


class TextTask(DataTask):
    """Predict what comes next in a text. A sample is a window of the model's context. Models that predict one symbol see a window
    at every position, models that predict all see windows end to end, so that an epoch predicts each symbol once."""

    batch: int = Field(default=64, ge=1, le=MOST_BATCH)

    @abstractmethod
    def text(self) -> tokens.Text:
        """The text as numbers below ``signature.outputs``; the same object each time."""

    def arrays(self) -> Arrays:
        model = self.model
        if not isinstance(model, TextModel):
            raise UserError(f"task.model: `{model.kind}` is not a TextModel, so its context is unknown")
        return _windows(self.text(), model.context, model.dense)


@tasks.register("pydoc_lm")
class PydocLm(TextTask):
    """Predict the next character of Python's language reference (about 470,000 characters, 97 distinct after folding).

    The last tenth of the topics is the test set, the last ``validation`` of the rest the validation set. Metrics: loss in nats,
    and bits per character.
    """

    metrics: ClassVar[tuple[str, ...]] = ("loss", "bits_per_char")

    model: AnyModel = CharMlp()

    @property
    def signature(self) -> Signature:
        return Signature("text", (), VOCABULARY)

    def text(self) -> tokens.Text:
        return _characters()

    def objective(self) -> Objective:
        from asyncsim.tasks.objective import NextCharacter

        return NextCharacter()


@tasks.register("token_lm")
class TokenLm(TextTask):
    """Predict the next byte of a text, or the next token of a ``vocabulary`` (256 bytes and the tokens of a file).

    ``file`` is any file of bytes, plain or in gzip, of which the last share ``test`` is the test set; without it the text is
    Python's language reference, divided as in `pydoc_lm`. Metrics: loss in nats a token, and the perplexity ``exp(loss)``. Of two
    vocabularies they cannot be compared, as one has longer tokens.
    """

    metrics: ClassVar[tuple[str, ...]] = ("loss", "perplexity")

    model: AnyModel = Transformer()
    file: ScenarioPath | None = None
    vocabulary: tokens.Vocabulary | None = None
    test: float = Field(default=0.1, gt=0, lt=1)

    @property
    def signature(self) -> Signature:
        return Signature("text", (), self.vocabulary.size if self.vocabulary else tokens.BYTES)

    def text(self) -> tokens.Text:
        return tokens.load(self.file, self.test, self.vocabulary)

    def objective(self) -> Objective:
        from asyncsim.tasks.objective import NextToken

        return NextToken()


@lru_cache(maxsize=1)
def _characters() -> tokens.Text:
    return tokens.Text(*topics()[:2])


@lru_cache(maxsize=4)
def _windows(text: tokens.Text, context: int, dense: bool) -> Arrays:
    shortest = min(len(text.train), len(text.test))
    if context >= shortest:
        part = "test" if shortest == len(text.test) else "training"
        raise UserError(f"task.model.context: {context} symbols are more than the {part} text has ({shortest}); lower it")
    if not dense and len(text.train) * context > MOST_NUMBERS:
        raise UserError(f"task.model: a window at each of {len(text.train):,} positions, of {context} symbols each, is too much; "
                        "take a shorter text, or a model that predicts at every position (`transformer`)")  # fmt: skip
    return Arrays(_part(text.train, context, dense), _part(text.test, context, dense), labels=False)


def _part(text: np.ndarray, context: int, dense: bool) -> Part:
    """Windows ``(n, context)`` and what follows them, ``(n, context)`` if dense, else ``(n,)``: views of the text."""
    windows = np.lib.stride_tricks.sliding_window_view(text, context)
    if dense:
        return windows[:-1:context], windows[1::context]
    return windows[:-1], text[context:]
