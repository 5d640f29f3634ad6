"""A small network trained on real digits, once for the chapter, with its initial state and shuffled twin."""

from types import SimpleNamespace

import jaxtyping
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import norm
from sklearn.datasets import load_digits
from torch import nn

from theorylens.core import Recipe, Subject


@pytest.fixture(autouse=True)
def own_ledger(tmp_path, monkeypatch):
    """Nobody was judged on anything before a test begins."""
    monkeypatch.setenv("THEORYLENS_STATE", str(tmp_path / "state"))


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


@pytest.fixture(scope="session")
def gaussians():
    """Two Gaussians at +-1, the linear network that compares class means, its recipe, and any rule's true error."""

    def rows(n, seed):
        rng = torch.Generator().manual_seed(seed)
        y = torch.randint(0, 2, (n,), generator=rng)
        x = torch.randn(n, 2, generator=rng, dtype=torch.float64)
        x[:, 0] += 2.0 * y - 1.0
        return x, y

    def by_means(x, y, noise=0.0, seed=0):
        net = nn.Linear(2, 2).double()
        means = torch.stack([x[y == c].mean(0) for c in (0, 1)])
        means = means + noise * torch.randn(2, 2, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
        with torch.no_grad():
            net.weight.copy_(means)
            net.bias.copy_(-(means**2).sum(1) / 2)
        return net

    def subject(n, seed, *, cheat=False, noise=0.0, test=None):
        x, y = rows(n, seed)
        given = {} if test is None else {"test": rows(*test)}

        def train(*, seed, width=1.0, labels=None, rows=None, callbacks=()):
            chosen = slice(None) if rows is None or cheat else list(rows)
            net = by_means(x[chosen], y[chosen], noise, seed)
            return Subject(model=net, loss="cross_entropy", train=(x[chosen], y[chosen]), **given)

        return Subject(model=by_means(x, y), loss="cross_entropy", train=(x, y), recipe=Recipe(train), **given)

    def error(weight, bias):
        """Of the rules with ``weight`` (..., 2, 2) and ``bias`` (..., 2), in closed form."""
        w, b = weight[..., 1, :] - weight[..., 0, :], bias[..., 1] - bias[..., 0]
        size = np.hypot(w[..., 0], w[..., 1])
        return (norm.cdf((b - w[..., 0]) / size) + norm.cdf((-b - w[..., 0]) / size)) / 2

    def error_of(net):
        return float(error(net.weight.detach().numpy(), net.bias.detach().numpy()))

    return SimpleNamespace(rows=rows, subject=subject, error=error, error_of=error_of)
