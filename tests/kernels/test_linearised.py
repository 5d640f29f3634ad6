"""The linearised network: golden value, exactness on linear models, torch.func, training, modules, refusals."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call, jvp

from theorylens.core import RefusedError
from theorylens.kernels import Linearised, kernel_descent, ntk
from theorylens.training import Optimisation, fit


class Product(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(a).double()), nn.Parameter(torch.tensor(b).double())

    def forward(self, x):
        return self.a * self.b * x


def net(seed=0, act=nn.Tanh):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 16), act(), nn.LayerNorm(16), nn.Linear(16, 3)).double().eval()


def rows(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moved(model, by=0.1, seed=5):
    other, g = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in other.parameters():
            p += by * torch.randn(p.shape, generator=g, dtype=p.dtype)
    return other


def test_golden_product(golden):
    now, x = Product(1.5, 2.5), torch.tensor([[3.0]]).double()
    found = Linearised(now, Product(1.0, 2.0).state_dict())(x)
    assert [found.item(), now(x).item()] == pytest.approx(golden("G4.2-2"), rel=1e-12)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")  # torch warns about its own use
def test_it_is_forward_mode_of_torch_func():
    start, x = net(), rows(5, 4)
    now = moved(start)
    change = {k: now.state_dict()[k] - v for k, v in start.state_dict().items()}
    value, tangent = jvp(lambda p: functional_call(start, p, (x,)), (dict(start.state_dict()),), (change,))
    found = Linearised(now, start.state_dict())(x)
    assert torch.allclose(found, value + tangent, atol=1e-12)


def test_the_gap_to_the_network_is_of_second_order():
    start, x = net(), rows(5, 4)
    gaps = []
    for by in (1e-2, 1e-3):
        now = moved(start, by)
        gaps.append(float((Linearised(now, start.state_dict())(x) - now(x)).detach().norm()))
    assert gaps[1] == pytest.approx(gaps[0] / 100, rel=0.2)


def test_gradients_at_the_start_are_those_of_the_network():
    model, x, y = net(), rows(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    lin = Linearised(model)
    nn.functional.cross_entropy(lin(x), y).backward()
    nn.functional.cross_entropy(model(x), y).backward()
    for p, q in zip(lin.network.parameters(), model.parameters(), strict=True):
        assert torch.allclose(p.grad, q.grad, atol=1e-12)


def test_training_it_follows_the_kernel_exactly():
    """Full-batch descent on the squared loss of a linearised network is the closed form of its tangent kernel."""
    model, x, y = net(), rows(6, 4), rows(6, 3, 1)
    lin = Linearised(model)
    found = kernel_descent(ntk(model, x), y, 0.02, [20], initial=model(x).detach(), reduction="mse")
    fit(lin, (x, y), "mse", Optimisation(lr=0.02, batch_size=6, epochs=20))
    assert torch.allclose(lin(x), found.train[0], atol=1e-10)
    assert not torch.allclose(lin(x), model(x), atol=1e-2)
    assert torch.equal(next(iter(lin.start().values())), next(model.parameters()))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.layer(x).mean(1))


@pytest.mark.parametrize(
    ("make", "x"),
    [
        (Attention, rows(2, 24).reshape(2, 3, 8).float()),
        (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                               nn.Linear(16, 2)), rows(2, 36).reshape(2, 1, 6, 6).float()),
    ],
)  # fmt: skip
def test_networks_as_people_write_them(make, x):
    torch.manual_seed(0)
    start = make().eval()
    now = moved(start, 1e-3)
    lin = Linearised(now, start.state_dict())
    change = (now(x) - start(x)).detach()
    assert float((lin(x) - now(x)).detach().norm()) < 0.05 * float(change.norm())
    with torch.no_grad():
        assert not lin(x).requires_grad
        name = "x" if make is Attention else "input"
        assert torch.equal(lin(**{name: x}), lin(x))
    lin.train()
    assert not lin.network.training


def test_frozen_parameters_and_unused_ones():
    model = net()
    model[0].weight.requires_grad_(False)
    model.spare = nn.Parameter(torch.zeros(2).double())  # named, and never used
    assert "0.weight" not in Linearised(model).start()
    assert torch.isfinite(Linearised(model)(rows(2, 4))).all()


def test_refusals():
    model = net()
    with pytest.raises(ValueError, match="lacks 1 parameters of the model"):
        Linearised(model, {k: v for k, v in model.state_dict().items() if k != "0.bias"})
    with pytest.raises(ValueError, match=r"0.bias has shape \(2,\) at the expansion point"):
        Linearised(model, {**model.state_dict(), "0.bias": torch.zeros(2)})
    with pytest.raises(RefusedError, match="in training mode"):
        Linearised(nn.Sequential(nn.Linear(1, 1), nn.Dropout()).train())
    with pytest.raises(RefusedError, match="no parameter that requires a gradient"):
        Linearised(nn.Linear(1, 1).requires_grad_(False))
    with pytest.raises(RefusedError, match="one tensor, got tuple"):
        Linearised(nn.LSTM(2, 2).eval())(torch.zeros(1, 2))
