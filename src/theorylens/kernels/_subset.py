"""The training rows on which the chapter's kernels are taken, and the kernel of a network on them, computed once.

At most 150 rows: the kernel needs the gradient of every output on every row. They are chosen by the content of the
split alone, evenly from each class when every class can have enough rows, so that every network meets the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from theorylens.core import RefusedError, Subject, UnsuitableError, Work, key_seed
from theorylens.numerics import Batch, to_device
from theorylens.results import Message

from ._alignment import cosine, target_gram
from ._balanced_alignment import FEWEST_PER_CLASS, cosine_by_class
from ._empirical import ntk

LIMIT = 150
CANDIDATES = 2000  # training rows among which the even choice is made
TARGET_ROWS = FEWEST_PER_CLASS + 1  # of each class, so that one can be left out


@dataclass(frozen=True, eq=False)
class Rows:
    """Chosen training rows.

    Attributes
    ----------
    index
        Row numbers in the split, sorted by class.
    targets
        One per row: class numbers (int64), or real targets in float64.
    by_class
        Whether the rows were drawn evenly from each class.
    """

    index: Tensor
    targets: Tensor
    by_class: bool

    def __len__(self) -> int:
        return len(self.index)

    @property
    def strata(self) -> np.ndarray:
        """Class of each row where rows were drawn by class, else one stratum."""
        return self.targets.numpy() if self.by_class else np.zeros(len(self), dtype=np.int64)

    def aligned(self, kernel: Tensor, kept: Tensor, targets: Tensor | None = None) -> float:
        """Debiased alignment of the kernel with the targets on the rows numbered ``kept``; NaN when undefined."""
        chosen = (self.targets if targets is None else targets)[kept]
        small = kernel.numpy()[np.ix_(kept.numpy(), kept.numpy())]
        if self.by_class:
            return cosine_by_class(small, chosen.numpy())
        return cosine(torch.from_numpy(small), target_gram(chosen), debiased=True)


def chosen_rows(subject: Subject, limit: int = LIMIT) -> Rows:
    """The rows of the training split for this chapter."""
    return subject.once(("kernels rows", limit), lambda: _choose(subject, limit))


def tangent_kernel(subject: Subject, rows: Rows) -> Tensor:
    """Trace kernel (sum over outputs) of the subject's network on ``rows``, float64 on the CPU."""
    key = ("kernels trace", tuple(rows.index.tolist()))
    return subject.once(key, lambda: trace_kernel(subject.net, subject, rows))


def kernel_work(subject: Subject, networks: int) -> Work:
    """Cost of the kernels of so many networks: one gradient per row and output."""
    n = min(LIMIT, len(subject.split("train")))
    outputs = subject.classes or 1
    return Work(gradients=networks * n * outputs, forwards=min(CANDIDATES, len(subject.split("train"))))


def networks_with_controls(subject: Subject) -> int:
    return 1 + (subject.initial() is not None) + (subject.shuffled is not None)


def _choose(subject: Subject, limit: int) -> Rows:
    split = subject.split("train")
    if subject.judged.kind not in ("classification", "regression"):
        text = "a tangent kernel against targets needs a classifier or a regression, the task is {kind}"
        raise UnsuitableError(Message("kernels.task", text, kind=str(subject.judged.kind)))
    candidates = split.subset(CANDIDATES)
    outputs, targets = subject.predictions("train", limit=CANDIDATES)
    if outputs.ndim > 2 or len(targets) != len(candidates):
        text = "a tangent kernel needs one row of outputs per example, the model gives {axes} axes"
        raise UnsuitableError(Message("kernels.outputs", text, axes=outputs.ndim))
    labels = _labels(subject, targets)
    if labels is None:
        kept = _shuffled(len(candidates), split.sha256)[:limit].sort().values
        return Rows(candidates[kept], targets.double().reshape(len(targets), -1)[kept], False)
    valid = (labels >= 0).nonzero()[:, 0]
    candidates, labels = candidates[valid], labels[valid]
    order = _shuffled(len(candidates), split.sha256)
    return _by_class(candidates[order], labels[order], limit)


def _by_class(candidates: Tensor, labels: Tensor, limit: int) -> Rows:
    """Evenly from each class, or as they come when some class would have too few rows."""
    names, number, counts = np.unique(labels.numpy(), return_inverse=True, return_counts=True)
    quota = min(limit // max(1, len(names)), int(counts.min()) if len(counts) else 0)
    by_class = len(names) >= 2 and quota >= TARGET_ROWS
    if by_class:
        kept = np.concatenate([np.flatnonzero(number == c)[:quota] for c in range(len(names))])
    else:
        kept = np.arange(min(limit, len(candidates)))
        kept = kept[np.argsort(number[kept], kind="stable")]
    chosen = torch.as_tensor(kept)
    return Rows(candidates[chosen], torch.as_tensor(number)[chosen], by_class)


def _labels(subject: Subject, targets: Tensor) -> Tensor | None:
    """Class of each row, None when targets are real numbers."""
    if subject.judged.kind != "classification":
        return None
    if targets.is_floating_point():
        return (targets.reshape(-1) > 0.5).long() if targets.numel() == len(targets) else targets.argmax(1)
    return targets.reshape(len(targets), -1)[:, 0].long()


def _shuffled(n: int, content: str) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(key_seed("kernels rows", content)))


def trace_kernel(net: nn.Module, subject: Subject, rows: Rows) -> Tensor:
    """Trace kernel of ``net`` on rows of the subject's data, not remembered."""
    task = subject.judged

    def outputs(model: nn.Module, batch: Batch) -> Tensor:
        found: Tensor = task.forward(model, batch)[0]
        return found[:, None] if found.ndim == 1 else found

    batch = to_device(subject.split("train").take(rows.index), subject.device)
    try:
        return ntk(net, batch, output="trace", forward=outputs).detach().cpu().double()
    except RefusedError as error:
        text = "there is no tangent kernel of this network: {why}"
        raise UnsuitableError(Message("kernels.refused", text, why=str(error))) from error
