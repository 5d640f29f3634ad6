"""By how much the score of the label leads: the margin of an answer."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def margins(outputs: Tensor, targets: Tensor) -> Tensor:
    """By how much the true class leads: float64, positive where the answer is right.

    Parameters
    ----------
    outputs
        Scores (n, classes), any number of axes before them (steps of a run, say): (..., n, classes). Or one score per
        row, shape (n,) or (n, 1), whose sign answers.
    targets
        Class numbers, shape (n,); with one score per row 0 or 1 (-1 counts as 0).

    Returns
    -------
    Shape (..., n).

    Raises
    ------
    ValueError
        Shapes that do not fit, or class numbers that are none of the scores.

    >>> margins(torch.tensor([[2.0, 0.5, 1.0], [0.0, 1.0, 3.0]]), torch.tensor([0, 1])).tolist()
    [1.0, -2.0]
    """
    scores, true = torch.as_tensor(outputs).double(), torch.as_tensor(targets)
    if scores.numel() == true.numel():
        return _signed(scores, true)
    if scores.ndim < 2 or true.shape != scores.shape[-2:-1]:
        raise ValueError(
            f"margins need scores (n, classes) and n class numbers, got {tuple(scores.shape)} and {tuple(true.shape)}"
        )
    true = true.to(scores.device).long()
    if bool(((true < 0) | (true >= scores.shape[-1])).any()):
        raise ValueError(
            f"class numbers run from 0 to {scores.shape[-1] - 1}, got {int(true.min())} to {int(true.max())}"
        )
    index = true.expand(scores.shape[:-1])[..., None]
    own = scores.gather(-1, index)[..., 0]
    others = scores.scatter(-1, index, -math.inf).amax(-1)
    return own - others


def _signed(scores: Tensor, targets: Tensor) -> Tensor:
    label = targets.reshape(-1).to(scores)
    if bool(((label != 0) & (label.abs() != 1)).any()):
        raise ValueError("with one score per row the targets are 0 and 1, or -1 and 1; others were given")
    return scores.reshape(-1) * torch.where(label > 0, 1.0, -1.0).double()
