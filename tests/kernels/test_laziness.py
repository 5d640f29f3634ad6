"""Lazy and rich training measured: kappa in closed form, the alpha scaling, diagonal networks, regime diagrams."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from theorylens.core import RefusedError
from theorylens.kernels import (
    DiagonalNetwork,
    Laziness,
    Movement,
    Scaled,
    diagonal_network_limit,
    laziness,
    max_stable_kernel_lr,
    ntk,
    predicted_training,
    regime_diagram,
    relative_curvature,
)
from theorylens.report._plots import figure
from theorylens.training import Optimisation, fit


def rows(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def make(width, seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 1)).eval()


def rng():
    return torch.Generator().manual_seed(0)


class Product(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(1.5).double()), nn.Parameter(torch.tensor(2.5).double())

    def forward(self, x):
        return self.a * self.b * x


class Quadratic(nn.Module):
    """f(x) = theta' A_x theta for two inputs that choose a matrix."""

    def __init__(self):
        super().__init__()
        a = torch.randn(2, 5, 5, generator=rng()).double()
        self.forms = a + a.mT
        self.theta = nn.Parameter(torch.ones(5).double())

    def forward(self, x):
        return torch.einsum("i,nij,j->n", self.theta, self.forms[x[:, 0].long()], self.theta)[:, None]


def test_kappa_of_a_product_in_closed_form():
    x = torch.tensor([[3.0]]).double()
    found = relative_curvature(Product(), x, torch.ones(1, 1).double(), rng=rng())
    assert found.value == pytest.approx((3 * 3.75 - 1) * 3 / ((1.5**2 + 2.5**2) * 9), rel=1e-9)
    assert found.trouble is None


def test_kappa_of_quadratic_outputs_agrees_with_a_search_over_outputs():
    """sup over a, b of |D2f[a, b]| is the largest over unit u of the spectral norm of sum u_n 2 A_n."""
    net, x = Quadratic(), torch.tensor([[0.0], [1.0]]).double()
    found = relative_curvature(net, x, torch.zeros(2, 1).double(), rng=rng(), restarts=8)
    angles = torch.linspace(0, math.pi, 20001).double()
    mixed = 2 * (angles.cos()[:, None, None] * net.forms[0] + angles.sin()[:, None, None] * net.forms[1])
    bend = float(torch.linalg.eigvalsh(mixed).abs().max())
    jacobian = 2 * torch.stack([net.forms[0] @ net.theta, net.forms[1] @ net.theta]).detach()
    slope = float(torch.linalg.matrix_norm(jacobian, 2)) ** 2
    assert found.value == pytest.approx(float(net(x).detach().norm()) * bend / slope, rel=1e-3)
    assert found.upper == math.inf


def test_kappa_falls_like_one_over_alpha():
    x, y = rows(6, 4), rows(6, 1, 1)
    one, ten = (relative_curvature(Scaled(make(16, 0), a).eval(), x, y, rng=rng()).value for a in (1.0, 10.0))
    assert ten == pytest.approx(one / 10, rel=0.02)


def test_kappa_refusals():
    net, x = make(4, 0), rows(3, 4)
    with pytest.raises(ValueError, match="targets of shape"):
        relative_curvature(net, x, torch.zeros(3), rng=rng())
    with pytest.raises(RefusedError, match="in training mode"):
        relative_curvature(nn.Sequential(nn.Linear(4, 1), nn.Dropout()).train(), x, torch.zeros(3, 1), rng=rng())


def test_laziness_of_an_untrained_and_of_a_linear_network():
    net, x = make(8, 0), rows(6, 4)
    with pytest.raises(ValueError, match="expansion point"):
        laziness(net, {}, x)
    still = laziness(net, copy.deepcopy(net.state_dict()), x)
    assert (still.kernel.relative, still.parameters) == (0, 0)
    assert math.isnan(still.outputs)
    linear = nn.Linear(4, 1).eval()
    start = copy.deepcopy(linear.state_dict())
    fit(linear, (x, rows(6, 1, 1)), "mse", Optimisation(lr=0.1, batch_size=6, epochs=20))
    found = laziness(linear, start, x)
    assert found.kernel.relative < 1e-6
    assert found.outputs < 1e-5
    assert found.parameters > 0.01
    assert found.regime == "lazy"


def test_laziness_agrees_with_kernels_taken_by_hand():
    net, x, y = make(8, 0), rows(6, 4), rows(6, 1, 1)
    start, before = copy.deepcopy(net.state_dict()), copy.deepcopy(net)
    fit(net, (x, y), "mse", Optimisation(lr=0.3, batch_size=6, epochs=200))
    found, after = laziness(net, start, x), copy.deepcopy(net.state_dict())
    k0, k1 = ntk(before, x, output="trace"), ntk(net, x, output="trace")
    assert found.kernel.relative == pytest.approx(float((k1 - k0).norm() / k0.norm()), rel=1e-5)
    change = sum(float((after[k] - start[k]).square().sum()) for k in start)
    assert found.parameters == pytest.approx((change / sum(float(v.square().sum()) for v in start.values())) ** 0.5)
    assert all(torch.equal(net.state_dict()[k], after[k]) for k in after)


@pytest.mark.parametrize(("change", "regime"), [(0.05, "lazy"), (0.3, "between"), (0.7, "rich")])
def test_the_regime_is_read_off_the_change_of_the_kernel(change, regime):
    movement = Movement(relative=change, turn=0.0, centred_turn=0.0)
    assert Laziness(kernel=movement, parameters=0.1, outputs=0.1).regime == regime


def test_golden_diagonal_networks(golden):
    x, y = torch.tensor([[1.0, 2.0]]), torch.tensor([1.0])
    for alpha, expected in zip((0.1, 1.0, 10.0), golden("G4.2-3"), strict=True):
        assert diagonal_network_limit(x, y, alpha).tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_a_trained_diagonal_network_arrives_where_the_potential_says(alpha):
    x, y = rows(2, 5).double(), torch.tensor([1.0, -0.5]).double()
    net = DiagonalNetwork(5, alpha).double()
    optimizer = torch.optim.SGD(net.parameters(), lr=5e-3)
    for _ in range(4000):
        optimizer.zero_grad()
        nn.functional.mse_loss(net(x)[:, 0], y).backward()
        optimizer.step()
    assert torch.allclose(net.weights, diagonal_network_limit(x, y, alpha), atol=5e-3)


def test_small_scales_find_sparse_weights_and_large_ones_the_smallest_norm():
    x = rows(12, 40).double()
    sparse = torch.zeros(40).double()
    sparse[:2] = torch.tensor([1.0, -2.0])
    y = x @ sparse
    ones = np.ones(80)
    shortest = linprog(ones, A_eq=torch.cat([x, -x], 1).numpy(), b_eq=y.numpy(), method="highs").fun
    sizes = [float(diagonal_network_limit(x, y, alpha).abs().sum()) / shortest for alpha in (1e-4, 1e-2, 1.0)]
    assert 1 < sizes[0] < 1.1 < sizes[1] < sizes[2]
    assert torch.allclose(diagonal_network_limit(x, y, 1e3), torch.linalg.pinv(x) @ y, atol=1e-5)


def test_diagonal_refusals():
    with pytest.raises(ValueError, match="alpha must be positive"):
        diagonal_network_limit(rows(1, 2), torch.ones(1), 0.0)
    with pytest.raises(ValueError, match="linearly dependent"):
        diagonal_network_limit(torch.ones(2, 3), torch.ones(2), 1.0)
    with pytest.raises(ValueError, match="needed are finite x"):
        diagonal_network_limit(rows(2, 3), torch.ones(3), 1.0)
    with pytest.raises(ValueError, match="use a larger alpha"):
        diagonal_network_limit(rows(1, 2), torch.ones(1), 1e-12)
    with pytest.raises(ValueError, match="alpha must be positive"):
        Scaled(nn.Linear(1, 1), -1.0)


def test_a_scaled_network_starts_at_zero_and_its_kernel_counts_alpha_squared():
    net, x = make(8, 0), rows(5, 4)
    scaled = Scaled(copy.deepcopy(net), 3.0).eval()
    assert scaled(x).abs().max() == 0
    assert torch.allclose(ntk(scaled, x, output="trace"), 9 * ntk(net, x, output="trace"), rtol=1e-5)
    assert not any(p.requires_grad for p in scaled.start.parameters())


@pytest.fixture(scope="module")
def diagram(tmp_path_factory):
    """Tanh networks on a small regression, lr over the limit of a fixed kernel from 0.03 to 60."""
    x = rows(16, 4)
    y = torch.sin(2 * x[:, :1]) + 0.5 * x[:, 1:2]
    return regime_diagram(
        make, (x, y), widths=(16, 64), lrs=(0.05, 100.0), alphas=(0.3, 10.0, 100.0), steps=150, jobs=1,
        directory=tmp_path_factory.mktemp("regimes"),
    )  # fmt: skip


def test_large_scales_train_lazily(diagram):
    calm = [r for r in diagram.runs if r["lr"] == 0.05]
    by_scale = {a: [r["kernel_change"] for r in calm if r["alpha"] == a] for a in (0.3, 10.0, 100.0)}
    for width in (0, 1):
        assert by_scale[0.3][width] > 2 * by_scale[10.0][width] > 10 * by_scale[100.0][width]
    assert all(r["regime"] == "lazy" for r in calm if r["alpha"] == 100.0)
    assert all(r["linear_gap"] < 0.02 for r in calm if r["alpha"] == 100.0)
    large = type(diagram)(runs=tuple(r for r in calm if r["alpha"] >= 10))
    assert large.slope("alpha") == pytest.approx(-1, abs=0.2)  # Chizat, Oyallon, Bach (2019): kernel change ~ 1 / alpha


def test_trainings_that_diverge_are_marked_and_kept(diagram):
    wild = [r for r in diagram.runs if r["lr"] == 100.0]
    assert all(r["lr_over_limit"] > 10 for r in wild)
    lazy = [r for r in wild if r["alpha"] == 100.0]
    assert all(r["regime"] == "diverged" and math.isnan(r["kernel_change"]) for r in lazy)
    assert len(diagram.runs) == 12


def test_the_diagram_can_be_drawn(diagram):
    matrix = diagram.matrix("alpha", "lr")
    assert matrix.values.shape == (3, 2)
    assert np.isnan(matrix.values[2, 1])
    assert np.isfinite(matrix.values[:, 0]).all()
    for payload in (matrix, diagram.curve("alpha"), diagram.table()):
        assert figure(payload) is not None
    with pytest.raises(ValueError, match="two values of steps"):
        type(diagram)(runs=()).slope("steps")


def test_an_empty_axis_is_refused(tmp_path):
    with pytest.raises(ValueError, match="0 widths"):
        regime_diagram(make, (rows(4, 4), rows(4, 1)), widths=(), lrs=(0.1,), steps=1, directory=tmp_path)


def test_the_kernel_predicts_a_wide_network_better_than_a_narrow_one():
    x, y, z = rows(12, 4), rows(12, 1, 1), rows(8, 4, 2)
    gaps = []
    for width in (16, 1024):
        net = make(width, 0)
        lr = 0.5 * max_stable_kernel_lr(ntk(net, x), reduction="mse")
        found = predicted_training(net, x, y, lr=lr, steps=60, x_test=z)
        gaps.append(float(found.gap[-1]))
        assert float(found.gap[0]) == 0
        assert torch.allclose(found.predicted.train[0], found.measured.train[0], atol=1e-6)
    assert gaps[1] < 0.25 * gaps[0]
    assert gaps[1] < 0.1
    assert float(found.measured.loss[-1]) == pytest.approx(float(found.predicted.loss[-1]), rel=0.1)
    assert figure(found.curve()) is not None
    with pytest.raises(ValueError, match="targets of shape"):
        predicted_training(make(4, 0), x, y[:, 0], lr=0.1, steps=1)
