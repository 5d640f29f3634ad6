"""Facts about the subject and the machine, and the fingerprints that decide whether stored results may be read."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections import Counter
from functools import cache
from pathlib import Path

import torch
from torch.utils import _pytree as pytree

import theorylens
from theorylens.core import Split, Subject, digest, hash_callable, hash_code, hash_tensors, model_hash, read_state
from theorylens.core._hashing import tensor_bytes
from theorylens.results import History, Message, SplitFacts, SubjectFacts

LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn")


@cache
def source_hash() -> str:
    """Hash of every file of the installed package: an edit anywhere makes stored results unreadable."""
    root = Path(theorylens.__file__).parent
    h = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.suffix in {".py", ".j2", ".css", ".md", ".json", ".typed"}):
        h.update(str(path.relative_to(root)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return h.hexdigest()


def versions() -> dict[str, str]:
    """Versions of what computes."""
    found = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {"theorylens": theorylens.__version__, "python": platform.python_version(), **found}


def subject_facts(subject: Subject, notes: tuple[Message, ...], fingerprint: str) -> SubjectFacts:
    """What was studied, without inputs, labels or paths."""
    model = subject.model
    leaves = [type(m).__name__ for m in model.modules() if not any(True for _ in m.children())] if model else []
    counts = Counter(leaves)
    return SubjectFacts(
        name=subject.name or (type(model).__name__ if model is not None else "outputs"),
        task=f"{subject.judged.kind}, {subject.judged.loss_name}",
        architecture=", ".join(f"{n} {kind}" if n > 1 else kind for kind, n in counts.items()),
        parameters=sum(p.numel() for p in model.parameters()) if model is not None else 0,
        dtype=str(next((p.dtype for p in model.parameters()), torch.float32) if model else "").removeprefix("torch."),
        classes=subject.classes,
        splits=tuple(_split_facts(role, subject.split(role)) for role in subject.roles),
        fingerprint=fingerprint,
        notes=notes,
    )


def _split_facts(role: str, split: Split) -> SplitFacts:
    return SplitFacts(role=role, rows=len(split), units=split.distinct_units, sha256=split.sha256)


def fingerprint(subject: Subject) -> str:
    """Hash of everything about the subject that a result may depend on.

    Raises
    ------
    NoFingerprintError
        When a part cannot be hashed; results must then not be stored.
    """
    task = subject.judged
    parts: list[str | bytes] = [model_hash(subject), str(task.kind), str(task.mean), str(task.error_range)]
    for function in (task.forward, task.loss, task.error):
        parts.append(function if isinstance(function, str) else "" if function is None else hash_callable(function))
    if subject.model is not None:
        parts += [hash_code(subject.model), _answers(subject)]
        modes = [(name, p.requires_grad) for name, p in subject.model.named_parameters()]
        parts.append(str(modes))
    for role in subject.roles:
        split = subject.split(role)
        parts += [
            role,
            split.sha256,
            *(str(list(getattr(split, n) or ())) for n in ("units", "environments", "weights")),
        ]
    if subject.init is not None:
        init = subject.init if not isinstance(subject.init, torch.nn.Module) else subject.init.state_dict()
        parts += ["init", hash_tensors(dict(init))]
    for step in sorted(subject.checkpoints or {}):
        parts += [f"checkpoint {step}", hash_tensors(dict(read_state((subject.checkpoints or {})[step])))]
    if isinstance(subject.history, History):
        parts += [subject.history.steps.tobytes(), *(
            x for name in sorted(subject.history.series) for x in (name, subject.history.series[name].tobytes())
        )]  # fmt: skip
    if subject.recipe is not None:
        parts += [hash_callable(subject.recipe.train), str(sorted((subject.recipe.settings or {}).items()))]
    for name in sorted(subject.others):
        parts += [name, hash_tensors(dict(subject.others[name].state_dict()))]
    return digest(*parts)


def _answers(subject: Subject) -> str:
    """Outputs on a fixed batch: what no reading of code can miss."""
    split = subject.split(subject.roles[0])
    from theorylens.numerics.memory import to_device

    batch = to_device(split.take(range(min(len(split), 16))), subject.device)
    with subject.studied(), torch.no_grad():
        outputs, _ = subject.judged.forward(subject.net, batch)
        loss, weight = subject.judged.loss_sum(subject.net, batch)
    leaves = [x for x in (*pytree.tree_leaves(outputs), loss, weight) if isinstance(x, torch.Tensor)]
    return digest(*(tensor_bytes(x) for x in leaves))
