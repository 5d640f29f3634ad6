"""TL701: gradients by depth, before and after training, beside what mean-field theory says about the start."""

from __future__ import annotations

import math

import numpy as np
import torch

from theorylens.core import Initial, Need, Subject, Work, probe
from theorylens.results import (
    Assumption,
    Cell,
    Control,
    Curve,
    Estimate,
    Exact,
    Kind,
    Line,
    Message,
    Result,
    Status,
    Table,
    Verdict,
)

from ._depth_profile import ROWS, Profile, profile

NARROW = 64  # units below which the fluctuation of one layer's factor, about sqrt(5 / width), exceeds a quarter
OFF_CENTRE = 4.0  # standard errors by which the mean of weights may miss zero
REFERENCES = (
    "Poole, Lahiri, Raghu, Sohl-Dickstein, Ganguli (2016). Exponential expressivity in deep neural networks through "
    "transient chaos. NIPS.",
    "Schoenholz, Gilmer, Ganguli, Sohl-Dickstein (2017). Deep information propagation. ICLR.",
)
NOTHING = "–"


def phase(rate: float, steps: int) -> str:
    """``ordered``, ``critical`` or ``chaotic``: critical when the whole depth changes the square by less than e.

    That is when the network is shallower than the depth scale 1 / |ln chi_1|, the length that theory compares with.
    """
    if rate <= 0:
        return "ordered"
    total = math.log(rate) * steps
    return "critical" if abs(total) <= 1 else ("ordered" if total < 0 else "chaotic")


_PHASES = {
    "ordered": Message("TL701.ordered", "ordered"),
    "critical": Message("TL701.critical", "critical to within this depth"),
    "chaotic": Message("TL701.chaotic", "chaotic"),
}
_ANSWERS = {
    "ordered": Message("TL701.shrink", "No, they shrink"),
    "critical": Message("TL701.keep", "Yes, nearly"),
    "chaotic": Message("TL701.grow", "No, they grow"),
}
_REASONS = {
    "ordered": Message("TL701.reason_ordered", "gradients shrink on the way back"),
    "critical": Message("TL701.reason_critical", "gradients keep their size on the way back"),
    "chaotic": Message("TL701.reason_chaotic", "gradients grow on the way back"),
}


def judge(
    now: Estimate, init: Estimate | None, start: Message | None, predicted: float | None, why: Message, steps: int
) -> tuple[Verdict, Message, Message]:
    """Words for the factor per step; ``predicted`` is mean-field theory's, None when it does not apply (``why``)."""
    if init is None or start is None:
        text = (
            "{answer}: after training the squared gradient changes by a factor {rate:.3g} per layer backwards, "
            "{total:.2g} over {steps:d} steps. The start is unknown, so theory says nothing."
        )
        found, values = phase(now.value, steps), {"rate": now.value, "total": now.value**steps}
        reading = Message("TL701.now", text, answer=_ANSWERS[found], steps=steps, **values)
        return Verdict.DESCRIPTIVE, _REASONS[found], reading
    found = phase(init.value, steps)
    if predicted is None:
        theory = Message("TL701.no_theory", "Mean-field theory does not apply: {why}.", why=why)
    else:
        text = "Mean-field theory predicts {chi:.3g}, {phase}."
        theory = Message("TL701.theory", text, chi=predicted, phase=_PHASES[phase(predicted, steps)])
    text = (
        "{answer}: at the start ({start}) the squared gradient changes by a factor {rate:.3g} per layer backwards, "
        "{total:.2g} over {steps:d} steps. {theory} After training the factor is {now:.3g}."
    )
    reading = Message(
        "TL701.reading", text, answer=_ANSWERS[found], start=start, rate=init.value, total=init.value**steps,
        steps=steps, theory=theory, now=now.value,
    )  # fmt: skip
    return Verdict.DESCRIPTIVE, _REASONS[found], reading


@probe(
    code="TL701", needs={Need.MODEL, Need.TRAIN},
    cost=lambda subject, rung: Work(gradients=6.0 * min(ROWS, len(subject.split("train"))), seconds=0.5),
)  # fmt: skip
def probe_signal_propagation(subject: Subject, *, rng: torch.Generator) -> Result:
    """Do gradients keep their size on their way back through the layers?

    Geometric mean per step of the factor by which the squared gradient with respect to pre-activations changes from
    the last weighted layer back to the first, on at most 256 training rows. Controls: the initial network, and the
    factor that mean-field theory predicts from the initial weights, where its assumptions can hold.
    """
    del rng  # the rows are keyed by content
    now = profile(subject)
    start = subject.initial()
    before = None
    if start is not None:
        with start.subject.studied():
            before = profile(start.subject)
    predicted, why = (None, Message("TL701.no_start", "there is no initial network"))
    if before is not None:
        predicted, why = prediction(before)
    verdict, reason, reading = judge(
        now.rate, None if before is None else before.rate, None if start is None else start.name, predicted, why,
        now.steps,
    )  # fmt: skip
    controls: list[Control] = []
    if start is not None and before is not None:
        controls.append(Control(role="init", name=start.name, estimate=before.rate))
    if predicted is not None:
        name = Message("TL701.control", "mean-field theory at the initial weights")
        controls.append(Control(role="theory", name=name, estimate=Estimate(value=predicted, uncertainty=Exact())))
    assumptions = () if before is None or start is None else _assumptions(before, start)
    return Result(
        estimate=now.rate, kind=Kind.DESCRIPTION, verdict=verdict, reason=reason, reading=reading,
        assumptions=assumptions, controls=tuple(controls), references=REFERENCES,
        payload=(_curve(now, before, start, predicted), _table(now, before)),
        settings={"rows": len(now.layers[0].gradient), "layers": len(now.layers)},
    )  # fmt: skip


def prediction(start: Profile) -> tuple[float | None, Message]:
    """Geometric mean of the predicted factors, or None and what stands in the way."""
    factors = start.predicted
    broken = [i for i, factor in enumerate(factors) if factor is None]
    if broken:
        first = start.layers[broken[0]]
        outside = Message("TL701.outside", "an operation outside any module")
        kinds: str | Message = ", ".join(first.between) or outside
        text = "between {layer} and the next layer stands more than an activation ({kinds}), at {n:d} of {all:d} steps"
        return None, Message("TL701.why", text, layer=first.name, kinds=kinds, n=len(broken), all=len(factors))
    known = [factor for factor in factors if factor is not None]
    if min(known) <= 0:
        return 0.0, Message("TL701.zero", "a layer has zero weights")
    return math.exp(sum(map(math.log, known)) / len(known)), Message("TL701.plain", "all steps are plain")


def _assumptions(before: Profile, start: Initial) -> tuple[Assumption, ...]:
    predicted, why = prediction(before)
    width = min(layer.module.weight.shape[0] for layer in before.layers[:-1])
    off = [layer.name for layer in before.layers if _mean_in_errors(layer.module.weight) > OFF_CENTRE]
    if off:
        text = "the mean of the weights of {layers} is not zero"
        independent, evidence = Status.BROKEN, Message("TL701.e_mean", text, layers=", ".join(off))
    elif start.own:
        independent, evidence = Status.UNCHECKED, Message("TL701.e_own", "the start given has weights of mean zero")
    else:
        independent, evidence = Status.MET, Message("TL701.e_drawn", "drawn here by each module's reset_parameters")
    return (
        Assumption(
            statement=Message("TL701.a_plain", "layers are joined by an elementwise activation and nothing else"),
            status=Status.MET if predicted is not None else Status.BROKEN, evidence=why,
        ),
        Assumption(
            statement=Message("TL701.a_wide", "layers are wide"),
            status=Status.MET if width >= NARROW else Status.BROKEN,
            evidence=Message("TL701.e_wide", "the narrowest hidden layer has {width:d} units or channels", width=width),
        ),
        Assumption(
            statement=Message("TL701.a_iid", "initial weights are independent with mean zero"),
            status=independent, evidence=evidence,
        ),
    )  # fmt: skip


def _mean_in_errors(weight: torch.Tensor) -> float:
    w = weight.detach().double()
    spread = float(w.std()) if w.numel() > 1 else 0.0
    return abs(float(w.mean())) / spread * w.numel() ** 0.5 if spread > 0 else math.inf


def _curve(now: Profile, before: Profile | None, start: Initial | None, predicted: float | None) -> Curve:
    def line(values: np.ndarray, name: Message, role: str) -> Line:
        depth = np.arange(1, len(values) + 1, dtype=np.float64)
        seen = values > 0  # the axis is logarithmic
        return Line(x=depth[seen], y=values[seen], name=name, role=role)  # type: ignore[arg-type]

    lines = [line(now.gradients, Message("TL701.line_now", "after training"), "network")]
    if before is not None and start is not None:
        lines.append(line(before.gradients, start.name, "init"))
        if predicted is not None:
            back = np.array([1.0, *(factor or 0.0 for factor in reversed(before.predicted))]).cumprod()[::-1]
            name = Message("TL701.line_theory", "mean-field theory, from the last layer")
            lines.append(line(back * before.gradients[-1], name, "theory"))
    return Curve(
        label=Message("TL701.curve", "Squared gradient at each weighted layer, from the first to the last"),
        lines=tuple(lines), x_name=Message("TL701.depth", "layer"), y_log=True,
        y_name=Message("TL701.y", "mean squared norm of the gradient"),
    )  # fmt: skip


def _table(now: Profile, before: Profile | None) -> Table:
    columns = (
        Message("TL701.c_layer", "layer"), Message("TL701.c_w", "σw² of the next layer"),
        Message("TL701.c_b", "σb² of the next layer"), Message("TL701.c_phi", "activation"),
        Message("TL701.c_chi", "χ1 at the fixed point"), Message("TL701.c_predicted", "predicted factor"),
        Message("TL701.c_init", "measured at the start"), Message("TL701.c_now", "measured after training"),
    )  # fmt: skip
    shown = before or now
    chis, factors = (before.fixed_point, before.predicted) if before else ([None] * now.steps, [None] * now.steps)
    after: list[Cell] = _factors(now)
    ratios: list[Cell] = [NOTHING] * now.steps if before is None else _factors(before)
    rows: list[tuple[Cell, ...]] = []
    for i, (layer, following) in enumerate(zip(shown.layers, shown.layers[1:], strict=False)):
        rows.append(
            (
                layer.name, following.sigma_w2, following.sigma_b2, layer.step or NOTHING, _cell(chis[i]),
                _cell(factors[i]), ratios[i], after[i],
            )
        )  # fmt: skip
    label = Message("TL701.table", "Factor of the squared gradient from the next layer back to this one")
    return Table(label=label, columns=columns, rows=tuple(rows))


def _factors(measured: Profile) -> list[Cell]:
    """Measured factor of each step; a dash where there is nothing to divide by."""
    pairs = zip(measured.gradients, measured.gradients[1:], strict=False)
    return [float(a / b) if b > 0 else NOTHING for a, b in pairs]


def _cell(value: float | None) -> Cell:
    return NOTHING if value is None else value
