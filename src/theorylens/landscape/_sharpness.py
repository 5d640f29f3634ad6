"""Sharpness of every kind by name, and which kinds a rescaling of layers moves although the function stays.

Source   Dinh, Pascanu, Bengio, Bengio (2017), Sharp minima can generalize for deep nets, ICML; each measure's own file
Assumes  nothing beyond the measure that is asked for
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from torch import nn

from theorylens.core import Task, studied
from theorylens.results import Estimate, Exact, Message, Table

from ._curvature import eigenvalues
from ._density import SpectralDensity, spectral_density
from ._expected_sharpness import expected_sharpness
from ._flatness import FLAT
from ._relative_flatness import relative_flatness
from ._rescaling import UNMOVED, rescaled
from ._shards import fisher_rao_norm, m_sharpness
from ._tolerated_radius import pac_bayes_sharpness
from ._trace import trace
from ._worst_case import keskar_sharpness, worst_case_sharpness


@dataclass(frozen=True, kw_only=True, eq=False)
class SharpnessKind:
    """A measure of sharpness.

    Attributes
    ----------
    name
        In tables.
    measure
        ``measure(model, data, loss, **options)``, an `Estimate`.
    invariant
        Whether it stays when two layers of a network of positively homogeneous layers are rescaled against each other.
    options
        What it takes besides; those without a default first.
    needed
        Those without a default.
    """

    name: Message
    measure: Callable[..., Estimate]
    invariant: bool
    options: tuple[str, ...]
    needed: tuple[str, ...]


def sharpness(model: nn.Module, data: Any, loss: Any, kind: str = "expected", **options: Any) -> Estimate:
    """Sharpness of a loss at a network's parameters, of any `SHARPNESS_KINDS`.

    Parameters
    ----------
    model, data, loss
        As in `eigenvalues`.
    kind
        ``"expected"`` (`expected_sharpness`), ``"adaptive"`` (the same, noise in proportion to each weight),
        ``"worst_case"`` and ``"adaptive_worst_case"`` (`worst_case_sharpness`), ``"m_sharpness"``, ``"keskar"``,
        ``"pac_bayes"`` and ``"adaptive_pac_bayes"`` (`pac_bayes_sharpness`), ``"fisher_rao"`` (`fisher_rao_norm`),
        ``"relative_flatness"``, ``"largest_eigenvalue"``, ``"trace"``, ``"effective_rank"``, ``"log_volume"``.
        More is sharper for all but ``"effective_rank"``, which says over how many directions curvature is spread.
    options
        Those of the measure: ``radius`` for the first five, ``m`` for ``"m_sharpness"``, ``rise`` for PAC-Bayes, ...

    Raises
    ------
    ValueError
        An unknown kind, an option that the kind does not have, one that it needs and that is missing.

    >>> import torch
    >>> rows = torch.tensor([[2.0, 0.0], [0.0, 20.0]]), torch.zeros(2, 1)  # Hessian diag(4, 400), at its minimum
    >>> net = nn.Linear(2, 1, bias=False)
    >>> _ = net.load_state_dict({"weight": torch.zeros(1, 2)})
    >>> round(sharpness(net, rows, "mse", "worst_case", radius=0.1).value, 5)
    2.0
    """
    found = SHARPNESS_KINDS.get(kind)
    if found is None:
        raise ValueError(f"kind must be one of {', '.join(SHARPNESS_KINDS)}, got {kind!r}")
    if unknown := sorted(set(options) - set(found.options)):
        raise ValueError(f"kind {kind!r} has no option {', '.join(unknown)}; it takes {', '.join(found.options)}")
    if missing := [name for name in found.needed if name not in options]:
        raise ValueError(f"kind {kind!r} needs {', '.join(missing)}; it takes {', '.join(found.options)}")
    return found.measure(model, data, loss, **options)


def rescaling_table(
    model: nn.Module,
    data: Any,
    loss: Any,
    *,
    kinds: Iterable[str] | None = None,
    factor: float = 4.0,
    options: Mapping[str, Any] | None = None,
) -> Table:
    """Sharpness of several kinds before and after a rescaling of layers that changes no output.

    What moves cannot by itself say anything about the function, its generalisation least of all.

    Parameters
    ----------
    kinds
        Of `SHARPNESS_KINDS`; all when None.
    factor
        By which a layer is multiplied and the next one divided, as in `rescaled`.
    options
        Passed on to those kinds that have them; ``radius=0.05`` and ``m=16`` unless given.

    Raises
    ------
    RefusedError
        No two layers of this network can be rescaled without changing its outputs.
    ValueError
        As `sharpness`.
    """
    given = {"radius": 0.05, "m": 16, **(options or {})}
    task = loss if isinstance(loss, Task) else Task(loss=loss)
    other = rescaled(model, data, factor=factor, task=task)
    rows = []
    for kind in SHARPNESS_KINDS if kinds is None else kinds:
        known = SHARPNESS_KINDS[kind].options if kind in SHARPNESS_KINDS else ()
        values = []
        for network in (model, other.model):
            with studied(network):
                found = sharpness(network, data, loss, kind, **{k: v for k, v in given.items() if k in known})
            values.append(found.value)
        before, after = values
        same = abs(after - before) <= UNMOVED * max(abs(before), abs(after))
        stays = Message("sharpness.stays", "stays") if same else Message("sharpness.moves", "moves")
        rows.append((SHARPNESS_KINDS[kind].name, before, after, stays))
    label = "Sharpness before and after a rescaling of {pairs} pairs of layers by {factor:.3g} that changes no output"
    return Table(
        label=Message("sharpness.table", label, pairs=len(other.pairs), factor=factor),
        columns=(
            Message("sharpness.table.kind", "measure"), Message("sharpness.table.before", "before"),
            Message("sharpness.table.after", "after"), Message("sharpness.table.says", "the number"),
        ),
        rows=tuple(rows),
    )  # fmt: skip


def _worst(model: nn.Module, data: Any, loss: Any, **options: Any) -> Estimate:
    return worst_case_sharpness(model, data, loss, **options).estimate


def _fisher_rao(model: nn.Module, data: Any, loss: Any) -> Estimate:
    return Estimate(value=fisher_rao_norm(model, data, loss), uncertainty=Exact())


def _largest(model: nn.Module, data: Any, loss: Any, **options: Any) -> Estimate:
    return eigenvalues(model, data, loss, k=1, **options).estimate()


def _rank(model: nn.Module, data: Any, loss: Any, **options: Any) -> Estimate:
    return spectral_density(model, data, loss, **options).effective_rank


def _volume(model: nn.Module, data: Any, loss: Any, *, damping: float | None = None, **options: Any) -> Estimate:
    """Damping by default a thousandth of the largest |eigenvalue|, as in `curvature_summary`."""
    found = spectral_density(model, data, loss, **options)
    return found.log_volume(damping if damping is not None else FLAT * _size(found))


def _size(found: SpectralDensity) -> float:
    return max(abs(float(found.ends.top.values[0])), abs(float(found.ends.bottom.values[0]))) or 1.0


def _kind(
    name: Message,
    measure: Callable[..., Estimate],
    like: Callable[..., Any],
    *,
    invariant: bool,
    without: Iterable[str] = (),
    extra: Iterable[str] = (),
) -> SharpnessKind:
    """A kind with the options of ``like``, less those that are settled."""
    taken = inspect.signature(like).parameters.values()
    own = [p for p in taken if p.kind is p.KEYWORD_ONLY and p.name not in without]
    own.sort(key=lambda p: p.default is not p.empty)
    needed = tuple(p.name for p in own if p.default is p.empty)
    return SharpnessKind(
        name=name, measure=measure, invariant=invariant, options=(*(p.name for p in own), *extra), needed=needed
    )  # fmt: skip


SHARPNESS_KINDS: Mapping[str, SharpnessKind] = MappingProxyType({
    "expected": _kind(
        Message("sharpness.expected", "expected rise under noise"), expected_sharpness, expected_sharpness,
        invariant=False,
    ),
    "adaptive": _kind(
        Message("sharpness.adaptive", "expected rise under noise in proportion to each weight"),
        partial(expected_sharpness, scale="weight"), expected_sharpness, invariant=True, without=("scale",),
    ),
    "worst_case": _kind(
        Message("sharpness.worst", "largest rise within a ball"), _worst, worst_case_sharpness, invariant=False,
    ),
    "adaptive_worst_case": _kind(
        Message("sharpness.adaptive_worst", "largest rise within a ball in units of each weight"),
        partial(_worst, scale="weight"), worst_case_sharpness, invariant=True, without=("scale",),
    ),
    "m_sharpness": _kind(
        Message("sharpness.shards", "largest rise within a ball, shard by shard"), m_sharpness, m_sharpness,
        invariant=False,
    ),
    "keskar": _kind(
        Message("sharpness.keskar", "largest rise within Keskar's box, per cent"), keskar_sharpness, keskar_sharpness,
        invariant=False,
    ),
    "pac_bayes": _kind(
        Message("sharpness.pac_bayes", "inverse variance of the noise that is tolerated"), pac_bayes_sharpness,
        pac_bayes_sharpness, invariant=False,
    ),
    "adaptive_pac_bayes": _kind(
        Message("sharpness.adaptive_pac_bayes", "inverse variance of the tolerated noise in units of each weight"),
        partial(pac_bayes_sharpness, scale="weight"), pac_bayes_sharpness, invariant=True, without=("scale",),
    ),
    "fisher_rao": _kind(
        Message("sharpness.fisher_rao", "Fisher-Rao norm"), _fisher_rao, fisher_rao_norm, invariant=True
    ),
    "relative_flatness": _kind(
        Message("sharpness.relative", "relative flatness of the last layer"), relative_flatness, relative_flatness,
        invariant=True,
    ),
    "largest_eigenvalue": _kind(
        Message("sharpness.largest", "largest Hessian eigenvalue"), _largest, eigenvalues, invariant=False,
        without=("k", "which"),
    ),
    "trace": _kind(Message("sharpness.trace", "Hessian trace"), trace, trace, invariant=False),
    "effective_rank": _kind(
        Message("sharpness.rank", "effective rank of the Hessian"), _rank, spectral_density, invariant=False
    ),
    "log_volume": _kind(
        Message("sharpness.volume", "half the log-determinant of the damped Hessian"), _volume, spectral_density,
        invariant=False, extra=("damping",),
    ),
})  # fmt: skip
