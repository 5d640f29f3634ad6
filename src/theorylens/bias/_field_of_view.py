"""How much of the input can the last convolution see, and how much of that does it use?"""

from __future__ import annotations

import numpy as np
import torch

from theorylens.core import Need, Subject, UnsuitableError, Work, call_first, probe
from theorylens.results import (
    Assumption,
    Curve,
    Estimate,
    Exact,
    Kind,
    Line,
    Matrix,
    Message,
    Payload,
    Result,
    Status,
    Table,
    Verdict,
    Wall,
)

from ._effective_field import EffectiveField, effective_field
from ._gradient_support import gradient_support
from ._images import images_of, role_of, scores_of
from ._receptive_field import FieldLayer, follow

ROWS = 64
MAP = 48  # pixels of the drawn map per side


def judge(size: int, length: int, used: float | None, start: float | None) -> tuple[Verdict, Message, Message]:
    """Verdict, reason and reading: ``size`` of ``length`` pixels can be seen, ``used`` are used, ``start`` at init."""
    reason = Message("TL502.found", "the last convolution sees {size} px of {length}", size=size, length=length)
    if size < length:
        text = "Part of it: the last convolution sees {size} of {length} px; what depends on more must be joined later."
        seen = Message("TL502.part", text, size=size, length=length)
    else:
        text = "All of it: the last convolution can see {size} px and the input has {length}."
        seen = Message("TL502.whole", text, size=size, length=length)
    if used is None:
        return Verdict.DESCRIPTIVE, reason, seen
    if start is None:
        text = "{seen} It uses about {used:.1f} px of that (four standard deviations of its squared gradient)."
        return Verdict.DESCRIPTIVE, reason, Message("TL502.used", text, seen=seen, used=used)
    text = (
        "{seen} It uses about {used:.1f} px of that (four standard deviations of its squared gradient), the untrained"
        " network {start:.1f} px."
    )
    return Verdict.DESCRIPTIVE, reason, Message("TL502.used_beside", text, seen=seen, used=used, start=start)


def _work(subject: Subject, rung: int | None) -> Work:
    return Work(gradients=2.0 * ROWS, forwards=8.0) if subject.roles else Work()


@probe(code="TL502", needs={Need.MODEL}, cost=_work)
def probe_receptive_field(subject: Subject, *, rows: int = ROWS, rng: torch.Generator) -> Result:
    """How much of the input can the last convolution see?"""
    role = role_of(subject)
    images = images_of(subject, role, subject.split(role).subset(rows), "TL502")
    single = images[:1].clone()
    layers = follow(single, lambda: scores_of(subject, role)(single), subject.net)
    convolutions = [x for x in layers if x.kind == "convolution"]
    if not convolutions:
        text = "no convolution is applied to the images; every unit of a dense network sees the whole input"
        raise UnsuitableError(Message("TL502.unsuitable", text))
    last, shape = convolutions[-1], tuple(images.shape[2:])
    axis = int(np.argmax([n - s for n, s in zip(shape, last.size, strict=True)]))
    seed = int(torch.randint(1 << 40, (), generator=rng))
    trained = _effective(subject, role, images, last, seed)
    untrained = None
    if trained is not None and (start := subject.initial()) is not None:
        with start.subject.studied():
            untrained = _effective(start.subject, role, images, last, seed)
    used = None if trained is None else trained.width
    start_used = None if untrained is None else untrained.width
    verdict, reason, reading = judge(last.size[axis], shape[axis], used, start_used)
    return Result(
        estimate=Estimate(value=float(last.size[axis]), uncertainty=Exact(), unit="pixels"),
        kind=Kind.DESCRIPTION,
        verdict=verdict,
        reason=reason,
        reading=reading,
        assumptions=(_witnessed(subject, role, last, tuple(images.shape[1:])),),
        references=(
            "Araujo, Norris, Sim (2019). Computing receptive fields of convolutional neural networks. Distill.",
            "Luo, Li, Urtasun, Zemel (2016). Understanding the effective receptive field in deep convolutional neural"
            " networks. NeurIPS.",
        ),
        payload=_payload(layers, shape, axis, trained, untrained),
        settings={
            "split": role, "layer": last.name, "axis": ("height", "width")[axis], "input pixels": shape[axis],
            "stride": last.stride[axis], "effective width": used, "effective width, untrained": start_used,
        },
    )  # fmt: skip


def _effective(subject: Subject, role: str, images: torch.Tensor, last: FieldLayer, seed: int) -> EffectiveField | None:
    """None when the convolution is no module of its own, or dead."""
    modules = dict(subject.net.named_modules())
    if not last.name or any(True for _ in modules[last.name].children()):
        return None
    try:
        return effective_field(
            subject.net, images, last.name, torch.Generator().manual_seed(seed), run=scores_of(subject, role)
        )
    except ValueError:  # a dead unit: there is nothing to draw, the theoretical field stands
        return None


def _witnessed(subject: Subject, role: str, last: FieldLayer, shape: tuple[int, ...]) -> Assumption:
    """The recursion against gradients, where the model can be called on images alone."""
    statement = Message("TL502.agree", "windows add up as followed through the forward pass")
    modules = dict(subject.net.named_modules())
    plain = subject.judged.forward is call_first
    if not plain or not last.name or any(True for _ in modules[last.name].children()):
        return Assumption(statement=statement, status=Status.UNCHECKED)
    unit, reach = gradient_support(subject.net, shape, last.name)
    expected = tuple(last.seen(a, unit[a], shape[1 + a]) for a in range(len(shape) - 1))
    met = reach == expected
    evidence = (
        Message("TL502.witness", "gradients of a copy with positive weights reach exactly the same pixels")
        if met
        else Message("TL502.no_witness", "gradients of a copy with positive weights reach other pixels")
    )
    return Assumption(statement=statement, status=Status.MET if met else Status.BROKEN, evidence=evidence)


def _payload(
    layers: tuple[FieldLayer, ...], shape: tuple[int, ...], axis: int, trained: EffectiveField | None,
    untrained: EffectiveField | None,
) -> tuple[Payload, ...]:  # fmt: skip
    growth = Line(
        x=np.arange(1, len(layers) + 1, dtype=np.float64),
        y=np.asarray([x.size[axis] for x in layers], dtype=np.float64),
        name=Message("TL502.theoretical", "can see"),
        role="theory",
    )
    curve = Curve(
        label=Message("TL502.growth", "Receptive field of each convolution and pooling"),
        lines=(growth,),
        x_name=Message("TL502.number", "convolution or pooling"),
        y_name=Message("TL502.pixels", "pixels"),
        walls=(Wall(at=float(shape[axis]), name=Message("TL502.input", "input")),),
    )
    maps = [
        _map(field, label)
        for field, label in (
            (trained, Message("TL502.map", "Share of the squared gradient of the centre unit by pixel, trained")),
            (untrained, Message("TL502.map_init", "Share of the squared gradient of the centre unit, untrained")),
        )
        if field is not None
    ]
    return (curve, *maps, _table(layers))


def _map(field: EffectiveField, label: Message) -> Matrix:
    energy = field.energy
    step = max(1, -(-max(energy.shape) // MAP))
    if step > 1:
        energy = torch.nn.functional.avg_pool2d(energy[None, None], step, ceil_mode=True)[0, 0]
    values = energy.numpy()
    return Matrix(label=label, values=values, top=float(values.max()))


def _table(layers: tuple[FieldLayer, ...]) -> Table:
    kinds = {
        "convolution": Message("TL502.convolution", "convolution"),
        "pooling": Message("TL502.pooling", "pooling"),
    }
    return Table(
        label=Message("TL502.table", "Receptive field layer by layer"),
        columns=(
            Message("TL502.layer", "layer"),
            Message("TL502.kind", "kind"),
            Message("TL502.size", "size, px"),
            Message("TL502.stride", "stride, px"),
        ),
        rows=tuple((x.name, kinds[x.kind], max(x.size), max(x.stride)) for x in layers),
    )
