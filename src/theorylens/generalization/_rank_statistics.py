"""Whether a measure orders networks as their generalisation gaps do: over all pairs, along one axis, beyond noise.

Method   Kendall's tau in the sign form of Jiang et al. (ties count 0); psi: its mean over pairs that differ in one axis
         only, averaged over axes; the sign error: the share of pairs ordered wrongly among those whose gaps differ by
         more than two standard errors. Percentile bootstrap over networks, pairs of a network with itself left out
Source   Jiang, Neyshabur, Mobahi, Krishnan, Bengio (2020), ICLR; Dziugaite et al. (2020), NeurIPS (sign error)
Assumes  networks that stand for those that could have been trained in the same way
Breaks   tau over a grid in which one axis moves the gap most rewards whatever grows along that axis: read psi beside it
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from theorylens.core import key_seed
from theorylens.results import Estimate, Message, Statistical, Unknown

from ._conditional_information import conditional_information

Floats = NDArray[np.float64]
LEVEL = 0.95
CLEAR = 2.0  # standard errors by which the gaps of a pair must differ to count as different
CHUNK = 4_000_000  # numbers held at once for the bootstrap


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """How one measure orders the networks.

    Attributes
    ----------
    tau
        Kendall's tau with the gap over all pairs.
    psi
        Mean over axes of tau along that axis; None without axes.
    axes
        Tau over the pairs that differ in this axis only, by axis.
    sign_error
        Share of the pairs with clearly different gaps that the measure orders the other way, ties counting a half;
        None where there is no such pair or no standard error. A coin gets 0.5.
    information
        Of the order of the gaps, what the measure tells beyond any two axes: see `conditional_information`.
    """

    tau: Estimate
    psi: Estimate | None
    axes: dict[str, Estimate]
    sign_error: Estimate | None
    information: float | None = None


def rank_statistics(
    values: Mapping[str, Any],
    gaps: Any,
    *,
    errors: Any = None,
    axes: Mapping[str, Sequence[Any]] | None = None,
    blocks: Sequence[Any] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Ranking]:
    """Rank correlation of every measure with the gap, with intervals over networks.

    Parameters
    ----------
    values
        By name of the measure, shape (networks,); infinities are ordered, NaN is refused.
    gaps
        Shape (networks,), at least 4.
    errors
        Standard errors of the gaps, for the sign error.
    axes
        By name of the axis, the setting of every network; networks that agree in all are never compared along an axis.
    blocks
        What else may differ, such as the seed of every network: along an axis only networks of one block are compared,
        and a block is no axis, for what differs between seeds alone is noise.
    draws, seed
        Bootstrap samples of networks, at least 100; the same for all measures.

    Raises
    ------
    ValueError
        No measure, different lengths, NaN, standard errors below 0, fewer than 4 networks or 100 draws.

    >>> found = rank_statistics({"a": [1.0, 2.0, 3.0, 4.0]}, [1.0, 3.0, 2.0, 4.0], errors=[0.0] * 4)["a"]
    >>> round(found.tau.value, 4), round(found.sign_error.value, 4)
    (0.6667, 0.1667)
    """
    gap = np.asarray(gaps, dtype=np.float64)
    columns = {name: np.asarray(v, dtype=np.float64) for name, v in values.items()}
    _check(columns, gap, draws)
    _check_settings({**(axes or {}), **({} if blocks is None else {"blocks": blocks})}, errors, len(gap))
    n = len(gap)
    i, j = np.triu_indices(n, 1)
    order = _sign(gap[i], gap[j])
    agree = np.stack([_sign(v[i], v[j]) * order for v in columns.values()], 1)  # (pairs, measures)
    parts: list[tuple[str, NDArray[np.bool_]]] = [("tau", np.ones(len(i), dtype=bool))]
    parts += [(f"axis {name}", mask) for name, mask in _one_axis(axes or {}, blocks, i, j).items()]
    if errors is not None:
        spread = np.asarray(errors, dtype=np.float64)
        clear = np.abs(gap[i] - gap[j]) > CLEAR * np.sqrt(spread[i] ** 2 + spread[j] ** 2)
        parts.append(("clear", clear))
    parts = [(name, mask) for name, mask in parts if mask.any()]
    point = {name: agree[mask].mean(0) for name, mask in parts}
    drawn = _bootstrap(agree, parts, n, draws, seed)
    known = [name for name, _ in parts if name.startswith("axis ")]
    if known:
        point["psi"] = np.mean([point[name] for name in known], axis=0)
        along = np.stack([drawn[name] for name in known])
        there = ~np.isnan(along)  # a sample may hold no pair of an axis; one without any pair has no psi
        sums = np.where(there, along, 0.0).sum(0)
        drawn["psi"] = np.where(there.any(0), sums / np.maximum(there.sum(0), 1), np.nan)
    if "clear" in point:  # from agreement in -1 to 1 to a share of wrong orders
        point["clear"], drawn["clear"] = (1 - point["clear"]) / 2, (1 - drawn["clear"]) / 2

    def estimate(name: str, k: int) -> Estimate:
        value, samples = float(point[name][k]), drawn[name][:, k]
        samples = samples[~np.isnan(samples)]
        if len(samples) < draws / 2:
            why = Message("measure.few_pairs", "too few pairs of networks for an interval")
            return Estimate(value=value, uncertainty=Unknown(why=why))
        lower, upper = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        method = Message("measure.bootstrap", "bootstrap over {n} networks, {draws} samples", n=n, draws=draws)
        limits = {"lower": min(float(lower), value), "upper": max(float(upper), value)}
        return Estimate(value=value, uncertainty=Statistical(**limits, level=LEVEL, method=method))

    return {
        measure: Ranking(
            tau=estimate("tau", k), psi=estimate("psi", k) if known else None,
            axes={name.removeprefix("axis "): estimate(name, k) for name in known},
            sign_error=estimate("clear", k) if "clear" in point else None,
            information=conditional_information(columns[measure], gap, axes),
        )
        for k, measure in enumerate(columns)
    }  # fmt: skip


def clear_pairs(gaps: Any, errors: Any) -> tuple[int, int]:
    """Pairs whose gaps differ by more than two standard errors, and all pairs."""
    gap, spread = np.asarray(gaps, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    i, j = np.triu_indices(len(gap), 1)
    clear = np.abs(gap[i] - gap[j]) > CLEAR * np.sqrt(spread[i] ** 2 + spread[j] ** 2)
    return int(clear.sum()), len(i)


def rank_correlation(measure: Any, gap: Any, *, level: float = LEVEL) -> Estimate:
    """Kendall's tau, mean over pairs of sign x sign (ties count 0), with a jackknife interval over networks.

    The 95 % interval covered tau in 93 to 97 % of 2,000 runs for 15 to 60 pairs of correlated normal numbers.

    >>> round(rank_correlation([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0]).value, 4)
    0.6667
    """
    a, b = np.asarray(measure, dtype=np.float64), np.asarray(gap, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or len(a) < 4:
        raise ValueError(f"needed are two lists of at least 4 numbers, got shapes {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("measure and gap must be finite; leave out networks where one is not defined")
    signs = np.sign(a[:, None] - a) * np.sign(b[:, None] - b)
    n = len(a)
    total = signs.sum()
    tau = float(total / (n * (n - 1)))
    without = (total - 2 * signs.sum(1)) / ((n - 1) * (n - 2))
    spread = math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum()))
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * spread
    method = Message("measure.jackknife", "jackknife over {n} networks, Student's t", n=n)
    interval = Statistical(lower=max(-1.0, tau - half), upper=min(1.0, tau + half), level=level, method=method)
    return Estimate(value=tau, uncertainty=interval)


def _bootstrap(
    agree: Floats, parts: list[tuple[str, NDArray[np.bool_]]], n: int, draws: int, seed: int
) -> dict[str, Floats]:
    """By part, shape (draws, measures): means over pairs weighted by how often both networks were drawn."""
    i, j = np.triu_indices(n, 1)
    rng = np.random.default_rng(key_seed(seed, "rank statistics"))
    found: dict[str, list[Floats]] = {name: [] for name, _ in parts}
    left = draws
    while left:
        now = min(left, max(1, CHUNK // len(i)))
        times = rng.multinomial(n, np.full(n, 1 / n), size=now)
        weights = (times[:, i] * times[:, j]).astype(np.float64)
        for name, mask in parts:
            share = weights[:, mask]
            total = share.sum(1, keepdims=True)
            with np.errstate(invalid="ignore"):  # no such pair was drawn
                found[name].append(np.where(total > 0, share @ agree[mask] / total, np.nan))
        left -= now
    return {name: np.concatenate(rows) for name, rows in found.items()}


def _one_axis(
    axes: Mapping[str, Sequence[Any]], blocks: Sequence[Any] | None, i: Any, j: Any
) -> dict[str, NDArray[np.bool_]]:
    """By axis, which pairs differ in it and in no other, within one block."""
    differ = {name: _differ(settings, i, j) for name, settings in axes.items()}
    count = sum((d.astype(int) for d in differ.values()), start=np.zeros(len(i), dtype=int))
    if blocks is not None:
        count = np.where(_differ(blocks, i, j), 0, count)
    return {name: d & (count == 1) for name, d in differ.items()}


def _differ(settings: Sequence[Any], i: Any, j: Any) -> NDArray[np.bool_]:
    first: dict[str, int] = {}
    code = np.array([first.setdefault(repr(s), k) for k, s in enumerate(settings)])
    return np.asarray(code[i] != code[j])


def _sign(a: Floats, b: Floats) -> Floats:
    """Sign of a - b that knows infinities."""
    return (a > b).astype(np.float64) - (a < b)


def _check_settings(settings: Mapping[str, Sequence[Any]], errors: Any, n: int) -> None:
    for name, given in settings.items():
        if len(given) != n:
            raise ValueError(f"{name} has {len(given)} settings for {n} networks; give one each")
    if errors is None:
        return
    spread = np.asarray(errors, dtype=np.float64)
    if spread.shape != (n,) or not (np.isfinite(spread) & (spread >= 0)).all():
        raise ValueError(f"standard errors are {n} finite numbers, at least 0; got shape {spread.shape}")


def _check(columns: Mapping[str, Floats], gap: Floats, draws: int) -> None:
    if not columns:
        raise ValueError("no measure was given, so there is nothing to rank")
    if gap.ndim != 1 or len(gap) < 4 or draws < 100:
        raise ValueError(f"needed are at least 4 networks and 100 draws, got gaps {gap.shape} and {draws} draws")
    for name, value in columns.items():
        if value.shape != gap.shape:
            raise ValueError(f"{name} has shape {value.shape} for {len(gap)} networks; give one number each")
        if np.isnan(value).any():
            raise ValueError(f"{name} is not defined for {int(np.isnan(value).sum())} networks; leave it out, or them")
    if not np.isfinite(gap).all():
        raise ValueError("a gap is not finite; leave out networks that diverged")
