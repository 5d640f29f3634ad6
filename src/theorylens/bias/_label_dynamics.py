"""Wrong labels seen while training: margins of labels over steps, losses in two groups, memorising curves.

Method   area under the margin: mean over early steps of the logit of the label less the largest other; a mixture of two
         normal distributions over losses
Source   Pleiss, Zhang, Elenberg, Weinberger (2020), NeurIPS (AUM); Arazo et al. (2019), ICML (loss mixtures; ours is
         normal, theirs of beta distributions); Liu, Niles-Weed, Razavian, Fernandez-Granda (2020), NeurIPS
Breaks   once wrong labels are memorised their margins look like right ones: take steps from before that
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from theorylens.core import Split, Subject, Task
from theorylens.numerics.label_margins import margins
from theorylens.results import Curve, Line, Message

from ._label_noise import noise_breakdown

Floats = NDArray[np.float64]


def area_under_margin(logits: Tensor, labels: Tensor) -> Floats:
    """Mean margin over steps, shape (n,): ``logits`` are (steps, n, K) of one run, from before it memorised."""
    if logits.ndim != 3 or not len(logits):
        raise ValueError(f"logits must have shape (steps, n, classes), got {tuple(logits.shape)}")
    if logits.shape[2] < 2:
        raise ValueError("a margin lies between classes; logits of 2 classes or more are needed")
    return np.asarray(margins(logits, labels).mean(0).cpu().numpy())


class LogitRecorder:
    """A callback for `training.fit` that keeps the logits of all training rows every few steps.

    Attributes
    ----------
    steps, logits
        Steps seen; their logits, each (n, K), float32 on the CPU.
    """

    def __init__(self, data: Any, *, every: int, task: Task | None = None, batch_size: int = 256) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self._split, self._every, self._batch = Split.of(data), every, batch_size
        self._task = task or Task()
        self.steps: list[int] = []
        self.logits: list[Tensor] = []

    def __call__(self, step: int, model: nn.Module, metrics: Mapping[str, float]) -> None:
        del metrics
        if step % self._every:
            return
        device = next(model.parameters()).device
        with torch.no_grad():
            found = []
            for batch in self._split.batches(self._batch):
                moved = tuple(b.to(device) for b in batch) if isinstance(batch, tuple | list) else batch
                found.append(self._task.forward(model, moved)[0].float().cpu())
        self.steps.append(step)
        self.logits.append(torch.cat(found))


def clean_probability(losses: Any, *, seed: int = 0) -> Floats:
    """Probability of each row to be in the group of small losses, shape (n,), by a mixture of two normal ones.

    Losses are brought to the range 0 to 1 first. The groups are right and wrong labels only where the loss separates
    them: early in training.
    """
    from sklearn.mixture import GaussianMixture

    values = np.asarray(losses.cpu() if isinstance(losses, Tensor) else losses, dtype=np.float64)
    if values.ndim != 1 or len(values) < 10 or not np.isfinite(values).all():
        raise ValueError(f"losses must be at least 10 finite numbers, one per row, got shape {values.shape}")
    spread = float(np.ptp(values))
    if spread == 0:
        raise ValueError("all losses are equal, so they form one group")
    scaled = ((values - values.min()) / spread)[:, None]
    mixture = GaussianMixture(2, random_state=seed, n_init=3, reg_covar=1e-6).fit(scaled)
    return np.asarray(mixture.predict_proba(scaled)[:, int(mixture.means_.argmin())])


@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseCurves:
    """Answers on rows with right and with flipped labels along a run, shares of shape (steps,)."""

    steps: NDArray[np.int64]
    clean: Floats
    corrected: Floats
    memorised: Floats

    @property
    def best(self) -> int:
        """The step at which most flipped rows get their true class."""
        return int(self.steps[self.corrected.argmax()])

    def curve(self) -> Curve:
        """The three shares by step."""
        named = (
            (self.clean, Message("label_noise.clean", "right label learnt")),
            (self.corrected, Message("label_noise.corrected", "flipped label, true class answered")),
            (self.memorised, Message("label_noise.memorised", "flipped label memorised")),
        )
        return Curve(
            label=Message("label_noise.figure", "What the network answers on right and on flipped labels"),
            lines=tuple(Line(x=self.steps.astype(np.float64), y=y, name=name) for y, name in named),
            x_name=Message("label_noise.step", "step"),
            y_name=Message("label_noise.share", "share of the rows"),
        )


def noise_curves(subject: Subject, true: Tensor) -> NoiseCurves:
    """Follow a subject trained on labels with injected flips over its checkpoints.

    Parameters
    ----------
    subject
        With checkpoints, and the noisy labels in its training split.
    true
        The labels before noise, in the order of the training split.

    Raises
    ------
    ValueError
        No checkpoints, no flipped label, or lengths that differ.
    """
    if not subject.checkpoints:
        raise ValueError("the subject has no checkpoints; keep some while training: Keeping(checkpoints=...)")
    steps = sorted(subject.checkpoints)
    rows = []
    for step in steps:
        outputs, noisy = subject.at(step).predictions("train")
        found = noise_breakdown(true, noisy, outputs.argmax(1))
        if found.corrected is None or found.memorised is None or found.clean_accuracy is None:
            raise ValueError("labels with and without noise are needed to compare; flip a part of them")
        rows.append((found.clean_accuracy.value, found.corrected.value, found.memorised.value))
    clean, corrected, memorised = np.asarray(rows, dtype=np.float64).T
    return NoiseCurves(steps=np.asarray(steps), clean=clean, corrected=corrected, memorised=memorised)
