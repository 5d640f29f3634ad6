"""Scaling rules at hand-worked values, their limits, and what they cannot know."""

import math

import pytest

from theorylens.dynamics import max_stable_lr, scale_learning_rate
from theorylens.landscape import adam_stability_limit, stability_limit
from theorylens.results import Estimate, Exact


def test_linear_and_square_root(golden):
    found = [scale_learning_rate(0.01, 256, 1024, optimizer=name) for name in ("sgd", "adam")]
    assert [f.lr for f in found] == pytest.approx(golden("G6.2-5"), rel=1e-9)
    assert [f.rule for f in found] == ["linear", "square root"]
    assert all("was not measured" in f.warning.render() for f in found)


def test_the_linear_rule_of_the_tutorial():
    """S6.2-3."""
    found = [scale_learning_rate(0.01, 256, b).lr for b in (64, 128, 256, 512, 1024)]
    assert found == pytest.approx([0.0025, 0.005, 0.01, 0.02, 0.04], rel=1e-12)


def test_the_largest_stable_rate(golden):
    plain, heavy, adam = golden("G6.2-7")
    assert max_stable_lr(10.0) == pytest.approx(plain, rel=1e-9)
    assert max_stable_lr(10.0, momentum=0.9) == pytest.approx(heavy, rel=1e-9)
    assert adam_stability_limit(1.0, 0.9) == pytest.approx(adam, rel=1e-9)
    assert stability_limit(max_stable_lr(7.0, 0.5), 0.5) == pytest.approx(7.0)


def diverges(lr, momentum):
    x = previous = 1.0
    for _ in range(4000):
        x, previous = x - lr * 10.0 * x + momentum * (x - previous), x
    return abs(x) > 1


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_just_below_it_descends_and_just_above_it_diverges(momentum):
    limit = max_stable_lr(10.0, momentum)
    assert not diverges(limit * 0.99, momentum)
    assert diverges(limit * 1.01, momentum)


def test_with_a_noise_scale_the_growth_saturates():
    scale = 1000.0
    small = scale_learning_rate(0.1, 1, 2, noise_scale=scale)
    assert small.lr == pytest.approx(0.2, rel=2e-3)  # linear far below
    assert small.warning is None
    large = scale_learning_rate(0.1, 10**6, 2 * 10**6, noise_scale=scale)
    assert large.lr == pytest.approx(0.1, rel=1e-3)  # constant far above
    assert "a batch of 2000000 lies above the noise scale of 1,000 examples" in large.warning.render()
    back = scale_learning_rate(scale_learning_rate(0.1, 64, 4096, noise_scale=scale).lr, 4096, 64, noise_scale=scale)
    assert back.lr == pytest.approx(0.1, rel=1e-12)
    adam = scale_learning_rate(0.1, 64, 4096, optimizer="adam", noise_scale=scale)
    sgd = scale_learning_rate(0.1, 64, 4096, noise_scale=Estimate(value=scale, uncertainty=Exact()))
    assert adam.lr / 0.1 == pytest.approx(math.sqrt(sgd.lr / 0.1))
    assert sgd.rule == "saturating"


def expected_decrease(lr, batch, gradient, curvature, noise):
    """Of one step on a quadratic: lr |G|² - lr² (G'HG + tr(HΣ)/B) / 2 with one eigenvalue."""
    return lr * gradient**2 - lr**2 / 2 * curvature * (gradient**2 + noise**2 / batch)


def test_the_saturating_rule_is_the_best_step_of_a_noisy_quadratic():
    """By search over the step, not by the formula of the paper."""
    curvature, gradient, noise = 3.0, 0.5, 4.0
    scale = noise**2 / gradient**2
    best = {}
    for batch in (8, 64, 512):
        steps = [i / 50_000 for i in range(1, 20_000)]
        best[batch] = max(steps, key=lambda lr, b=batch: expected_decrease(lr, b, gradient, curvature, noise))
    for batch in (64, 512):
        assert scale_learning_rate(best[8], 8, batch, noise_scale=scale).lr == pytest.approx(best[batch], rel=1e-3)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: scale_learning_rate(0.1, 0, 1), "at least 1 example, got 0 and 1"),
        (lambda: scale_learning_rate(0.1, 1, -4), "at least 1 example, got 1 and -4"),
        (lambda: scale_learning_rate(0.0, 1, 1), "lr must be a positive number, got 0.0"),
        (lambda: scale_learning_rate(0.1, 1, 1, optimizer="magic"), "no scaling rule is known for optimizer 'magic'"),
        (lambda: scale_learning_rate(0.1, 1, 1, noise_scale=-3.0), "positive number of examples, got -3.0"),
        (lambda: max_stable_lr(0.0), "sharpness must be a positive number, got 0.0"),
        (lambda: max_stable_lr(1.0, 1.0), "momentum must be at least 0 and below 1"),
    ],
)
def test_refusals(call, said):
    with pytest.raises(ValueError, match=said):
        call()
