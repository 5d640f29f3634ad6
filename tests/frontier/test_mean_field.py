"""Mean-field theory: golden values, closed forms, simulation of wide random networks, refusals."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import nn

from theorylens.frontier import NoFixedPointError, chi, layer_signals, mean_field
from theorylens.frontier._mean_field import ACTIVATIONS


@pytest.mark.parametrize(
    ("sigma_w2", "sigma_b2", "q", "chi_1"),
    [
        (1.5, 0.05, 0.4180372005, 0.9386362682),
        (2.25, 0.0, 0.7933540426, 1.139323225),
        (0.5, 0.1, 0.1627821475, 0.3926395262),
    ],
)
def test_golden_tanh(sigma_w2, sigma_b2, q, chi_1):
    found = mean_field("tanh", sigma_w2, sigma_b2)
    assert found.q == pytest.approx(q, rel=1e-9)
    assert found.chi == pytest.approx(chi_1, rel=1e-9)


def test_golden_relu_and_scale_free_activations():
    critical = mean_field("relu", 2.0)
    assert (critical.q, critical.chi) == (1.0, pytest.approx(1.0, abs=1e-13))
    assert critical.depth_scale > 1e12
    assert mean_field("relu", 2.0, 0.1).q == math.inf  # no fixed point, and chi all the same
    assert mean_field("relu", 3.0).chi == pytest.approx(1.5)
    ordered = mean_field("relu", 1.0, 0.1)
    assert (ordered.q, ordered.chi) == (pytest.approx(0.2), pytest.approx(0.5))
    leaky = mean_field(lambda x: torch.where(x > 0, x, 0.2 * x), 1.5)
    assert (leaky.q, leaky.chi) == (0.0, pytest.approx(1.5 * (1 + 0.04) / 2))
    assert mean_field("identity", 0.5, 1.0).q == pytest.approx(2.0)


def test_erf_in_closed_form():
    """E erf^2 = (2 / pi) asin(2q / (1 + 2q)); E erf'^2 = (4 / pi) / sqrt(1 + 4q) (Williams 1997)."""
    found = mean_field("erf", 2.0, 0.1)
    q = found.q
    assert q == pytest.approx(2 * 2 / math.pi * math.asin(2 * q / (1 + 2 * q)) + 0.1, rel=1e-12)
    assert found.chi == pytest.approx(2 * 4 / math.pi / math.sqrt(1 + 4 * q), rel=1e-12)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
@pytest.mark.parametrize("q", [1e-3, 0.7, 50.0])
def test_chi_agrees_with_adaptive_quadrature(name, q):
    phi = ACTIVATIONS[name]

    def integrand(z):
        x = torch.tensor(q**0.5 * z, dtype=torch.float64, requires_grad=True)
        return float(torch.autograd.grad(phi(x), x)[0]) ** 2 * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    expected = sum(integrate.quad(integrand, a, b, epsabs=1e-12, limit=200)[0] for a, b in [(-10, 0), (0, 10)])
    assert float(chi(name, 1.3, np.array([q]))[0]) == pytest.approx(1.3 * expected, rel=1e-8)


def test_below_the_edge_the_variance_dies_and_chi_is_the_slope_at_zero():
    found = mean_field("tanh", 0.8)
    assert (found.q, found.chi) == (0.0, pytest.approx(0.8, rel=1e-10))
    assert found.depth_scale == pytest.approx(-1 / math.log(0.8))
    assert mean_field("tanh", 0.0).depth_scale == 0.0


def test_the_fixed_point_is_reached_by_iterating_the_map():
    z = np.random.default_rng(0).normal(size=400_000)
    q = 1.0
    for _ in range(60):
        q = 2.0 * np.mean(np.tanh(np.sqrt(q) * z) ** 2) + 0.3
    assert mean_field("tanh", 2.0, 0.3).q == pytest.approx(q, rel=5e-3)  # sampling error of the mean


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("swish", 1.0), "unknown activation 'swish'; known are elu"),
        (("tanh", -1.0), "sigma_w2 must be a finite variance, zero or more, got -1"),
        (("tanh", 1.0, math.nan), "sigma_b2 must be a finite variance"),
    ],
)
def test_what_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        mean_field(*arguments)


def test_a_variance_that_diverges_is_named():
    with pytest.raises(NoFixedPointError, match="no fixed point; lower sigma_w2"):
        mean_field("silu", 3.0, 0.1)


def backward_factors(layers, activation, x, sigma_w2, sigma_b2, seed):
    """Factors of the squared gradient per step of one random network, for a random linear loss on the last layer."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for layer in layers():
        with torch.no_grad():
            layer.weight.normal_(0, (sigma_w2 / layer.weight[0].numel()) ** 0.5, generator=generator)
            layer.bias.normal_(0, sigma_b2**0.5, generator=generator) if sigma_b2 else layer.bias.zero_()
        parts += [layer, activation()]
    net = nn.Sequential(*parts[:-1])
    direction = torch.randn(net(x[:1]).shape[1:], generator=generator)
    signals = layer_signals(net, (x, x), lambda m, b: ((m(b[0]) * direction).sum(), torch.tensor(float(len(x)))))
    size = np.array([s.gradient.mean() for s in signals])
    assert all(s.step for s in signals[:-1])
    return size[:-1] / size[1:], signals


def near(samples, expected, level=0.999):
    """Whether the mean of samples is within its Student interval of the expected value."""
    samples = np.asarray(samples)
    half = stats.t.ppf((1 + level) / 2, len(samples) - 1) * samples.std(ddof=1) / len(samples) ** 0.5
    return abs(samples.mean() - expected) <= half and half < 0.05 * expected


@pytest.mark.parametrize(
    ("name", "activation", "sigma_w2", "sigma_b2"),
    [
        ("tanh", nn.Tanh, 1.5, 0.05),
        ("tanh", nn.Tanh, 2.25, 0.0),
        ("relu", nn.ReLU, 2.0, 0.0),
        ("relu", nn.ReLU, 1.0, 0.0),
    ],
)
def test_wide_random_networks_have_the_predicted_factor(name, activation, sigma_w2, sigma_b2):
    """Width 1000, 4 steps, 12 networks started at the fixed point: mean within its 99.9 % interval of chi_1."""
    theory = mean_field(name, sigma_w2, sigma_b2)
    q = theory.q if theory.q > 0 else 1.0
    x = torch.randn(4, 1000, generator=torch.Generator().manual_seed(5))
    x = x / x.norm(dim=1, keepdim=True) * (1000 * (q - sigma_b2) / sigma_w2) ** 0.5

    def layers():
        return [nn.Linear(1000, 1000) for _ in range(5)]

    means = [backward_factors(layers, activation, x, sigma_w2, sigma_b2, seed)[0].mean() for seed in range(12)]
    assert near(means, theory.chi)
    assert not near(means, theory.chi * 1.15)  # the test can fail


@pytest.mark.parametrize("padding", ["circular", "zeros"])
def test_convolutions_follow_with_fan_in_and_the_share_of_taps_inside(padding):
    x = torch.randn(4, 64, 6, 6, generator=torch.Generator().manual_seed(5))

    def layers():
        return [nn.Conv2d(64, 64, 3, padding=1, padding_mode=padding) for _ in range(4)]

    runs = [backward_factors(layers, nn.ReLU, x, 2.0, 0.0, seed) for seed in range(30)]
    taps = np.array([[s.taps for s in signals[:-1]] for _, signals in runs])
    if padding == "circular":
        assert (taps == 1).all()
    else:
        assert (taps > (16 / 18) ** 2 - 0.05).all()  # the plain average over places is (16 / 18)^2
        assert taps[:, 0].mean() > taps[:, 2].mean() > 0  # gradients gather in the middle
    relative = [(factors / share).mean() for (factors, _), share in zip(runs, taps, strict=True)]
    assert near(relative, 1.0)
    assert not near([factors.mean() for factors, _ in runs], 0.9)


def test_strided_grouped_convolutions_follow_too():
    x = torch.randn(4, 64, 17, generator=torch.Generator().manual_seed(5))

    def layers():
        return [nn.Conv1d(64, 64, 3, groups=2), nn.Conv1d(64, 64, 3, stride=2, groups=2), nn.Conv1d(64, 64, 3)]

    runs = [backward_factors(layers, nn.Tanh, x, 1.5, 0.05, seed) for seed in range(30)]
    relative = []
    for factors, signals in runs:
        expected = [float(chi("tanh", 1.5, s.q).mean()) for s in signals[:-1]]
        relative.append((factors / expected).mean())
    assert near(relative, 1.0)
