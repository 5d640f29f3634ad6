"""A small convolutional network trained on the scikit-learn digits, with its initial state."""

from __future__ import annotations

import copy

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from theorylens.core import Subject


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * 16, 10),
    )  # fmt: skip


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    x, y = load_digits(return_X_y=True)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return (torch.tensor(x, dtype=torch.float32) / 16).reshape(-1, 1, 8, 8)[order], torch.tensor(y)[order]


@pytest.fixture(scope="package")
def subject() -> Subject:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = net()
        start = copy.deepcopy(model.state_dict())
        x, y = digits()
        optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
        for _ in range(6):
            for xb, yb in zip(x[:1000].split(50), y[:1000].split(50), strict=True):
                optimiser.zero_grad()
                nn.functional.cross_entropy(model(xb), yb).backward()
                optimiser.step()
    return Subject(
        model=model, loss="cross_entropy", train=(x[:1000], y[:1000]), validation=(x[1000:1300], y[1000:1300]),
        test=(x[1300:], y[1300:]), init=start,
    )  # fmt: skip
