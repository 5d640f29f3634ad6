import jaxtyping
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from theorylens.core import Recipe, Subject, global_randomness_kept


class Quadratic(nn.Module):
    """Outputs ``c + b'w + w'Aw / 2`` for every row: the Hessian of their mean is A."""

    def __init__(self, matrix, linear=None, at=None, constant=1.0):
        super().__init__()
        matrix = torch.as_tensor(matrix, dtype=torch.float64)
        self.matrix = matrix
        self.linear = torch.as_tensor([0.0] * len(matrix) if linear is None else linear).double()
        start = torch.zeros(len(matrix)) if at is None else torch.as_tensor(at)
        self.w = nn.Parameter(start.double())
        self.constant = constant

    def forward(self, x):
        value = self.constant + self.linear @ self.w + self.w @ self.matrix @ self.w / 2
        return value.expand(len(x))


def the_output(outputs, targets):
    return outputs


ROWS = (torch.zeros(4, 1, dtype=torch.float64), torch.zeros(4, dtype=torch.float64))


@pytest.fixture
def quadratic():
    """(model, data, loss) of a quadratic with the matrix given."""

    def make(matrix, **options):
        return Quadratic(matrix, **options).eval(), ROWS, the_output

    return make


def trained(x, y, steps=300, lr=0.5):
    net = nn.Sequential(nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, 10))
    start = {name: t.clone() for name, t in net.state_dict().items()}
    rule = torch.optim.SGD(net.parameters(), lr=lr)
    for _ in range(steps):
        rule.zero_grad()
        F.cross_entropy(net(x), y).backward()
        rule.step()
    return net.eval(), start


@pytest.fixture(scope="session")
def digits():
    """A small tanh network trained on 300 digits by full-batch gradient descent, and its shuffled-label control."""
    data = load_digits()
    x = torch.tensor(data.data / 16, dtype=torch.float32)
    y = torch.tensor(data.target)
    train, test = (x[:300], y[:300]), (x[300:500], y[300:500])
    with global_randomness_kept(0):
        net, start = trained(*train)
        noise = train[1][torch.randperm(300)]
        shuffled_net, _ = trained(train[0], noise)
    shuffled = Subject(model=shuffled_net, loss="cross_entropy", train=(train[0], noise))
    settings = {"lr": 0.5, "momentum": 0.0, "optimizer": "sgd", "batch_size": 300, "schedule": "constant"}
    return Subject(
        model=net, loss="cross_entropy", train=train, test=test, init=start, shuffled=shuffled,
        recipe=Recipe(train=lambda **_: None, settings=settings),
    )  # fmt: skip


@pytest.fixture
def unchecked_shapes():
    """Types unchecked, as for a user: the library's own refusals answer, not the tests' type checker."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
