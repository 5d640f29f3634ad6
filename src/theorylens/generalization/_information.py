"""How much does what was learnt give away about the training examples? Bounds on the expected gap, as a description.

Supersample: n pairs of examples; of each pair one, U_i, is trained on and the other is not. With L_i the losses on pair
i, in [0, 1], and I_i the mutual information between L_i and U_i given all pairs,

    |E[test loss - training loss]| <= (1/n) sum_i E sqrt(2 I_i) <= sqrt(2 sum_i E I_i / n) <= sqrt(2 CMI / n).

First step: the gap of pair i is the mean of (-1)^U_i (L_i1 - L_i0); with U_i drawn anew its mean is 0 and it lies in
[-1, 1], so the change of measure costs sqrt(2 I_i) (Donsker, Varadhan; Hoeffding's lemma). Then Jensen; the U_i are
independent, so sum_i I_i <= I(L; U), at most I(weights; U), the conditional mutual information.

The gap is an expectation over the choice of examples and the training: nothing here says 1 - delta, and the information
is estimated. Nothing here is a certificate.

Source   Xu, Raginsky (2017), NeurIPS; Steinke, Zakynthinou (2020), COLT; Harutyunyan, Raginsky, Ver Steeg, Galstyan
         (2021), NeurIPS (through the answers); Hellstrom, Durisi (2022), NeurIPS (through the losses)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from theorylens.core import Split, Subject, UnsuitableError, global_randomness_kept, key_seed
from theorylens.results import Estimate, Kind, Message, Statistical

from ._answers import answers
from ._asked import whole
from ._learnt_prior import first_rows

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Losses = Callable[[Ints, Ints, int], Floats]
"""``losses(rows, pairs, seed)``: train on ``rows`` (n,), return the losses on ``pairs`` (n, 2), in [0, 1]."""


def xu_raginsky(information: float, n: int, *, sigma: float = 0.5) -> float:
    """Bound sqrt(2 sigma^2 I(weights; sample) / n) on |E[risk - training loss]|, for a sigma-sub-Gaussian loss.

    A loss in [a, b] is (b - a)/2-sub-Gaussian, so 1/2 serves for [0, 1]. Information in nats; infinite for a
    deterministic learner of continuous weights. Not a certificate: it bounds an expectation.

    >>> xu_raginsky(2.0, 100)
    0.1
    """
    _refuse("information", information)
    _refuse("sigma", sigma)
    return sigma * math.sqrt(2 * information / whole("n", n))


def cmi_bound(information: float, n: int) -> float:
    """Bound sqrt(2 CMI / n) on |E[risk - training loss]| for a loss in [0, 1]; CMI in nats, at most n ln 2.

    >>> cmi_bound(0.5, 100)
    0.1
    """
    _refuse("information", information)
    return math.sqrt(2 * information / whole("n", n))


def pair_information(losses: Any, chosen: Any) -> Floats:
    """Mutual information of each pair's losses and of which was trained on, by counting; in nats, shape (n,).

    Exact when the runs list every choice equally often; from a sample of runs it reads high, by about (cells - 1) / 2
    runs.

    Parameters
    ----------
    losses
        Shape (runs, n, 2), of few distinct values such as 0 and 1.
    chosen
        Which of each pair was trained on, 0 or 1, shape (runs, n).

    >>> pair_information([[[0, 1]], [[1, 0]]], [[0], [1]]).round(6).tolist()
    [0.693147]
    """
    values, side = np.asarray(losses, dtype=np.float64), np.asarray(chosen)
    if values.ndim != 3 or values.shape[2] != 2 or side.shape != values.shape[:2] or not values.size:
        raise ValueError(f"losses (runs, n, 2) and choices (runs, n) are needed, got {values.shape} and {side.shape}")
    if not np.isfinite(values).all() or not np.isin(side, (0, 1)).all():
        raise ValueError("losses must be finite and choices 0 or 1")
    _, codes = np.unique(values, return_inverse=True)
    codes = codes.reshape(values.shape)
    cells = codes[..., 0] * (int(codes.max()) + 1) + codes[..., 1]
    return np.asarray([_information(cells[:, i], side[:, i]) for i in range(values.shape[1])])


def _information(cells: Ints, side: Ints) -> float:
    _, place = np.unique(cells, return_inverse=True)
    table = np.zeros((int(place.max()) + 1, 2))
    np.add.at(table, (place, side), 1.0)
    joint = table / table.sum()
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    held = joint > 0
    return max(0.0, math.fsum((joint[held] * np.log(joint[held] / apart[held])).tolist()))


@dataclass(frozen=True, kw_only=True)
class InformationGap:
    """What the supersample experiment found.

    Attributes
    ----------
    gap
        Mean test loss minus training loss, with Student's interval over supersamples.
    bound
        (1/n) sum_i sqrt(2 I_i), averaged over supersamples, with Student's interval: sampling only. Counting runs reads
        information high, so the bound reads high.
    null
        The same number when the choices are shuffled between runs: what counting alone makes of no information.
    information
        sum_i I_i in nats, averaged over supersamples, as counted; at most n ln 2.
    pairs
        n, the number of examples trained on.
    trainings
        How many networks were trained.
    """

    gap: Estimate
    bound: Estimate
    null: float
    information: float
    pairs: int
    trainings: int

    @property
    def kind(self) -> Kind:
        """A description: expectations and estimates carry no confidence about one network."""
        return Kind.DESCRIPTION

    @property
    def reading(self) -> Message:
        """One sentence about the two numbers."""
        values = {
            "gap": self.gap.value, "bound": self.bound.value, "null": self.null, "n": self.pairs,
            "runs": self.trainings,
        }  # fmt: skip
        if 0 < self.bound.value <= 1.5 * self.null:
            text = (
                "Undecided: the losses tell {bound:.3f} of what was trained on, and {null:.3f} with the choices "
                "shuffled; {runs} trainings on {n} examples are too few to see more. The measured gap is {gap:.3f}."
            )
            return Message("information.undecided", text, **values)
        text = (
            "On average the gap is {gap:.3f} on {n} examples, and what the losses give away about the training "
            "examples allows at most about {bound:.3f} ({null:.3f} with the choices shuffled; {runs} trainings). "
            "This is about the mean over trainings, not about one network."
        )
        return Message("information.reading", text, **values)


def conditional_mutual_information(
    losses: Losses, rows: int, pairs: int, *, supersamples: int = 4, runs: int = 16, seed: int = 0, level: float = 0.95
) -> InformationGap:  # fmt: skip
    """Train on one of each pair many times; compare the mean gap with the information the losses carry.

    Every other run swaps all choices of the run before, so each example is trained on in half of the runs.

    Parameters
    ----------
    losses
        See `Losses`; called ``supersamples * runs`` times, with a new seed each.
    rows
        Number of examples to draw the pairs from, at least 2 ``pairs``.
    pairs
        How many examples a training sees.
    supersamples
        How often pairs are drawn, at least 2: intervals are over them.
    runs
        Trainings per supersample, even, at least 4.

    Raises
    ------
    ValueError
        Counts out of range, losses of another shape or outside [0, 1].
    """
    n = whole("pairs", pairs)
    if rows < 2 * n:
        raise ValueError(f"{n} pairs take {2 * n} examples, got {rows}")
    if supersamples < 2 or runs < 4 or runs % 2:
        raise ValueError(
            f"two supersamples and an even number of runs, at least 4, are needed, got {supersamples}, {runs}"
        )
    if not 0 < level < 1:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level}")
    rng = np.random.default_rng(key_seed("supersample", seed))
    gaps, bounds, nulls, nats = [], [], [], []
    for k in range(supersamples):
        table = rng.permutation(rows)[: 2 * n].reshape(n, 2)
        half = rng.integers(2, size=(runs // 2, n))
        chosen = np.stack([half, 1 - half], 1).reshape(runs, n)
        seeds = [key_seed("supersample run", seed, k, r) % 2**31 for r in range(runs)]
        found = [_checked(losses(_picked(table, u), table, s), n) for u, s in zip(chosen, seeds, strict=True)]
        measured = np.stack(found)
        trained, other = _picked(measured, chosen), _picked(measured, 1 - chosen)
        gaps.append(float((other - trained).mean()))
        information = pair_information(measured, chosen)
        shuffled = pair_information(measured, rng.permuted(chosen, axis=0))
        nats.append(float(information.sum()))
        bounds.append(float(np.sqrt(2 * information).mean()))
        nulls.append(float(np.sqrt(2 * shuffled).mean()))
    return InformationGap(
        gap=_student(gaps, level), bound=_student(bounds, level), null=float(np.mean(nulls)),
        information=float(np.mean(nats)), pairs=n, trainings=supersamples * runs,
    )  # fmt: skip


def information_gap(
    subject: Subject, *, pairs: int | None = None, supersamples: int = 2, runs: int = 16, seed: int = 0
) -> InformationGap:  # fmt: skip
    """`conditional_mutual_information` of the recipe of ``subject`` with its 0-1 error, on its training rows.

    Parameters
    ----------
    pairs
        By default half of the independent training units: the recipe then sees half of them.

    Raises
    ------
    RefusedError
        The recipe cannot train on part of the data.
    UnsuitableError
        There is no recipe, or the error is not 0 or 1.
    """
    if subject.recipe is None:
        text = "the experiment trains again, which takes a recipe; give recipe=Recipe(train) to Subject"
        raise UnsuitableError(Message("information.no_recipe", text))
    recipe, split, found = subject.recipe, subject.split("train"), answers(subject, "train")
    if not found.binary:
        text = "information is counted from right and wrong; this task has {error}"
        raise UnsuitableError(Message("information.not_binary", text, error=subject.judged.error_name))
    units = np.asarray(first_rows(split, found.rows.numpy()), dtype=np.int64)

    def losses(rows: Ints, table: Ints, run: int) -> Floats:
        with global_randomness_kept():
            relative = recipe(seed=run, rows=tuple(sorted(map(int, units[rows]))))
        held = Split(split.take(units[table.ravel()].tolist()))
        errors = answers(replace(relative, test=held), "test").errors
        return np.asarray(errors.numpy().reshape(table.shape), dtype=np.float64)

    n = len(units) // 2 if pairs is None else pairs
    return conditional_mutual_information(losses, len(units), n, supersamples=supersamples, runs=runs, seed=seed)


def _picked(table: Any, side: Ints) -> Any:
    """The entry of each pair that ``side`` names: (..., n, 2) and (..., n) to (..., n)."""
    return np.take_along_axis(np.asarray(table), side[..., None], axis=-1)[..., 0]


def _checked(values: Any, n: int) -> Floats:
    found = np.asarray(values, dtype=np.float64)
    if found.shape != (n, 2) or not ((found >= 0) & (found <= 1)).all():
        raise ValueError(f"losses in [0, 1] of shape ({n}, 2) are needed, got shape {found.shape}")
    return found


def _student(values: list[float], level: float) -> Estimate:
    mean = float(np.mean(values))
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    method = Message("method.supersamples", "Student's t over {count} supersamples", count=len(values))
    return Estimate(
        value=mean, uncertainty=Statistical(lower=mean - half, upper=mean + half, level=level, method=method)
    )  # fmt: skip


def _refuse(name: str, value: float) -> None:
    if not value >= 0:  # also catches NaN
        raise ValueError(f"{name} must be at least 0, got {value}")
