"""Order of learning: signs, closed forms on the Boolean cube and in frequency, and real trainings that start simple."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from theorylens.bias import (
    boolean_cube,
    degree_errors,
    degree_weights,
    explained_by,
    fourier_coefficients,
    frequency_errors,
    function_prior,
    information,
    learning_order,
    lempel_ziv_complexity,
    lempel_ziv_words,
    time_to_fit,
)
from theorylens.report._plots import figure


def test_time_to_fit_is_when_it_stays_right():
    right = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [1, 1, 0, 1]], dtype=bool)
    assert time_to_fit(right, [0, 5, 9]).tolist() == [9, 5, math.inf, 0]


def test_simple_first_is_positive_and_complex_first_negative():
    c = np.arange(50.0)
    assert learning_order(c**2, c).correlation.value == pytest.approx(1)
    assert learning_order(-c, c).correlation.value == pytest.approx(-1)
    times = np.where(c < 30, c, np.inf)
    found = learning_order(times, c)
    assert found.never == pytest.approx(0.4)
    assert found.at_once == pytest.approx(0.02)
    assert found.correlation.value > 0.9


def test_it_is_scipy_s_spearman_with_ties():
    from scipy import stats

    g = np.random.default_rng(0)
    t, c = g.integers(0, 5, 60).astype(float), g.normal(size=60)
    assert learning_order(t, c).correlation.value == pytest.approx(stats.spearmanr(t, c).statistic, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_the_interval_covers_as_often_as_it_says(rho):
    g, hits = np.random.default_rng(1), 0
    truth = 6 / math.pi * math.asin(rho / 2)
    for _ in range(2000):
        z = g.multivariate_normal([0, 0], [[1, rho], [rho, 1]], 60)
        found = learning_order(z[:, 0], z[:, 1]).correlation
        hits += found.lower <= truth <= found.upper
    assert 0.935 <= hits / 2000 <= 0.975


def test_information_explained():
    y = np.array([0, 0, 1, 1] * 50)
    other = np.array([0, 1] * 100)
    assert information(y, y) == pytest.approx(1)
    assert explained_by(y, y, y) == pytest.approx(1)
    assert explained_by(y, other, y) == pytest.approx(0, abs=1e-12)
    assert explained_by(other, y, y) == pytest.approx(0, abs=1e-12)
    half = np.where(np.arange(200) < 100, y, 0)
    assert explained_by(half, half, y) == pytest.approx(information(half, y))


def test_the_transform_is_the_sum_over_all_points():
    cube = boolean_cube(4).double().numpy()
    f = np.random.default_rng(0).normal(size=16)
    found = fourier_coefficients(f)
    for s in range(16):
        bits = [int(b) for b in f"{s:04b}"]
        parity = np.prod(np.where(np.array(bits) == 1, cube, 1.0), axis=1)
        assert found[s] == pytest.approx((f * parity).mean(), rel=1e-10, abs=1e-12)
    weights = degree_weights(f)
    assert weights.sum() == pytest.approx((f**2).mean(), rel=1e-12)
    assert degree_weights(cube.prod(1)).tolist() == pytest.approx([0, 0, 0, 0, 1])


def test_majority_of_three_has_its_textbook_weights():
    cube = boolean_cube(3).numpy()
    assert degree_weights(np.sign(cube.sum(1))).tolist() == pytest.approx([0, 0.75, 0, 0.25])


def test_a_real_network_learns_low_degrees_first():
    cube = boolean_cube(6)
    target = cube[:, 0] + cube[:, 1] * cube[:, 2] + cube[:, 0] * cube[:, 3] * cube[:, 4] * cube[:, 5]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 128), nn.ReLU(), nn.Linear(128, 1))
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05)
    records = []
    for _ in range(1500):
        optimiser.zero_grad()
        outputs = net(cube)[:, 0]
        records.append(outputs.detach().double().numpy())
        (outputs - target).square().mean().backward()
        optimiser.step()
    errors = degree_errors(np.array(records), target.double().numpy())
    first = [int((errors[:, k] < 0.1).argmax()) if (errors[:, k] < 0.1).any() else 10**9 for k in (1, 2, 4)]
    assert first[0] < first[1] < first[2]
    assert np.isnan(errors[0, 3])


def test_a_real_network_learns_low_frequencies_first():
    x = torch.linspace(0, 1, 65)[:-1, None]
    target = torch.sin(2 * math.pi * x) + torch.sin(2 * math.pi * 4 * x)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(1, 128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh(), nn.Linear(128, 1))
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    records = []
    for _ in range(600):
        optimiser.zero_grad()
        outputs = net(4 * x - 2)
        records.append(outputs.detach()[:, 0].double().numpy())
        (outputs - target).square().mean().backward()
        optimiser.step()
    errors = frequency_errors(np.array(records), target[:, 0].double().numpy())
    low, high = ((errors[:, k] < 0.3).argmax() for k in (1, 4))
    assert 0 < low < high
    assert np.isnan(errors[0, 2])


def test_frequency_errors_by_hand():
    t = np.arange(16)
    target = np.cos(2 * np.pi * t / 16) + np.cos(2 * np.pi * 3 * t / 16)
    errors = frequency_errors([0.5 * np.cos(2 * np.pi * t / 16), target], target)
    assert errors[0, [1, 3]] == pytest.approx([0.5, 1.0])
    assert errors[1, [1, 3]] == pytest.approx([0, 0], abs=1e-12)


def naive_words(text):
    """Lempel and Ziv's definition: each word is the shortest that has not occurred before its last letter."""
    words, start = 0, 0
    while start < len(text):
        end = start + 1
        while end <= len(text) and any(text[i : i + end - start] == text[start:end] for i in range(start)):
            end += 1
        words, start = words + 1, end
    return words


def test_lempel_ziv_words_are_those_of_the_definition():
    assert lempel_ziv_words("0001101001000101") == 6  # 0, 001, 10, 100, 1000, 101
    g = np.random.default_rng(0)
    for n in (1, 2, 7, 40):
        for _ in range(20):
            text = "".join(g.choice(["0", "1"], n))
            assert lempel_ziv_words(text) == naive_words(text), text


def test_complexity_orders_what_is_simple():
    g = np.random.default_rng(0)
    constant, period, noise = np.ones(128), np.tile([1, -1], 64), g.choice([-1, 1], 128)
    values = [lempel_ziv_complexity(v) for v in (constant, period, noise)]
    assert values[0] == 7
    assert values[0] < values[1] < values[2]


def test_random_networks_prefer_simple_functions():
    def make():
        return nn.Sequential(nn.Linear(5, 20), nn.ReLU(), nn.Linear(20, 1))

    found = function_prior(make, 5, 3000)
    assert found.frequencies.sum() == pytest.approx(1)
    assert found.correlation.value < -0.2
    assert found.complexities[0] < np.median(found.complexities)
    again = function_prior(make, 5, 3000)
    assert np.array_equal(found.frequencies, again.frequencies)
    assert figure(found.points()) is not None


def test_a_uniform_prior_has_no_preference():
    class Noise(nn.Module):
        def forward(self, x):
            return torch.randn(len(x), 1)

    found = function_prior(Noise, 3, 20_000)
    assert found.frequencies.max() < 5 * found.frequencies.min()
    assert abs(found.correlation.value) < 0.25


def test_refusals():
    for call, match in (
        (lambda: time_to_fit([1, 0], [0, 1]), "records, n"),
        (lambda: time_to_fit([[1], [0]], [1, 1]), "increasing"),
        (lambda: learning_order([1.0], [1.0, 2.0]), "one length"),
        (lambda: learning_order(range(5), range(5)), "at least 20"),
        (lambda: learning_order(range(30), [math.nan] * 30), "not finite"),
        (lambda: learning_order([1] * 30, range(30)), "all times are equal"),
        (lambda: learning_order(range(30), [1] * 30), "all complexity are equal"),
        (lambda: learning_order(range(30), range(30), level=2.0), "level must lie"),
        (lambda: explained_by([0], [0, 1], [0]), "one length"),
        (lambda: frequency_errors([[1, 2]], [1, 2]), "m >= 4"),
        (lambda: fourier_coefficients([1, 2, 3]), "2\\^d values"),
        (lambda: degree_errors([[1, 2]], [1, 2, 3, 4]), "do not fit"),
        (lambda: boolean_cube(0), "between 1 and 20"),
        (lambda: lempel_ziv_words(""), "empty sequence"),
        (lambda: lempel_ziv_complexity([1]), "at least 2 values"),
        (lambda: function_prior(nn.Identity, 3, 10), "at least 100 draws"),
        (lambda: function_prior(nn.Identity, 3, 100), "one output"),
    ):
        with pytest.raises(ValueError, match=match):
            call()
