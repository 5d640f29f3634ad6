"""A small network trained on real digits, once for the chapter, with its initial state and shuffled twin."""

import jaxtyping
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from theorylens.core import Subject


def _trained(x, y, state):
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    net.load_state_dict(state)
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimiser.step()
    return net


@pytest.fixture(scope="session")
def digits():
    x, y = load_digits(return_X_y=True)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return torch.as_tensor(x, dtype=torch.float32)[order] / 16, torch.as_tensor(y)[order]


@pytest.fixture(scope="session")
def subject(digits):
    x, y = digits
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).state_dict()
        shuffled = y[:800][torch.randperm(800)]
        state = {k: v.clone() for k, v in state.items()}
        net, twin = _trained(x[:800], y[:800], state), _trained(x[:800], shuffled, state)
    test = (x[800:1400], y[800:1400])
    control = Subject(model=twin, loss="cross_entropy", train=(x[:800], shuffled), test=test)
    return Subject(
        model=net, loss="cross_entropy", train=(x[:800], y[:800]), validation=(x[1400:], y[1400:]), test=test,
        init=state, shuffled=control,
    )  # fmt: skip


class Stated(nn.Module):
    """Answers with the class that stands in the first input column: any error pattern can be written down."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, x):
        return F.one_hot(x[:, 0].long() % self.classes, self.classes).float()


@pytest.fixture
def stated():
    """``stated(answers, labels, **fields)``: a subject whose network answers ``answers`` where ``labels`` is true."""

    def make(answers, labels, *, classes=None, ids=None, **fields):
        answers, labels = torch.as_tensor(answers), torch.as_tensor(labels)
        ids = torch.arange(len(answers)) if ids is None else torch.as_tensor(ids)
        size = classes or int(max(answers.max(), labels.max())) + 1
        x = torch.stack([answers.float(), ids.float()], 1)
        return Subject(model=Stated(size), loss="cross_entropy", **{"test": (x, labels), **fields})

    return make


@pytest.fixture
def unchecked_shapes():
    """Shapes unchecked, as for a user: the library's own refusals answer, not the tests' type checker."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
