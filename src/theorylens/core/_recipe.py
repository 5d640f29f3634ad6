"""How to train the network again: what random labels, learning curves and learnt priors need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from theorylens.results import Message, Setting

if TYPE_CHECKING:
    from ._subject import Subject

Labels = Sequence[int] | None


@dataclass(frozen=True, eq=False)
class Recipe:
    """A training run that can be repeated.

    Parameters
    ----------
    train
        ``train(*, seed, width=1.0, labels=None, callbacks=()) -> Subject``. The same seed must give the same weights;
        ``labels`` replaces the training labels, ``width`` scales the hidden layers.
    seconds
        About how long one run takes, for planning.
    settings
        Learning rate (``"lr"``), batch size, epochs ... as used; shown in reports.
    """

    train: Callable[..., Subject]
    seconds: float | None = None
    settings: dict[str, Setting] | None = None

    def __call__(
        self, *, seed: int, width: float = 1.0, labels: Any = None, callbacks: Sequence[Callable[..., None]] = ()
    ) -> Subject:
        return self.train(seed=seed, width=width, labels=labels, callbacks=callbacks)


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
