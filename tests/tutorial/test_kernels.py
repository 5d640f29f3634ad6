"""Chapter 4 of the tutorial: what its code gets wrong and this library must not."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from theorylens.kernels import (
    Linearised,
    Scaled,
    alignment,
    effective_dimension,
    kernel_descent,
    kernel_flow,
    kernel_ridge_risk_bound,
    laziness,
    leverage,
    max_stable_kernel_lr,
    ntk,
    predicted_training,
    read_wide_network,
    regime_diagram,
    rkhs_ball_bound,
    rkhs_norm,
    wide_kernels,
    wide_network,
)
from theorylens.training import Keeping, Optimisation, fit

THETA = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)


def unit(*cosines):
    rows = [[1.0, 0.0], *([c, math.sqrt(1 - c * c)] for c in cosines)]
    return torch.tensor(rows, dtype=torch.float64)


def rows(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def net(width=32, seed=0, outputs=1):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, outputs)).eval()


# ---- 4.1 the tangent kernel --------------------------------------------------------------------------------------


def test_the_kernel_of_float32_parameters_is_not_rounding_noise():
    """Central differences of 1e-7 in float32 gave [[4.44, 3.91], [3.91, 3.55]]."""

    class Tutorial(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.w = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(0.5))

        def forward(self, x):
            return self.a * torch.tanh(self.w * x)

    found = ntk(Tutorial(), torch.tensor([[1.0], [2.0]]), output="trace")
    assert found.flatten().tolist() == pytest.approx([2.687552414, 2.994248677, 2.994248677, 3.40208082], rel=1e-6)


def test_a_network_of_several_outputs_has_a_kernel_of_several_outputs():
    x = rows(3, 4)
    full = ntk(net(outputs=2), x)
    assert full.shape == (3, 3, 2, 2)
    assert torch.allclose(ntk(net(outputs=2), x, output="trace"), full[..., 0, 0] + full[..., 1, 1])


def test_the_infinite_width_kernel_is_a_tangent_kernel_and_not_half_a_covariance():
    """The tutorial gave .304, .243, .225 at cosine one half: an NNGP kernel whose norms were lost."""
    found = [wide_kernels(wide_network(depth), unit(0.5)) for depth in (1, 2, 3)]
    assert [float(k.ntk[0, 1]) for k in found] == pytest.approx([0.9423311144, 1.351479561, 1.737844679], rel=1e-9)
    assert [float(k.ntk[0, 0]) for k in found] == pytest.approx([2, 3, 4], rel=1e-12)
    assert all(float(k.ntk[0, 1]) > float(k.nngp[0, 1]) for k in found)


def test_the_norms_of_the_inputs_count():
    x = unit(0.5)
    assert torch.allclose(wide_kernels(wide_network(2), 3 * x).ntk, 9 * wide_kernels(wide_network(2), x).ntk)


def test_every_activation_has_its_own_kernel_and_an_unknown_one_none():
    """The tutorial used the cosine similarity for tanh and for any name it did not know."""
    values = {name: float(wide_kernels(wide_network(1, name), unit(0.5)).ntk[0, 1]) for name in ("relu", "tanh", "erf")}
    assert len({round(v, 6) for v in values.values()}) == 3
    assert 0.5 not in {round(v, 6) for v in values.values()}
    with pytest.raises(ValueError, match="unknown activation 'sine'"):
        wide_network(1, "sine")


def test_a_zero_row_is_no_nan():
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    assert torch.isfinite(wide_kernels(wide_network(3), x).ntk).all()


def test_gradient_descent_above_the_stability_limit_diverges():
    """The tutorial answered with the exponential of gradient flow, .99998, where descent is at -511."""
    y = torch.tensor([1.0, 0.0])
    descent = kernel_descent(THETA, y, 1.0, 10)
    assert float(descent.train[-1][0]) == pytest.approx(-511)
    assert descent.trouble is not None
    assert float(kernel_flow(THETA, y, [10.0]).train[0][0]) == pytest.approx(1, abs=1e-4)
    assert max_stable_kernel_lr(THETA) == pytest.approx(2 / 3)


def test_the_mean_loss_is_n_times_slower_than_the_sum():
    y = torch.tensor([1.0, -1.0])
    half = kernel_flow(THETA, y, [2.0], reduction="half_mean").train
    assert torch.allclose(half, kernel_flow(THETA, y, [1.0]).train)


def test_predictions_exist_off_the_training_points():
    x, y, z = rows(8, 4), rows(8, 1, 1), rows(5, 4, 2)
    model = net(512)
    lr = 0.5 * max_stable_kernel_lr(ntk(model, x), reduction="mse")
    found = predicted_training(model, x, y, lr=lr, steps=20, x_test=z)
    moved = (found.measured.test[-1] - found.measured.test[0]).norm()
    assert float((found.predicted.test[-1] - found.measured.test[-1]).norm() / moved) < 0.1


def test_laziness_depends_on_the_scale_of_the_outputs_with_width_and_learning_rate_fixed():
    """The tutorial's rule, P > 10 n and lr < 1 / sqrt(P), gives one answer for all of these trainings."""
    x, y, changes = rows(12, 4), rows(12, 1, 1), []
    for alpha in (0.1, 1.0, 10.0, 100.0):
        model = Scaled(net(), alpha).eval()
        start = copy.deepcopy(model.state_dict())
        fit(
            model,
            (x, y),
            "mse",
            Optimisation(lr=0.05 / alpha**2, batch_size=12, epochs=150),
            keeping=Keeping(every=150),
        )
        changes.append(laziness(model, start, x))
    assert changes[0].regime == "rich"
    assert changes[-1].regime == "lazy"
    sizes = [c.kernel.relative for c in changes]
    assert sizes == sorted(sizes, reverse=True)


# ---- 4.2 wide networks -------------------------------------------------------------------------------------------


def test_the_linearised_network_uses_the_gradient_of_the_network():
    """The tutorial took .01 for every derivative: 6.01 where the expansion is 10.5."""

    class Product(nn.Module):
        def __init__(self, a, b):
            super().__init__()
            self.a, self.b = nn.Parameter(torch.tensor(a)), nn.Parameter(torch.tensor(b))

        def forward(self, x):
            return self.a * self.b * x

    found = Linearised(Product(1.5, 2.5), Product(1.0, 2.0).state_dict())(torch.tensor([[3.0]]))
    assert found.item() == pytest.approx(10.5)


def test_the_prior_covariance_knows_depth_activation_and_variances():
    """S4.2-1: the tutorial's diagonal of 1/2 is one ReLU layer of unit weight variance; it gave it for every depth."""
    x = unit(0.5, -0.3)
    one, five = (wide_kernels(wide_network(d, weight_variance=1.0), x).nngp for d in (1, 5))
    assert one.diagonal().tolist() == pytest.approx([0.5] * 3, rel=1e-12)  # "S4.2-1"
    assert five.diagonal().tolist() == pytest.approx([0.5**5] * 3, rel=1e-12)
    assert torch.equal(one, one.T)
    assert not torch.allclose(one, wide_kernels(wide_network(1, "erf", weight_variance=1.0), x).nngp)


def test_a_large_scale_is_lazy_and_a_small_one_learns_features():
    """The tutorial declared initial scale 10 feature learning and .1 lazy: the other way round."""
    x, y, turn = rows(12, 4), torch.sign(rows(12, 4)[:, :1]), {}
    for alpha in (0.1, 10.0):
        model = Scaled(net(), alpha).eval()
        before = ntk(model, x, output="trace")
        start = copy.deepcopy(model.state_dict())
        fit(
            model,
            (x, y),
            "mse",
            Optimisation(lr=0.05 / alpha**2, batch_size=12, epochs=150),
            keeping=Keeping(every=150),
        )
        growth = alignment(ntk(model, x, output="trace"), y) - alignment(before, y)
        turn[alpha] = laziness(model, start, x).kernel.centred_turn, growth
    assert turn[0.1][0] > 10 * turn[10.0][0]
    assert turn[0.1][1] > 5 * abs(turn[10.0][1])


def make(width, seed):
    return net(width, seed)


def test_the_regime_diagram_is_trained_and_its_scale_is_an_axis(tmp_path):
    x, y = rows(8, 4), rows(8, 1, 1)
    found = regime_diagram(
        make, (x, y), widths=(8, 32), lrs=(0.05, 500.0), alphas=(0.3, 100.0), steps=40, jobs=1, directory=tmp_path
    )
    regimes = {(r["width"], r["lr"], r["alpha"]): r["regime"] for r in found.runs}
    assert len(regimes) == 8
    assert regimes[8, 500.0, 100.0] == "diverged"
    changes = {key: r["kernel_change"] for key, r in zip(regimes, found.runs, strict=True)}
    for width in (8, 32):
        assert regimes[width, 0.05, 100.0] == "lazy"
        assert changes[width, 0.05, 0.3] > 5 * changes[width, 0.05, 100.0]


def test_the_examples_compare_a_measured_kernel_with_the_analytic_one():
    """The tutorial printed numbers of an NNGP kernel and trained no network."""
    x = rows(6, 4).double()
    model = net(4096).double()
    theory = wide_kernels(read_wide_network(model), x).ntk
    assert float((ntk(model, x, output="trace") - theory).norm() / theory.norm()) < 0.1


# ---- 4.3 generalisation ------------------------------------------------------------------------------------------


def test_targets_outside_the_kernels_space_have_no_norm():
    """K = 11', y = (1, -1): a fixed ridge of 1e-6 gave 1414."""
    found = rkhs_norm(torch.ones(2, 2), torch.tensor([1.0, -1.0]))
    assert found.value == math.inf
    assert found.outside == pytest.approx(1)
    assert math.isfinite(rkhs_norm(torch.ones(2, 2), torch.tensor([1.0, -1.0]), ridge=1e-6).value)


def test_the_norm_does_not_hide_a_ridge_that_depends_on_units():
    y = torch.tensor([1.0, -1.0])
    assert rkhs_norm(1e-9 * THETA, y).value == pytest.approx(rkhs_norm(THETA, y).value * 10**4.5, rel=1e-9)


def test_bounds_shrink_with_more_data():
    """|f|^2 / n + sigma^2 tr(K) / n grew .85, 1.51, 2.05 for n = 25, 50, 100: tr(K) / n does not decay."""
    x = rows(400, 6).double()
    x = x / x.norm(dim=1, keepdim=True)
    balls, risks = [], []
    for n in (25, 100, 400):
        K = wide_kernels(wide_network(2), x[:n]).ntk
        f = x[:n, 0]
        balls.append(rkhs_ball_bound(K, 1.0, 0.0, delta=0.05))
        ridge = n**0.5 * float(K.trace()) / n / 10
        risks.append(kernel_ridge_risk_bound(K, rkhs_norm(K, f).value, ridge, 0.1))
    assert balls[0] > balls[1] > balls[2]
    assert risks[0] > risks[1] > risks[2]


def test_constant_targets_are_refused_and_classes_are_compared_as_classes():
    with pytest.raises(ValueError, match="targets are constant"):
        alignment(THETA, torch.ones(2))
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    hot = torch.eye(3, dtype=torch.float64)[labels]
    K = hot @ hot.T
    assert alignment(K, labels) == pytest.approx(1)
    assert alignment(K, hot) == pytest.approx(1)


def test_a_negative_eigenvalue_of_rounding_is_zero_and_a_real_one_refused():
    """-1e-3 beside lambda = 1e-3 gave minus infinity."""
    with pytest.raises(ValueError, match="positive semi-definite"):
        effective_dimension(torch.tensor([1.0, -1e-3]), 1e-3)
    assert effective_dimension(torch.tensor([1.0, -1e-9]), 1e-9) == pytest.approx(1)


def test_the_two_conventions_of_the_ridge_are_told_apart():
    levels = torch.tensor([1.0, 2.0, 4.0])
    assert effective_dimension(levels, 0.5, per_example=True) == pytest.approx(effective_dimension(levels, 1.5))
    K = rows(6, 9).double()
    K = K @ K.T
    direct = torch.trace(K @ torch.linalg.inv(K + 6 * 0.3 * torch.eye(6, dtype=torch.float64)))
    assert effective_dimension(K, 0.3, per_example=True) == pytest.approx(float(direct))
    assert float(leverage(K, 0.3, per_example=True).sum()) == pytest.approx(float(direct))
    assert np.isfinite(float(leverage(K, 0.3).max()))


def test_effective_dimensions_of_the_tutorials_example():
    """S4.3-2: right for the kernel the tutorial has, which is the covariance of one ReLU layer for unit vectors."""
    x = np.random.RandomState(42).randn(100, 10)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    K = wide_kernels(wide_network(1, weight_variance=1.0), x).nngp
    found = [effective_dimension(K, ridge) for ridge in (1e-3, 1e-2, 1e-1)]
    assert found == pytest.approx([95.16, 73.74, 39.91], abs=0.006)
