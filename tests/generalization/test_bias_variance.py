"""Bias and variance over training runs: known answers, identities, a real recipe, the U of polynomial regression."""

import numpy as np
import pytest
import torch
from torch import nn

from theorylens.core import Recipe
from theorylens.generalization import bias_variance, retrained_outputs, vote_decomposition
from theorylens.training import Optimisation, fit


def test_parts_of_shifted_noise_are_known_and_add_up():
    rng = np.random.default_rng(0)
    y = rng.normal(size=(300, 2))
    f = y + np.array([0.5, -1.0]) + 0.3 * rng.standard_normal((40, 300, 2))
    found = bias_variance(f, y)
    assert found.bias.lower < 1.25 < found.bias.upper
    assert found.variance.lower < 0.18 < found.variance.upper
    assert found.risk.value == pytest.approx(found.bias.value + found.variance.value, rel=1e-12)
    assert found.risk.value == pytest.approx(((f - y) ** 2).sum(2).mean(), rel=1e-12)


def test_bias_is_unbiased_with_few_runs():
    """The plain squared distance of the mean prediction contains variance / runs; here it does not."""
    rng = np.random.default_rng(1)
    values = [bias_variance(rng.standard_normal((3, 50)), np.zeros(50)).bias.value for _ in range(500)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(500)


@pytest.mark.slow
def test_intervals_cover_as_often_as_they_say():
    rng, hits = np.random.default_rng(2), np.zeros(3)
    for _ in range(2000):
        found = bias_variance(0.5 + rng.standard_normal((12, 20)), np.zeros(20))
        truth = (1.25, 0.25, 1.0)
        parts = (found.risk, found.bias, found.variance)
        hits += [p.lower <= t <= p.upper for p, t in zip(parts, truth, strict=True)]
    assert ((hits / 2000 >= 0.93) & (hits / 2000 <= 0.97)).all()


def test_votes_by_hand_and_their_identity():
    answers = np.array([[0, 1, 2], [0, 1, 2], [1, 0, 2], [0, 2, 2]])
    found = vote_decomposition(answers, np.array([0, 0, 2]))
    assert (found.bias, found.harm, found.help) == pytest.approx((1 / 3, 1 / 12, 1 / 12))
    rng = np.random.default_rng(3)
    a, y = rng.integers(0, 4, (9, 200)), rng.integers(0, 4, 200)
    found = vote_decomposition(a, y)
    assert found.error == pytest.approx(found.bias + found.harm - found.help, rel=1e-12)
    assert vote_decomposition(np.tile(y, (3, 1)), y).error == 0.0


def test_the_error_of_polynomials_is_a_u_of_falling_bias_and_rising_variance():
    rng = np.random.default_rng(4)
    x, points = np.linspace(-1, 1, 20), np.linspace(-0.95, 0.95, 60)
    target, found = np.sin(3 * points), {}
    for degree in (0, 3, 15):
        fits = [np.polynomial.Polynomial.fit(x, np.sin(3 * x) + 0.4 * rng.normal(size=20), degree) for _ in range(80)]
        found[degree] = bias_variance(np.array([p(points) for p in fits]), target)
    assert found[0].bias.value > found[3].bias.value
    assert found[0].variance.value < found[3].variance.value < found[15].variance.value
    assert found[3].risk.value < min(found[0].risk.value, found[15].risk.value)


def recipe(digits):
    x, y = digits

    def train(*, seed, width=1.0, labels=None, callbacks=()):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(64, int(12 * width)), nn.ReLU(), nn.Linear(int(12 * width), 10))
        how = Optimisation(lr=0.1, momentum=0.9, batch_size=25, epochs=12)
        return fit(net, (x[:150], y[:150]), "cross_entropy", how, seed=seed).subject(test=(x[150:450], y[150:450]))

    return Recipe(train)


def test_a_real_recipe_is_retrained_and_decomposed(digits):
    outputs, targets = retrained_outputs(recipe(digits), [0, 1, 2, 3])
    assert outputs.shape == (4, 300, 10)
    assert outputs.sum(2) == pytest.approx(np.ones((4, 300)))
    squares = bias_variance(outputs, np.eye(10)[targets])
    votes = vote_decomposition(outputs.argmax(2), targets)
    assert squares.variance.lower > 0
    assert 0 < votes.bias < 0.3
    assert 0 < votes.error < 0.3


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: bias_variance(np.zeros((2, 5)), np.zeros(5)), "runs >= 3"),
        (lambda: bias_variance(np.zeros((3, 5)), np.zeros(4)), "got \\(3, 5\\), \\(4,\\)"),
        (lambda: bias_variance(np.full((3, 5), np.nan), np.zeros(5)), "must be finite"),
        (lambda: vote_decomposition(np.zeros((2, 5)), np.zeros(5, dtype=int)), "take an argmax first"),
        (lambda: vote_decomposition(np.zeros((1, 5), dtype=int), np.zeros(5, dtype=int)), "runs >= 2"),
        (lambda: retrained_outputs(Recipe(lambda **k: None), [1, 1, 2]), "at least 3 different ones"),
    ],
)
def test_refusals(call, said):
    with pytest.raises(ValueError, match=said):
        call()
