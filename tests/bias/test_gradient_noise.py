"""Gradient noise: closed forms, a naive twin, batching, and the coverage of Fieller's interval."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from theorylens.bias import GradientNoise, gradient_noise, gradient_noise_scale, noise_scale
from theorylens.core import RefusedError


def naive(model, x, y, loss):
    """Gradients one by one, straight from the definition."""
    found = []
    for i in range(len(x)):
        model.zero_grad()
        loss(model(x[i : i + 1]), y[i : i + 1]).backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters()]).double())
    model.zero_grad()
    return torch.stack(found)


def classifier():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double()
        return net, torch.randn(40, 5).double(), torch.randint(0, 3, (40,))


def test_the_contract_s_two_gradients(golden):
    noise = GradientNoise.of(torch.tensor([[1.0, 0.0], [3.0, 2.0]]))
    plug_in, unbiased = golden("G6.2-6")
    assert noise.covariance_trace == pytest.approx(4, rel=1e-12)
    assert noise_scale(noise, debiased=False).value == pytest.approx(plug_in, rel=1e-9)
    assert noise_scale(noise).value == pytest.approx(unbiased, rel=1e-9)


def test_it_is_the_naive_covariance():
    net, x, y = classifier()
    g = naive(net, x, y, nn.functional.cross_entropy)
    found = gradient_noise(net, (x, y), "cross_entropy")
    assert found.covariance_trace == pytest.approx(float(g.T.cov().trace()), rel=1e-10)
    assert found.squared_mean == pytest.approx(float(g.mean(0).square().sum()), rel=1e-10)
    pairs = sum(float(g[i] @ g[j]) for i in range(40) for j in range(40) if i != j) / (40 * 39)
    assert found.squared_gradient == pytest.approx(pairs, rel=1e-10)


def test_class_weights_keep_the_mean_of_the_gradients_the_gradient():
    net, x, y = classifier()
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 5.0]).double())
    whole = torch.autograd.grad(loss(net(x), y), list(net.parameters()))
    expected = float(sum(w.square().sum() for w in whole))
    assert gradient_noise(net, (x, y), loss).squared_mean == pytest.approx(expected, rel=1e-10)


def test_a_second_pass_in_place_of_memory_changes_nothing(monkeypatch):
    net, x, y = classifier()
    kept = gradient_noise(net, (x, y), "cross_entropy")
    monkeypatch.setattr("theorylens.bias._gradient_noise.KEPT", 0)
    again = gradient_noise(net, (x, y), "cross_entropy", batch_size=7)
    assert np.allclose(kept.products, again.products, rtol=1e-12)
    assert np.allclose(kept.squares, again.squares, rtol=1e-12)


def test_the_scale_does_not_depend_on_the_scale_of_the_loss():
    net, x, y = classifier()
    one = gradient_noise_scale(net, (x, y), "cross_entropy")
    ten = gradient_noise_scale(net, (x, y), lambda out, t: 10 * nn.functional.cross_entropy(out, t, reduction="none"))
    assert ten.value == pytest.approx(one.value, rel=1e-10)
    assert (ten.lower, ten.upper) == pytest.approx((one.lower, one.upper), rel=1e-8)


def test_leaving_one_out_is_done_by_hand():
    g = torch.randn(12, 3, generator=torch.Generator().manual_seed(0)).double() + 1
    from theorylens.bias._gradient_noise import _jackknife

    def both(rows):
        noise = GradientNoise.of(rows)
        return noise.squares.mean(), noise.squared_gradient

    left = np.array([both(torch.cat([g[:i], g[i + 1 :]])) for i in range(12)]).T
    off = left - left.mean(1, keepdims=True)
    assert np.allclose(_jackknife(GradientNoise.of(g)), 11 / 12 * off @ off.T, rtol=1e-9)


def test_a_gradient_not_told_from_zero_gives_no_upper_limit():
    g = torch.randn(50, 5, generator=torch.Generator().manual_seed(0))
    found = noise_scale(GradientNoise.of(g - g.mean(0)))
    assert found.value == math.inf
    assert found.upper == math.inf
    assert "not told from zero" in str(found.trouble)


def test_refusals():
    net, x, y = classifier()
    with pytest.raises(ValueError, match="at least 2 rows, got 1"):
        gradient_noise(net, (x[:1], y[:1]), "cross_entropy")
    with pytest.raises(ValueError, match="shape \\(n, p\\)"):
        GradientNoise.of(torch.ones(3))
    with pytest.raises(ValueError, match="not finite"):
        GradientNoise.of(torch.tensor([[1.0], [math.nan]]))
    with pytest.raises(ValueError, match="level must lie"):
        noise_scale(GradientNoise.of(torch.eye(9)), level=1.0)
    with pytest.raises(RefusedError, match="training mode"):
        gradient_noise(nn.Sequential(nn.Dropout(), nn.Linear(5, 3)).double().train(), (x, y), "cross_entropy")


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1.0, 10.0, 100.0])
def test_the_interval_covers_as_often_as_it_says(scale):
    generator = torch.Generator().manual_seed(0)
    shift = torch.zeros(20).double()
    shift[0] = (20 / scale) ** 0.5
    hits = 0
    for _ in range(2000):
        g = torch.randn(100, 20, generator=generator, dtype=torch.float64) + shift
        found = noise_scale(GradientNoise.of(g))
        hits += found.lower <= scale <= found.upper
    assert 0.93 <= hits / 2000 <= 0.985
