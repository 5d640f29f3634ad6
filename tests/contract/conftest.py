"""Small networks on real digits with everything a subject can have: init, checkpoints, history, recipe, control.

Probes of convolutions and of everything else see a convolutional network; what asks about attention sees a transformer.
"""

import functools
from dataclasses import replace

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from theorylens.auditing._shuffled import train_shuffled, with_shuffled
from theorylens.core import Recipe, global_randomness_kept
from theorylens.training import Keeping, Optimisation, fit

HOW = Optimisation(lr=0.1, momentum=0.9, batch_size=40, epochs=12)


def data():
    found = load_digits()
    x = torch.tensor(found.images / 16, dtype=torch.float32)[:, None]
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:400]
    return x[order], torch.tensor(found.target)[order]


def network(seed=0):
    with global_randomness_kept(seed):
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 6, 3, padding=1),
            nn.ReLU(), nn.Flatten(), nn.Linear(96, 16), nn.ReLU(), nn.Linear(16, 10),
        )  # fmt: skip


def wide(seed=0):
    """One layer with enough eigenvalues for a tail; the fast network has none."""
    with global_randomness_kept(seed):
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 40), nn.ReLU(),
            nn.Linear(40, 10),
        )  # fmt: skip


class Tokens(nn.Module):
    def forward(self, maps):
        return maps.flatten(2).transpose(1, 2)


class Mean(nn.Module):
    def forward(self, tokens):
        return tokens.mean(1)


def transformer(seed=0):
    with global_randomness_kept(seed):
        blocks = [nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True) for _ in range(2)]
        return nn.Sequential(nn.Conv2d(1, 8, 2, 2), Tokens(), *blocks, Mean(), nn.Linear(8, 10))


def train(*, seed, width=1.0, labels=None, callbacks=(), make=network):
    x, y = data()
    given = y[:240] if labels is None else labels
    fitted = fit(
        make(seed), (x[:240], given), "cross_entropy", HOW, seed=seed, validation=(x[240:300], y[240:300]),
        keeping=Keeping(checkpoints=4),
    )  # fmt: skip
    return fitted.subject(test=(x[300:], y[300:]), name="small")


SPECIAL = {"TL506": transformer, "TL125": wide}  # probes of what the convolutional network does not have


@pytest.fixture(scope="session")
def special():
    return SPECIAL


@pytest.fixture(scope="session")
def subject_for():
    """The trained subject that a probe is tested on."""

    @functools.cache
    def trained(make):
        how = functools.partial(train, make=make)
        recipe = Recipe(how, seconds=1.0, settings={"lr": HOW.lr, "momentum": HOW.momentum, "optimizer": "sgd"})
        subject = replace(how(seed=0), recipe=recipe, others={"untrained": make(1)})
        return with_shuffled(subject, train_shuffled(subject, 0), 0)

    return lambda probe: trained(SPECIAL.get(probe.code, network))


@pytest.fixture
def whole(probe, subject_for):
    return subject_for(probe)


@pytest.fixture
def untrained(whole):
    """The same in every respect, with the weights of before training and nothing known about a training."""
    start = whole.initial().subject
    return replace(start, train=whole.train, validation=whole.validation, test=whole.test, init=whole.init)
