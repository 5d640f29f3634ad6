"""The inputs inside a batch of any shape: images, rows of numbers, and the network as a function of images alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from theorylens.core import Subject, UnsuitableError
from theorylens.numerics.memory import to_device
from theorylens.results import Message

WIDEST = 1 << 18  # numbers per input; 1,000 of them in double precision are 2 GiB


def images_of(subject: Subject, role: str, rows: Sequence[int] | Tensor, code: str) -> Tensor:
    """The images of ``rows``: (n, channels, height, width), on the model's device.

    Raises
    ------
    UnsuitableError
        When the inputs are not exactly one floating-point tensor with four axes.
    """
    found = _image_leaves(subject.split(role).take(rows))
    if len(found) != 1:
        text = "the inputs are not images of shape (channels, height, width); this probe moves images"
        raise UnsuitableError(Message(f"{code}.unsuitable", text))
    return found[0].to(subject.device)


def scores_of(subject: Subject, role: str) -> Callable[[Tensor], Tensor]:
    """The network's outputs as a function of images, called as the subject's task calls it."""
    split, net, task = subject.split(role), subject.net, subject.judged

    def run(images: Tensor) -> Tensor:
        batch = to_device(split.take([0] * len(images)), subject.device)
        old = _image_leaves(batch)[0]
        moved = pytree.tree_map(lambda leaf: images if leaf is old else leaf, batch)
        outputs: Tensor = task.forward(net, moved)[0]
        return outputs

    return run


def inputs_of(subject: Subject, role: str, limit: int) -> Tensor | None:
    """Inputs of ``split(role).subset(limit)`` with the row first; None unless they are one array of real numbers."""
    split = subject.split(role)
    batch = split.take(split.subset(limit))
    first = batch[0] if isinstance(batch, tuple | list) and len(batch) > 1 else batch
    leaves = [x for x in pytree.tree_leaves(first) if isinstance(x, Tensor) and x.is_floating_point()]
    if len(leaves) != 1 or leaves[0][0].numel() > WIDEST:
        return None
    return leaves[0]


def _image_leaves(batch: Any) -> list[Tensor]:
    first = batch[0] if isinstance(batch, tuple | list) and len(batch) > 1 else batch
    leaves = [x for x in pytree.tree_leaves(first) if isinstance(x, Tensor)]
    return [x for x in leaves if x.ndim == 4 and x.is_floating_point() and torch.numel(x)]


def role_of(subject: Subject) -> str:
    """The split to look at: test data when there are any, else the first there is."""
    return "test" if subject.test is not None else subject.roles[0]
