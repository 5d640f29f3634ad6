import jaxtyping
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from theorylens.core import Recipe, Subject, global_randomness_kept


@pytest.fixture
def unchecked_shapes():
    """Types unchecked, as for a user: the library's own refusals answer, not the tests' type checker."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


def descend(net, x, y, loss, *, lr, steps, keep):
    """Full-batch gradient descent; state dicts at the steps of ``keep``, and the loss before every step."""
    rule = torch.optim.SGD(net.parameters(), lr=lr)
    kept, losses = {}, []
    for step in range(steps + 1):
        if step in keep:
            kept[step] = {name: t.clone() for name, t in net.state_dict().items()}
        rule.zero_grad()
        value = loss(net(x), y)
        losses.append(value.item())
        if step < steps:
            value.backward()
            rule.step()
    return kept, losses


@pytest.fixture(scope="session")
def digits():
    """A small tanh network trained on 200 digits by full-batch gradient descent, with checkpoints and history."""
    data = load_digits()
    x, y = torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)
    with global_randomness_kept(0):
        net = nn.Sequential(nn.Linear(64, 10), nn.Tanh(), nn.Linear(10, 10))
        kept, losses = descend(net, x[:200], y[:200], F.cross_entropy, lr=0.4, steps=400, keep=range(0, 401, 50))
    history = {"step": list(range(401)), "train_loss": losses, "lr": [0.4] * 401}
    settings = {"lr": 0.4, "batch_size": 200, "optimizer": "sgd", "momentum": 0.0}
    return Subject(
        model=net.eval(), loss="cross_entropy", train=(x[:200], y[:200]), test=(x[200:300], y[200:300]),
        checkpoints=kept, history=history, recipe=Recipe(train=lambda **_: None, settings=settings),
    )  # fmt: skip


def autoregressive(rng, n, coefficient, runs=1):
    """Stationary AR(1) noise of innovation variance 1, shape (runs, n)."""
    shocks = rng.standard_normal((runs, n))
    noise = np.empty((runs, n))
    noise[:, 0] = shocks[:, 0] / np.sqrt(1 - coefficient**2)
    for t in range(1, n):
        noise[:, t] = coefficient * noise[:, t - 1] + shocks[:, t]
    return noise
