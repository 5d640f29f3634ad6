"""Before any number: is the subject fit to be studied? Refuse in one sentence, or handle and say what was handled."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from theorylens.core import RefusedError, Subject, check_finite, modules_in_training
from theorylens.numerics.memory import to_device
from theorylens.results import Message


def preflight(subject: Subject) -> tuple[Message, ...]:
    """Check everything that would make every later number wrong.

    Returns what was handled, in words.

    Raises
    ------
    RefusedError
        An empty split, a parameter or loss that is not finite, data that answers differently twice, a model that does,
        outputs that do not fit the targets.
    """
    notes: list[Message] = [*subject.notes]
    if subject.model is not None:
        check_finite(subject.model)
        notes += _modes(subject)
    if not subject.roles:
        raise RefusedError("the subject has no data; give at least one of train=, validation=, test=")
    for role in subject.roles:
        notes += _readable(subject, role)
    if subject.model is not None:
        _deterministic(subject)
    for role in subject.roles:
        notes += _finite_losses(subject, role)
    return (*notes, *_copies(subject), *_overlaps(subject), *_one_class(subject))


def _modes(subject: Subject) -> list[Message]:
    noisy = modules_in_training(subject.net)
    if not noisy:
        return []
    text = "{modules} was in training mode; everything here is measured in evaluation mode, and the mode is given back"
    return [Message("preflight.mode", text, modules=_short(noisy))]


def _readable(subject: Subject, role: str) -> list[Message]:
    split = subject.split(role)
    if len(split) == 0:
        raise RefusedError(f"the {role} split is empty; give at least one example")
    if name := split.unstable():
        raise RefusedError(
            f"the {role} dataset {name} answers differently the second time (augmentation?); "
            "give the data without random transforms"
        )
    return list(split.notes)


def _deterministic(subject: Subject) -> None:
    split = subject.split(subject.roles[0])
    batch = to_device(split.take(range(min(len(split), 64))), subject.device)
    with subject.studied(), torch.no_grad():
        first, again = (_leaves(subject.judged.forward(subject.net, batch)[0]) for _ in range(2))
    exact = subject.device.type == "cpu"
    for a, b in zip(first, again, strict=True):
        same = torch.equal(a, b) or (bool(a.isnan().any()) and torch.equal(a.isnan(), b.isnan()))
        if not same and (exact or not torch.allclose(a, b, rtol=1e-5, atol=1e-5)):
            raise RefusedError(
                f"two passes over the same {min(len(split), 64)} examples differ by up to "
                f"{float((a - b).abs().max()):.3g} in evaluation mode; "
                "make the model deterministic (functional dropout needs training=self.training)"
            )


def _finite_losses(subject: Subject, role: str) -> list[Message]:
    losses = subject.scores(role).losses
    bad = (~torch.isfinite(losses)).nonzero().flatten()
    if len(bad):
        raise RefusedError(
            f"the loss is {float(losses[bad[0]])} on example {int(bad[0])} of {role} and not finite on {len(bad)} of "
            f"{len(losses)}; look at these inputs and targets, or at the model's outputs on them"
        )
    return []


def _copies(subject: Subject) -> list[Message]:
    notes = []
    for role in subject.roles:
        split = subject.split(role)
        if copies := len(split) - split.distinct_rows:
            text = "{role} has {copies} rows that are exact copies of others"
            notes.append(Message("preflight.copies", text, role=role, copies=copies))
        if split.units is not None:
            text = "{role} has {units} independent units in {rows} rows"
            notes.append(
                Message("preflight.units", text, role=role, units=split.distinct_units, rows=len(split))
            )  # fmt: skip
    return notes


def _overlaps(subject: Subject) -> list[Message]:
    notes = []
    for first, second in combinations(subject.roles, 2):
        known = set(subject.split(first).input_hashes)
        shared = sum(h in known for h in subject.split(second).input_hashes)
        if shared:
            text = "{shared} inputs of {second} are also in {first}"
            notes.append(Message("preflight.overlap", text, shared=shared, second=second, first=first))
    return notes


def _one_class(subject: Subject) -> list[Message]:
    if subject.judged.kind != "classification" or not subject.has("test"):
        return []
    targets = subject.predictions("test")[1]
    if targets.ndim != 1 or bool((targets != targets[0]).any()):
        return []
    return [
        Message("preflight.one_class", "every test example has the same label, so a constant answer is never wrong")
    ]


def _leaves(outputs: object) -> list[Tensor]:
    return [x for x in pytree.tree_leaves(outputs) if isinstance(x, Tensor)]


def _short(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
