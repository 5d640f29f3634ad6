"""Early stopping: when to stop, and which weights to keep.

Source   Prechelt (1998), Early stopping - but when?, in Neural Networks: Tricks of the Trade (criteria GL, PQ, UP)
Assumes  a validation split that serves for nothing else: its loss at the best epoch is a minimum picked from noise and
         reads low; a certificate needs further examples
Breaks   the loss of a small split turns by chance: patience trades training time for that
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

Losses = Sequence[float]
Rule = Callable[[Losses, Losses], bool]
"""``rule(validation, training)``: whether to stop after the last of these epochs. Lower is better in both."""
NaNPolicy = Literal["raise", "stop", "worse"]


def patience(epochs: int, min_delta: float = 0.0) -> Rule:
    """Stop when the best loss was not beaten by more than ``min_delta`` for ``epochs`` epochs.

    Raises
    ------
    ValueError
        ``epochs`` below 1, or a negative ``min_delta``.
    """
    _at_least_one("patience", epochs)
    _not_negative("min_delta", min_delta)

    def rule(validation: Losses, training: Losses) -> bool:
        del training
        return len(validation) - 1 - best_epoch(validation, min_delta) >= epochs

    return rule


def generalisation_loss(limit: float) -> Rule:
    """Prechelt's GL: stop when the loss lies more than ``limit`` per cent above its lowest value."""
    _positive("limit", limit)

    def rule(validation: Losses, training: Losses) -> bool:
        del training
        return relative_rise(validation) > limit

    return rule


def progress_quotient(limit: float, strip: int = 5) -> Rule:
    """Prechelt's PQ: stop when GL exceeds ``limit`` times the training progress of the last ``strip`` epochs.

    Judged at the end of every strip. Progress is how far the mean training loss of the strip lies above its minimum,
    in per mille: while training makes fast progress, a rise of the validation loss may still be repaired.
    """
    _positive("limit", limit)
    _at_least_one("strip", strip)

    def rule(validation: Losses, training: Losses) -> bool:
        if len(training) != len(validation):
            raise ValueError(
                f"this rule needs the training loss of every epoch: {len(training)} for {len(validation)} epochs"
            )
        if len(validation) % strip:
            return False
        # A strip without any progress stops at the first rise: the quotient is then infinite.
        return relative_rise(validation) > limit * training_progress(training, strip)

    return rule


def successive_rises(strips: int, strip: int = 5) -> Rule:
    """Prechelt's UP: stop when the validation loss rose over each of the last ``strips`` strips of ``strip`` epochs."""
    _at_least_one("strips", strips)
    _at_least_one("strip", strip)

    def rule(validation: Losses, training: Losses) -> bool:
        del training
        ends = list(validation)[strip - 1 :: strip]
        if len(validation) % strip or len(ends) <= strips:
            return False
        return all(ends[-i] > ends[-i - 1] for i in range(1, strips + 1))

    return rule


def relative_rise(validation: Losses) -> float:
    """Prechelt's GL(t): how far the last loss lies above the lowest so far, in per cent.

    Raises
    ------
    ValueError
        A loss that is not positive: a percentage of it means nothing.
    """
    lowest = min(validation)
    if not lowest > 0:
        raise ValueError(f"a relative rise needs positive losses, got {lowest}; use patience instead")
    return 100 * (validation[-1] / lowest - 1)


def training_progress(training: Losses, strip: int) -> float:
    """Prechelt's P_k(t): mean over minimum of the training loss in the last ``strip`` epochs, less 1, in per mille."""
    last = np.asarray(training[-strip:], dtype=np.float64)
    if len(last) < strip or not (last > 0).all():
        raise ValueError(f"training progress needs {strip} positive training losses, got {last.tolist()}")
    return float(1000 * (last.mean() / last.min() - 1))


def best_epoch(losses: Losses, min_delta: float = 0.0) -> int:
    """The last epoch that beat the best before it by more than ``min_delta``, from 0; NaN beats nothing."""
    best, at = math.inf, 0
    for epoch, loss in enumerate(losses):
        if loss < best - min_delta:
            best, at = loss, epoch
    return at


class EarlyStopping:
    """Decides after each epoch whether to stop, and keeps the best weights.

    Parameters
    ----------
    rule
        `patience`, `generalisation_loss`, `progress_quotient`, `successive_rises`, or a function of both lists.
    mode
        ``"min"`` for a loss, ``"max"`` for an accuracy.
    min_delta
        By how much a value must beat the best so far to count as better.
    nan
        What a value that is not a number does: ``"raise"``, ``"stop"`` at once, or count as ``"worse"`` than any.

    Attributes
    ----------
    best_epoch, best_value
        From 0; None before the first update.
    stopped_epoch
        Where the rule said stop; None while it has not.

    >>> stopping = EarlyStopping(patience(2))
    >>> [stopping.update(v) for v in (1, 0.5, 0.6, 0.7)], stopping.best_epoch, stopping.stopped_epoch
    ([False, False, False, True], 1, 3)
    """

    def __init__(
        self, rule: Rule, *, mode: Literal["min", "max"] = "min", min_delta: float = 0.0, nan: NaNPolicy = "raise"
    ) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', got {mode!r}")
        if nan not in ("raise", "stop", "worse"):
            raise ValueError(f"nan must be 'raise', 'stop' or 'worse', got {nan!r}")
        _not_negative("min_delta", min_delta)
        self._rule, self._sign, self._min_delta, self._nan = rule, (1.0 if mode == "min" else -1.0), min_delta, nan
        self._validation: list[float] = []
        self._training: list[float] = []
        self._state: dict[str, Any] | None = None
        self.best_epoch: int | None = None
        self.best_value: float | None = None
        self.stopped_epoch: int | None = None

    def update(self, value: float, *, training: float | None = None, model: nn.Module | None = None) -> bool:
        """Take in the value of one more epoch; whether to stop now.

        Parameters
        ----------
        value
            Validation loss (or accuracy) after the epoch.
        training
            Training loss, for `progress_quotient`.
        model
            Its weights are copied whenever the value is the best so far.

        Raises
        ------
        ValueError
            A value that is not a number, unless ``nan`` allows it.
        RuntimeError
            After the rule said stop.
        """
        if self.stopped_epoch is not None:
            raise RuntimeError(f"stopped at epoch {self.stopped_epoch} already; make a new EarlyStopping to go on")
        epoch = len(self._validation)
        number = float(value)
        if math.isnan(number) and self._nan == "raise":
            raise ValueError(f"the value of epoch {epoch} is nan; look at the run, or choose nan='stop' or 'worse'")
        self._validation.append(math.inf if math.isnan(number) else self._sign * number)
        if training is not None:
            self._training.append(float(training))
        if best_epoch(self._validation, self._min_delta) == epoch and not math.isnan(number):
            self.best_epoch, self.best_value = epoch, number
            self._state = None if model is None else copy.deepcopy(model.state_dict())
        if (math.isnan(number) and self._nan == "stop") or self._rule(self._validation, self._training):
            self.stopped_epoch = epoch
        return self.stopped_epoch is not None

    def restore(self, model: nn.Module) -> None:
        """Give ``model`` the weights of the best epoch.

        Raises
        ------
        RuntimeError
            No weights were given to `update` at that epoch.
        """
        if self._state is None:
            raise RuntimeError("no weights of the best epoch are kept; pass model= to update()")
        model.load_state_dict(self._state)


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """Where a rule would have stopped a finished run.

    Attributes
    ----------
    best_epoch
        Of the epochs up to the stop, from 0: the weights to keep.
    stopped_epoch
        None when the rule never said stop.
    """

    best_epoch: int
    stopped_epoch: int | None


def early_stop(
    validation: Losses | NDArray[np.float64],
    rule: Rule,
    *,
    training: Losses | NDArray[np.float64] | None = None,
    mode: Literal["min", "max"] = "min",
    min_delta: float = 0.0,
    nan: NaNPolicy = "raise",
) -> Stopped:
    """Where ``rule`` would have stopped a run with these values.

    Raises
    ------
    ValueError
        No values, lists of different lengths, and what `EarlyStopping` refuses.

    >>> early_stop([1.0, 0.5, 0.6, 0.7, 0.8], patience(2))
    Stopped(best_epoch=1, stopped_epoch=3)
    """
    if len(validation) == 0:
        raise ValueError("there are no values; give the validation loss of each epoch")
    if training is not None and len(training) != len(validation):
        raise ValueError(f"{len(training)} training losses for {len(validation)} epochs; give one each")
    stopping = EarlyStopping(rule, mode=mode, min_delta=min_delta, nan=nan)
    for epoch, value in enumerate(validation):
        if stopping.update(float(value), training=None if training is None else float(training[epoch])):
            break
    if stopping.best_epoch is None:
        raise ValueError("no value is a number, so there is no best epoch")
    return Stopped(best_epoch=stopping.best_epoch, stopped_epoch=stopping.stopped_epoch)


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def _not_negative(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be zero or more, got {value}")


def _positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a positive number, got {value}")
