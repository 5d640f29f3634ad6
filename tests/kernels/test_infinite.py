"""Kernels of infinite width: golden values, quadrature, wide real networks, laws, refusals."""

import math

import pytest
import torch
from torch import nn

from theorylens.core import RefusedError
from theorylens.kernels import Affine, WideNetwork, ntk, read_wide_network, wide_kernels, wide_network
from theorylens.kernels._duals import HERMITE, Signals, dual
from theorylens.numerics.gaussian import ACTIVATIONS

COSINES = {
    -1.0: ("G4.1-1.-1", "G4.2-1.-1"), 0.0: ("G4.1-1.0", "G4.2-1.0"), 0.5: ("G4.1-1.0.5", "G4.2-1.0.5"),
    1.0: ("G4.1-1.1", "G4.2-1.1"),
}  # fmt: skip


def pair(cosine):
    return torch.tensor([[1.0, 0.0], [cosine, math.sqrt(1 - cosine**2)]], dtype=torch.float64)


def rows(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("cosine", COSINES)
def test_golden_relu_kernels_by_depth(golden, cosine):
    for which, key in zip(("ntk", "nngp"), COSINES[cosine], strict=True):
        found = [float(getattr(wide_kernels(wide_network(d), pair(cosine)), which)[0, 1]) for d in (1, 2, 3)]
        assert found == pytest.approx(golden(key), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(("activation", "key"), [("erf", "G4.1-2"), ("tanh", "G4.1-3")])
def test_golden_erf_and_tanh(golden, activation, key):
    found = wide_kernels(wide_network(1, activation, weight_variance=1.0), pair(0.5))
    nngp, ntk_ = float(found.nngp[0, 1]), float(found.ntk[0, 1])
    assert [nngp, (ntk_ - nngp) / 0.5, ntk_] == pytest.approx(golden(key), rel=1e-9)


def test_diagonals_of_both_conventions_of_the_input_scale():
    x = rows(4, 9)
    x = x / x.norm(dim=1, keepdim=True)
    for depth, unit, every in ((1, 2, 4), (2, 3, 6), (3, 4, 8)):
        assert wide_kernels(wide_network(depth), x).ntk.diagonal().tolist() == pytest.approx([unit] * 4, rel=1e-12)
        whole = wide_kernels(wide_network(depth, input_scale=2 / 9), 3 * x)  # |x|^2 = d, sw^2 = 2 in every layer
        assert whole.ntk.diagonal().tolist() == pytest.approx([every] * 4, rel=1e-12)


def expected(phi, q1, q2, rho):
    """E phi phi and E phi' phi' by a two-dimensional trapezoidal rule."""
    z = torch.arange(-1200, 1201, dtype=torch.float64) / 100
    w = torch.exp(-z * z / 2)
    w /= w.sum()
    a, b = torch.meshgrid(z, z, indexing="ij")
    u = (q1**0.5 * a).requires_grad_()
    v = (q2**0.5 * (rho * a + (1 - rho**2) ** 0.5 * b)).requires_grad_()
    fu, fv = phi(u), phi(v)
    (gu,), (gv,) = torch.autograd.grad(fu.sum(), u), torch.autograd.grad(fv.sum(), v)
    weight = w[:, None] * w
    return float((weight * fu * fv).sum().detach()), float((weight * gu * gv).sum())


@pytest.mark.parametrize("name", ["erf", "gelu", *HERMITE])
@pytest.mark.parametrize(("q1", "q2", "rho"), [(1.0, 0.7, 0.5), (4.0, 0.3, -0.95), (2.0, 2.0, 0.999)])
def test_smooth_duals_agree_with_quadrature(name, q1, q2, rho):
    c = torch.tensor([[rho * (q1 * q2) ** 0.5]], dtype=torch.float64)
    one, two = torch.tensor([q1], dtype=torch.float64), torch.tensor([q2], dtype=torch.float64)
    found, slopes = dual(name)(Signals(one, two, c, one[:, None] + two - 2 * c))
    value, slope = expected(ACTIVATIONS[name], q1, q2, rho)
    assert float(found.c) == pytest.approx(value, rel=1e-10)
    assert float(slopes) == pytest.approx(slope, rel=1e-10)
    itself, _ = dual(name)(Signals(one, one, one[:, None], torch.zeros(1, 1, dtype=torch.float64)))
    assert float(found.q1) == pytest.approx(float(itself.c), rel=1e-12)


def test_leaky_relu_agrees_with_sampling():
    z = rows(4_000_000, 2, seed=1)
    u, v = z[:, 0], 0.6 * z[:, 0] + 0.8 * z[:, 1]
    phi = ACTIVATIONS["leaky_relu"]
    x = pair(0.6)
    found = wide_kernels(wide_network(1, "leaky_relu", weight_variance=1.0), x)
    assert float(found.nngp[0, 1]) == pytest.approx(float((phi(u) * phi(v)).mean()), abs=2e-3)
    slopes = torch.where(u > 0, 1.0, 0.01) * torch.where(v > 0, 1.0, 0.01)
    assert float((found.ntk - found.nngp)[0, 1]) / 0.6 == pytest.approx(float(slopes.mean()), abs=1e-3)


def test_nearly_equal_inputs_keep_their_angle():
    """A product of rows knows an angle of 1e-9 to no digit; E relu' relu' = 1/2 - angle / (2 pi)."""
    for angle in (1e-3, 1e-6, 1e-9):
        x = torch.tensor([[1.0, 0.0], [1.0, angle]], dtype=torch.float64)
        found = wide_kernels(wide_network(1, weight_variance=1.0, input_bias_variance=0.0), x[:1], x[1:])
        tangent = float(found.ntk - found.nngp)
        exact = 0.5 - math.atan(angle) / (2 * math.pi)  # its inner product is 1
        assert 0.5 - tangent == pytest.approx(0.5 - exact, rel=1e-6)


def test_zero_rows_give_zeros_and_no_nan():
    x = torch.cat([torch.zeros(1, 3, dtype=torch.float64), rows(2, 3)])
    for name in ("relu", "erf", "gelu", "tanh"):
        found = wide_kernels(wide_network(2, name), x)
        assert torch.isfinite(found.ntk).all()
        assert found.ntk[0].abs().max() == 0
    with_bias = wide_kernels(wide_network(2, "relu", bias_variance=0.1, input_bias_variance=0.1), x)
    assert (with_bias.ntk[0] > 0).all()
    assert torch.isfinite(with_bias.ntk).all()


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu"])
def test_blocks_and_two_sets_give_the_same_matrix(name, monkeypatch):
    x, network = rows(9, 4), wide_network(2, name, input_scale=0.25, bias_variance=0.05)
    whole = wide_kernels(network, x)
    monkeypatch.setattr("theorylens.kernels._infinite.TILE", 4)
    for part in (wide_kernels(network, x), wide_kernels(network, x, x)):
        assert torch.allclose(part.ntk, whole.ntk, rtol=1e-10)
        assert torch.allclose(part.nngp, whole.nngp, rtol=1e-10)
    rotation, _ = torch.linalg.qr(rows(4, 4, seed=2))
    assert torch.allclose(wide_kernels(network, x @ rotation).ntk, whole.ntk, rtol=1e-9)


def test_kernels_are_positive_semi_definite_and_relu_scales_with_the_inputs():
    x = rows(30, 5)
    for name in ("relu", "tanh", "gelu", "erf"):
        levels = torch.linalg.eigvalsh(wide_kernels(wide_network(3, name, input_scale=0.2), x).ntk)
        assert levels[0] > -1e-10 * levels[-1]
    assert torch.allclose(wide_kernels(wide_network(2), 3 * x).ntk, 9 * wide_kernels(wide_network(2), x).ntk)


@pytest.mark.parametrize(("activation", "bias"), [(nn.ReLU, True), (nn.Tanh, True), (nn.GELU, False)])
def test_wide_torch_networks_approach_the_kernel_at_the_rate_of_one_over_root_width(activation, bias):
    x = rows(8, 5)
    gaps = []
    for width in (64, 1024):
        errors = []
        for seed in range(4):
            torch.manual_seed(seed)
            net = nn.Sequential(
                nn.Flatten(), nn.Linear(5, width, bias), activation(), nn.Linear(width, width, bias), activation(),
                nn.Linear(width, 3, bias),
            ).double().eval()  # fmt: skip
            theory = wide_kernels(read_wide_network(net), x).ntk
            measured = ntk(net, x, output="trace") / 3
            errors.append(float((measured - theory).norm() / theory.norm()))
        gaps.append(sum(errors) / 4)
    slope = math.log(gaps[1] / gaps[0]) / math.log(1024 / 64)
    assert gaps[1] < 0.15
    assert -0.75 < slope < -0.25, gaps  # -1/2 in theory


def test_the_covariance_of_many_wide_outputs_is_the_nngp():
    x = rows(4, 5)
    measured, theory = torch.zeros(4, 4, dtype=torch.float64), torch.zeros(4, 4, dtype=torch.float64)
    for seed in range(12):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(5, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 2000)).double()
        outputs = net(x).detach()
        measured += outputs @ outputs.T / 2000
        theory += wide_kernels(read_wide_network(net.eval()), x).nngp
    assert float((measured - theory).norm() / theory.norm()) < 0.05


def test_frozen_parameters_are_left_out_of_the_tangent_kernel():
    x = rows(6, 5)
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(5, 2048), nn.ReLU(), nn.Linear(2048, 1)).double().eval()
    net[0].requires_grad_(False)
    theory = wide_kernels(read_wide_network(net), x).ntk
    assert float((ntk(net, x, output="trace") - theory).norm() / theory.norm()) < 0.1


def test_biases_count_in_both_kernels():
    """Unit vector, relu, variances 2 and 0.1, input bias 0.2: S = 1.2 then 1.3; T = 1.2, then 1.3 + 1.2."""
    found = wide_kernels(wide_network(1, bias_variance=0.1, input_bias_variance=0.2), pair(0.5))
    assert found.nngp.diagonal().tolist() == pytest.approx([1.3, 1.3], rel=1e-12)
    assert found.ntk.diagonal().tolist() == pytest.approx([2.5, 2.5], rel=1e-12)


def test_the_kernel_of_biases_alone():
    x = rows(6, 5)
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(5, 4096), nn.Tanh(), nn.Linear(4096, 1)).double().eval()
    for layer in (net[0], net[2]):
        layer.weight.requires_grad_(False)
    theory = wide_kernels(read_wide_network(net), x).ntk
    assert float((ntk(net, x, output="trace") - theory).norm() / theory.norm()) < 0.02
    assert float(theory.min()) > 1  # the output bias alone gives 1


def test_refusals():
    with pytest.raises(ValueError, match="depth must be at least 1"):
        wide_network(0)
    with pytest.raises(ValueError, match="unknown activation 'swish'"):
        wide_network(2, "swish")
    with pytest.raises(ValueError, match="3 weight variances for 2 hidden layers"):
        wide_network(2, weight_variance=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="weight variance must be positive"):
        wide_network(1, weight_variance=-1.0)
    with pytest.raises(ValueError, match="bias variance must be zero or more"):
        wide_network(1, bias_variance=-1.0)
    with pytest.raises(ValueError, match="needs a hidden layer"):
        WideNetwork(layers=(Affine(weight_variance=1.0),), activations=())
    with pytest.raises(ValueError, match="one affine layer more"):
        WideNetwork(layers=(Affine(weight_variance=1.0),), activations=("relu",))
    with pytest.raises(ValueError, match="give one each"):
        WideNetwork(layers=(Affine(weight_variance=1.0),) * 2, activations=("relu",), slopes=(0.1, 0.2))
    with pytest.raises(ValueError, match="only leaky_relu has a slope"):
        WideNetwork(layers=(Affine(weight_variance=1.0),) * 2, activations=("relu",), slopes=(0.1,))
    with pytest.raises(ValueError, match="one row per example"):
        wide_kernels(wide_network(1), torch.zeros(3))
    with pytest.raises(ValueError, match="not finite"):
        wide_kernels(wide_network(1), torch.tensor([[math.nan]]))
    with pytest.raises(ValueError, match="same number"):
        wide_kernels(wide_network(1), rows(2, 3), rows(2, 4))
    with pytest.raises(ValueError, match="does not converge in 4096 terms"):
        wide_kernels(wide_network(1, "tanh", input_scale=1e4), rows(2, 3))


@pytest.mark.parametrize(
    ("net", "match"),
    [
        (nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 1)), "BatchNorm1d"),
        (nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)), "follows another affine layer"),
        (nn.Sequential(nn.Linear(2, 3)), "at least one"),
        (nn.Sequential(nn.Linear(2, 3), nn.ReLU()), "affine layer at the end"),
        (nn.Sequential(nn.Linear(2, 3), nn.Softplus(beta=2.0), nn.Linear(3, 1)), "beta 1 only"),
        (nn.Conv2d(1, 1, 1), "the model .Conv2d."),
    ],
)
def test_networks_without_such_a_kernel_are_refused(net, match):
    with pytest.raises(RefusedError, match=match):
        read_wide_network(net.eval())


def test_dropout_in_training_mode_is_refused():
    with pytest.raises(RefusedError, match="training mode"):
        read_wide_network(nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5), nn.ReLU(), nn.Linear(3, 1)).train())
