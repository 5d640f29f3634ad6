"""TL125: power-law exponents of weight spectra, beside those before training and with entries in random order."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from theorylens.bias import holm
from theorylens.core import Need, Subject, UnsuitableError, Work, controls, probe
from theorylens.results import (
    Assumption,
    Cell,
    Estimate,
    Exact,
    Intervals,
    Kind,
    Levels,
    Message,
    PValue,
    Result,
    Spectrum,
    Statistical,
    Table,
    Verdict,
    Wall,
)

from ._weight_matrices import weight_matrices
from ._weight_spectrum import LEAST, LayerSpectrum, mean_alpha, weight_spectrum

PERMUTATIONS = 19  # outside of all of them with probability 1 in 10 when nothing but the sizes of entries matters
DRAWN = 12  # layers in the picture
FIT_SECONDS = 2e-5  # for each eigenvalue of a fit: 0.005 for a few hundred
REFERENCES = (
    "Martin, Mahoney (2021). Implicit self-regularization in deep neural networks. JMLR 22:165.",
    "Clauset, Shalizi, Newman (2009). Power-law distributions in empirical data. SIAM Review 51:661-703.",
)


def judge(
    value: float, limits: tuple[float, float], permuted: tuple[float, float], others: dict[str, float], own: bool
) -> tuple[Verdict, Message]:
    """``limits`` of the mean exponent; ``permuted``: smallest and largest over random orders; ``others`` by role."""
    if permuted[0] <= value <= permuted[1]:
        text = "mean exponent {value:.3g}, within what the same entries in random order give ({low:.3g} to {high:.3g})"
        return Verdict.INCONCLUSIVE, Message("TL125.permuted", text, value=value, low=permuted[0], high=permuted[1])
    for role in ("init", "shuffled"):
        other = others.get(role, math.nan)
        if limits[0] <= other <= limits[1]:
            ids = {"init": "TL125.as_init", "shuffled": "TL125.as_shuffled"}
            texts = {
                "init": "mean exponent {value:.3g}, not told apart from {other:.3g} at initialisation",
                "shuffled": "mean exponent {value:.3g}, not told apart from {other:.3g} after shuffled labels",
            }
            return Verdict.INCONCLUSIVE, Message(ids[role], texts[role], value=value, other=other)
    if "init" not in others or not own:
        text = "mean exponent {value:.3g}; the network's own start is not known"
        return Verdict.DESCRIPTIVE, Message("TL125.alone", text, value=value)
    text = "mean exponent {value:.3g}, {init:.3g} at initialisation"
    return Verdict.DESCRIPTIVE, Message("TL125.reason", text, value=value, init=others["init"])


def read(reason: Message, value: float, init: float | None, layers: tuple[int, int, int]) -> Message:
    """``layers``: fitted, of these ruled out as power laws, and better described by one than by an exponential."""
    fitted, rejected, heavy = layers
    text = (
        "{lead}: {reason}. In {rejected} of {fitted} layers, each taken by itself, a power law is ruled out; in "
        "{heavy} it describes the tail better than an exponential; an exponent by itself predicts no error."
    )
    return Message(
        "TL125.reading", text, lead=_lead(reason, value, init), reason=reason, rejected=rejected, fitted=fitted,
        heavy=heavy,
    )  # fmt: skip


def _lead(reason: Message, value: float, init: float | None) -> Message:
    if reason.id == "TL125.alone":
        return Message("TL125.lead.alone", "Perhaps")
    if reason.id != "TL125.reason" or init is None:
        return Message("TL125.lead.not_shown", "Not shown")
    if value < init:
        return Message("TL125.lead.heavier", "Yes, heavier than before training")
    return Message("TL125.lead.lighter", "No, lighter than before training")


def _cost(subject: Subject, rung: int | None) -> Work:
    networks = 1 + (subject.initial() is not None) + (subject.shuffled is not None)
    sizes = [m.shape for m in weight_matrices(subject.net).values() if min(m.shape) >= LEAST]
    values = 20.0 * sum(a * b * min(a, b) for a, b in sizes)  # singular values
    orders = PERMUTATIONS * 4.0 * sum(a * b * min(a, b) for a, b in sizes)
    fits = FIT_SECONDS * sum(min(size) for size in sizes) * ((rung or 0) + PERMUTATIONS)
    return Work(flops=values * networks + orders, seconds=0.01 + fits)


@probe(code="TL125", needs={Need.MODEL}, cost=_cost, rungs=(128, 256, 512), name="generalization.weight_spectrum")
def probe_weight_spectrum(subject: Subject, *, rng: torch.Generator, draws: int) -> Result:
    """Do the spectra of the weight matrices have heavy tails that training put there?

    Power-law exponent of the eigenvalues of every weight matrix, mean over matrices.
    """
    seed = int(torch.randint(1 << 62, (1,), generator=rng))
    initial = subject.initial()
    start = dict(initial.subject.net.state_dict()) if initial is not None else None
    own = initial is not None and initial.own
    layers = weight_spectrum(subject.net, reference=start, draws=draws, permutations=PERMUTATIONS, seed=seed)
    fitted = [layer for layer in layers if layer.fit is not None]
    if not fitted:
        text = "no weight matrix has {least} eigenvalues above zero, too few for a tail"
        raise UnsuitableError(Message("TL125.few", text, least=LEAST))
    estimate = _mean(fitted, draws)
    orders = np.mean([layer.permuted for layer in fitted if layer.permuted is not None], axis=0)
    between = (float(orders.min()), float(orders.max()))
    beside = controls(subject, lambda other: _plain(weight_spectrum(other.net, draws=0, permutations=0)))
    others = {str(c.role): c.estimate.value for c in beside if math.isfinite(c.estimate.value)}
    verdict, reason = judge(estimate.value, (estimate.lower, estimate.upper), between, others, own)
    fits = [layer.fit for layer in fitted if layer.fit is not None]
    rejected, heavy = sum(f.rejected for f in fits), sum(f.against_exponential > 1.96 for f in fits)
    return Result(
        estimate=estimate, kind=Kind.INDICATOR, verdict=verdict, reason=reason,
        reading=read(reason, estimate.value, others.get("init"), (len(fitted), rejected, heavy)),
        assumptions=_assumptions(), controls=beside,
        references=REFERENCES, p_values=_tested(fitted), payload=(_forest(fitted), _spectrum(fitted), _table(layers)),
        settings={"layers": len(fitted), "skipped": len(layers) - len(fitted), "permutations": PERMUTATIONS},
    )  # fmt: skip


def _tested(fitted: list[LayerSpectrum]) -> tuple[PValue, ...]:
    """The fits of the power laws. No verdict rests on them: here it is a large p-value that agrees with the claim."""
    fits = [(layer.name, layer.fit.p) for layer in fitted if layer.fit is not None]
    text = "the tail of {layer} is a power law"
    return tuple(
        PValue(statement=Message("TL125.tested", text, layer=name), p=p, among_own=float(own))
        for (name, p), own in zip(fits, holm([p for _, p in fits]), strict=True)
    )


def _mean(fitted: list[LayerSpectrum], draws: int) -> Estimate:
    """The mean over layers; limits from those of the layers, which are drawn independently of each other."""
    value = mean_alpha(tuple(fitted))
    below = math.sqrt(math.fsum((f.fit.alpha - min(f.fit.lower, f.fit.alpha)) ** 2 for f in fitted if f.fit))
    above = math.sqrt(math.fsum((max(f.fit.upper, f.fit.alpha) - f.fit.alpha) ** 2 for f in fitted if f.fit))
    text = "samples from the fitted power laws, {draws} for each layer, as if eigenvalues were drawn independently"
    limits = {"lower": value - below / len(fitted), "upper": value + above / len(fitted)}
    interval = Statistical(**limits, level=0.95, method=Message("TL125.method", text, draws=draws))
    return Estimate(value=value, uncertainty=interval)


def _plain(layers: tuple[LayerSpectrum, ...]) -> Estimate:
    value = mean_alpha(layers)
    bad = None if math.isfinite(value) else Message("TL125.no_tail", "no weight matrix with enough eigenvalues")
    return Estimate(value=value, uncertainty=Exact(), trouble=bad)


def _assumptions() -> tuple[Assumption, ...]:
    said = "eigenvalues count as independent numbers, which those of one matrix are not: limits and p-values are rough"
    return (Assumption(statement=Message("TL125.assume.independent", said)),)


def _forest(fitted: list[LayerSpectrum]) -> Intervals:
    shown = fitted[:DRAWN]
    fits = [layer.fit for layer in shown if layer.fit is not None]
    names: list[str | Message] = [layer.name for layer in shown]
    values, lower, upper = [f.alpha for f in fits], [f.lower for f in fits], [f.upper for f in fits]
    roles = ["network"] * len(fits)
    text = "{name}, mixed"
    for layer in shown:
        if layer.permuted is not None and len(layer.permuted):
            names.append(Message("TL125.mixed", text, name=layer.name))
            values.append(float(np.median(layer.permuted)))
            lower.append(float(layer.permuted.min()))
            upper.append(float(layer.permuted.max()))
            roles.append("shuffled")
    low, high = np.minimum(lower, values), np.maximum(upper, values)
    return Intervals(
        label=Message("TL125.forest", "Power-law exponents of the layers, and of the same entries in random order"),
        names=tuple(names), values=np.array(values), lower=low, upper=high, roles=tuple(roles),  # type: ignore[arg-type]
        x_name=Message("TL125.alpha", "exponent of the tail"),
    )  # fmt: skip


def _spectrum(fitted: list[LayerSpectrum]) -> Spectrum:
    """Of the largest matrix, which has the most to show."""
    layer = max(fitted, key=lambda one: math.prod(one.shape))
    levels: NDArray[np.float64] = layer.eigenvalues[layer.eigenvalues > 0]
    return Spectrum(
        label=Message("TL125.spectrum", "Eigenvalues of W'W / N of {name}, the largest matrix", name=layer.name),
        levels=(Levels(values=levels, name=Message("TL125.network", "trained")),),
        y_name=Message("TL125.eigenvalue", "eigenvalue"), y_log=True,
        walls=(Wall(at=layer.edge, name=Message("TL125.edge", "edge of a random matrix")),),
    )  # fmt: skip


def _table(layers: tuple[LayerSpectrum, ...]) -> Table:
    def row(layer: LayerSpectrum) -> tuple[Cell, ...]:
        if layer.fit is None:
            return (layer.name, *["–"] * 7, layer.skipped or "–")
        f, mixed = layer.fit, layer.permuted
        middle = float(np.median(mixed)) if mixed is not None and len(mixed) else "–"
        before = layer.initial.alpha if layer.initial is not None else "–"
        return layer.name, f.alpha, before, middle, f.tail, f.p, f.against_exponential, layer.beyond, "–"

    columns = (
        Message("TL125.column.layer", "parameter"), Message("TL125.column.alpha", "exponent"),
        Message("TL125.column.init", "at initialisation"), Message("TL125.column.permuted", "random order, median"),
        Message("TL125.column.tail", "eigenvalues in the tail"), Message("TL125.column.p", "p of the power law"),
        Message("TL125.column.z", "z against an exponential"), Message("TL125.column.beyond", "beyond the random edge"),
        Message("TL125.column.skipped", "why skipped"),
    )  # fmt: skip
    label = Message("TL125.table", "Weight spectra of all parameters, those without a fit included")
    return Table(label=label, columns=columns, rows=tuple(row(layer) for layer in layers))
