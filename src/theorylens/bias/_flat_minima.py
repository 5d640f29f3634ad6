"""Do small batches and large steps end in flatter places? Sharpness along a run, and over runs that differ in them.

Method   λmax and trace of the Hessian, and λmax of |W| H |W| (adaptive sharpness, which rescaling of layers leaves
         alone), at checkpoints; over runs, the slope of log sharpness on log batch size or log learning rate within
         each seed, with Student's t over seeds
Source   Keskar et al. (2017), ICLR; Kwon et al. (2021), ASAM, ICML
Assumes  runs long enough to have settled: compare the training losses, which are returned beside
Breaks   flatter is not better by itself: sharpness moves without the function moving, and a control decides
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from theorylens.core import Subject, Task, objective, read_state, rng_for
from theorylens.landscape import hessian_trace
from theorylens.numerics.objective import Objective, flatten
from theorylens.numerics.operator import Rescaled
from theorylens.results import Curve, Estimate, Line, Message, Statistical

from ._rescaled import largest_eigenvalue

Floats = NDArray[np.float64]
MEASURES = ("largest", "trace", "adaptive")


@dataclass(frozen=True, kw_only=True)
class Sharpness:
    """Curvature of a loss at one place.

    Attributes
    ----------
    largest, trace, adaptive
        λmax(H), tr H, λmax(|W| H |W|).
    loss
        Training loss there.
    """

    largest: Estimate
    trace: Estimate
    adaptive: Estimate
    loss: float


def sharpness_at(goal: Objective, *, draws: int = 16, seed: int = 0) -> Sharpness:
    """All three of an objective; the same random vectors for every network of a size, so that only networks differ."""
    hessian = goal.hessian()
    weights = flatten(goal.parameters.values()).detach().abs()
    return Sharpness(
        largest=largest_eigenvalue(hessian, rng_for(seed, "bias.sharpness")),
        trace=hessian_trace(goal, draws=draws, generator=rng_for(seed, "bias.sharpness.trace")),
        adaptive=largest_eigenvalue(Rescaled(hessian, weights), rng_for(seed, "bias.sharpness")),
        loss=goal.value,
    )


@dataclass(frozen=True, kw_only=True)
class SharpnessSeries:
    """Curvature along a run, by training step."""

    steps: tuple[int, ...]
    places: tuple[Sharpness, ...]

    def values(self, measure: str) -> Floats:
        """``"largest"``, ``"trace"``, ``"adaptive"`` or ``"loss"``, shape (steps,)."""
        if measure not in (*MEASURES, "loss"):
            raise ValueError(f"measure must be one of {', '.join(MEASURES)}, loss, got {measure!r}")
        found = [getattr(p, measure) for p in self.places]
        return np.array([f.value if isinstance(f, Estimate) else f for f in found], dtype=np.float64)

    def curve(self, lr: float | None = None) -> Curve:
        """Largest eigenvalue and adaptive sharpness by step, with the limit 2 / lr as the theory's line."""
        steps = np.asarray(self.steps, dtype=np.float64)
        lines = [
            Line(x=steps, y=self.values("largest"), name=Message("flat_minima.largest", "largest eigenvalue")),
            Line(x=steps, y=self.values("adaptive"), name=Message("flat_minima.adaptive", "adaptive sharpness")),
        ]
        if lr is not None:
            name = Message("flat_minima.limit", "stability limit 2/lr")
            lines.append(Line(x=steps, y=np.full_like(steps, 2 / lr), name=name, role="theory"))
        return Curve(
            label=Message("flat_minima.figure", "Sharpness of the training loss during training"),
            lines=tuple(lines),
            x_name=Message("flat_minima.step", "step"),
            y_name=Message("flat_minima.sharpness", "sharpness"),
            y_log=bool(min(line.y.min() for line in lines) > 0),
        )


def sharpness_series(
    model: nn.Module, checkpoints: Mapping[int, Any], data: Any, loss: Any, *, draws: int = 16, seed: int = 0
) -> SharpnessSeries:
    """Curvature of the loss over ``data`` at each checkpoint.

    Parameters
    ----------
    model
        Its architecture; it is copied, in evaluation mode.
    checkpoints
        Step to a state dict, a safetensors path, or a callable that returns one.
    """
    if not checkpoints:
        raise ValueError("there are no checkpoints; keep some while training: Keeping(checkpoints=...)")
    task = loss if isinstance(loss, Task) else Task(loss=loss)
    places = []
    for step in sorted(checkpoints):
        other = _copy(model, read_state(checkpoints[step]))
        places.append(sharpness_at(objective(other, data, task), draws=draws, seed=seed))
    return SharpnessSeries(steps=tuple(sorted(checkpoints)), places=tuple(places))


def _copy(model: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    other = copy.deepcopy(model).eval()
    other.load_state_dict(dict(state))
    return other


@dataclass(frozen=True, kw_only=True, eq=False)
class FlatnessPreference:
    """Sharpness over runs that differ in one setting.

    Attributes
    ----------
    values
        The setting of each run in a seed, shape (k,).
    trained, initial
        Measure by seed and setting, shape (seeds, k): after training and before it.
    loss
        Training loss of the trained ones.
    slope
        Mean slope of log sharpness on log setting, with its interval over seeds: 0 is no preference.
    control
        The same before training, where the setting cannot matter.
    measure, setting
        Their names.
    """

    values: Floats
    trained: Floats
    initial: Floats
    loss: Floats
    slope: Estimate
    control: Estimate
    measure: str
    setting: str

    def curve(self) -> Curve:
        """Geometric means over the seeds, before and after training."""
        names = Message("flat_minima.trained", "trained"), Message("flat_minima.initial", "before training")
        return Curve(
            label=Message("flat_minima.preference", "Sharpness where runs end, over the setting they differ in"),
            lines=(
                Line(x=self.values, y=np.exp(np.log(self.trained).mean(0)), name=names[0]),
                Line(x=self.values, y=np.exp(np.log(self.initial).mean(0)), name=names[1], role="init"),
            ),
            x_name=Message("flat_minima.setting", "setting"),
            y_name=Message("flat_minima.sharpness", "sharpness"),
            x_log=True,
            y_log=True,
        )


def flatness_preference(
    train: Callable[[float, int], Subject],
    values: Sequence[float],
    seeds: Sequence[int],
    *,
    measure: str = "largest",
    setting: str = "batch_size",
    rows: int = 512,
    level: float = 0.95,
) -> FlatnessPreference:
    """Train for every setting and seed, and ask whether sharpness goes with the setting.

    Parameters
    ----------
    train
        ``train(value, seed) -> Subject`` with its initial state; ``training.fit(...).subject()`` makes one. The same
        seed must start from the same weights.
    values
        At least 2 different positive settings (batch sizes, learning rates).
    seeds
        At least 3, for an interval.
    measure
        ``"largest"``, ``"trace"`` or ``"adaptive"``.

    Raises
    ------
    ValueError
        Too few values or seeds, an unknown measure, or a sharpness that is not positive and has no logarithm.
    """
    x = np.asarray(values, dtype=np.float64)
    if len(set(x.tolist())) < 2 or not (np.isfinite(x) & (x > 0)).all():
        raise ValueError(f"values must be at least 2 different positive numbers, got {list(values)}")
    if len(set(seeds)) < 3:
        raise ValueError(f"an interval over seeds needs at least 3 of them, got {len(set(seeds))}")
    if measure not in MEASURES:
        raise ValueError(f"measure must be one of {', '.join(MEASURES)}, got {measure!r}")
    trained, initial, losses = (np.zeros((len(seeds), len(x))) for _ in range(3))
    for i, seed in enumerate(seeds):
        for j, value in enumerate(values):
            subject = train(value, seed)
            start = subject.initial()
            if start is None:
                raise ValueError("the subject does not know its initial weights; give init= to Subject")
            for network, table in ((subject, trained), (start.subject, initial)):
                with network.studied():
                    place = sharpness_at(network.objective("train", limit=rows))
                table[i, j] = getattr(place, measure).value
                if network is subject:
                    losses[i, j] = place.loss
    return FlatnessPreference(
        values=x, trained=trained, initial=initial, loss=losses, slope=log_slope(x, trained, level),
        control=log_slope(x, initial, level), measure=measure, setting=setting,
    )  # fmt: skip


def log_slope(x: Floats, y: Floats, level: float = 0.95) -> Estimate:
    """Mean over the rows of ``y`` (seeds, k) of the slope of log y on log ``x`` (k,), with Student's t over rows."""
    if not (np.isfinite(y) & (y > 0)).all():
        raise ValueError(f"{int((~(y > 0)).sum())} of {y.size} values are not positive and have no logarithm")
    centred = np.log(x) - np.log(x).mean()
    slopes = np.log(y) @ centred / (centred @ centred)
    mean, n = float(slopes.mean()), len(slopes)
    half = float(stats.t.ppf((1 + level) / 2, n - 1) * slopes.std(ddof=1) / math.sqrt(n))
    method = Message("flat_minima.interval", "Student's t over {n} seeds", n=n)
    interval = Statistical(lower=mean - half, upper=mean + half, level=level, method=method)
    return Estimate(value=mean, uncertainty=interval)
