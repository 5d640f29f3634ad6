"""How to train the network again: what random labels, learning curves and learnt priors need."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from theorylens.results import Message, Setting

from ._errors import RefusedError

if TYPE_CHECKING:
    from ._subject import Subject

Labels = Sequence[int] | None


@dataclass(frozen=True, eq=False)
class Recipe:
    """A training run that can be repeated.

    Parameters
    ----------
    train
        ``train(*, seed, width=1.0, labels=None, rows=None, callbacks=()) -> Subject``. The same seed must give the same
        weights; ``labels`` replaces the training labels, ``width`` scales the hidden layers, ``rows`` (numbers of rows
        of the training split) says which examples may be seen at all. Only what is asked for is passed, so a function
        without ``rows`` serves everything but experiments on part of the data.
    seconds
        About how long one run takes, for planning.
    settings
        Learning rate (``"lr"``), batch size, epochs ... as used; shown in reports.
    """

    train: Callable[..., Subject]
    seconds: float | None = None
    settings: dict[str, Setting] | None = None

    def __call__(
        self, *, seed: int, width: float = 1.0, labels: Any = None, rows: Any = None,
        callbacks: Sequence[Callable[..., None]] = (),
    ) -> Subject:  # fmt: skip
        """Train once more.

        Raises
        ------
        RefusedError
            ``rows`` are given and ``train`` cannot take them.
        """
        if rows is None:
            return self.train(seed=seed, width=width, labels=labels, callbacks=callbacks)
        if not self.takes_rows:
            raise RefusedError(
                "the recipe cannot train on part of the data: its function has no argument rows; give it "
                "train(*, seed, width=1.0, labels=None, rows=None, callbacks=()) and use only those training rows"
            )
        return self.train(seed=seed, width=width, labels=labels, rows=rows, callbacks=callbacks)

    @property
    def takes_rows(self) -> bool:
        """Whether ``train`` can be told which training rows to use."""
        known = inspect.signature(self.train).parameters.values()
        return any(p.name == "rows" or p.kind is p.VAR_KEYWORD for p in known)


@dataclass(frozen=True, kw_only=True)
class Initial:
    """The network before training, and whether that is known or a stand-in."""

    subject: Subject
    own: bool

    @property
    def name(self) -> Message:
        if self.own:
            return Message("control.init", "random initialisation")
        return Message("control.default_init", "default initialisation, not yours")
