"""Resampling blocks of a dependent sequence: exact variances, the length of a block, coverage."""

import numpy as np
import pytest
import torch
from scipy.signal import lfilter
from scipy.stats import binom, norm, t

from theorylens.generalization import block_bootstrap, block_length
from theorylens.results import Unknown


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def dependent(n, rate, coefficient, seed):
    """Errors where a stationary autoregression is low."""
    noise = np.random.default_rng(seed).standard_normal(n + 200)
    level = lfilter([np.sqrt(1 - coefficient**2)], [1, -coefficient], noise)[200:]
    return (level < norm.ppf(rate)).astype(float)


def circular_covariance(x):
    x = x - x.mean()
    return np.array([np.mean(x * np.roll(x, -k)) for k in range(len(x))])


@pytest.mark.parametrize("block", [1.0, 5.0, 12.5])
def test_the_stationary_bootstrap_has_the_variance_of_politis_and_romano(block):
    x = dependent(120, 0.3, 0.6, 1)
    c, n = circular_covariance(x), len(x)
    lag = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    exact = ((1 - 1 / block) ** lag * c[lag]).sum() / n**2
    found = block_bootstrap(x, block=block, draws=20_000, generator=rng())
    assert found.standard_error**2 == pytest.approx(exact, rel=5 * np.sqrt(2 / 20_000))


def test_fixed_blocks_on_a_circle_have_the_variance_of_block_sums():
    x = dependent(120, 0.3, 0.6, 1)
    centred = x - x.mean()
    sums = sum(np.roll(centred, -k) for k in range(10))
    exact = 12 * np.mean(sums**2) / 120**2
    found = block_bootstrap(x, block=10, blocks="circular", draws=20_000, generator=rng())
    assert found.standard_error**2 == pytest.approx(exact, rel=5 * np.sqrt(2 / 20_000))


def test_single_errors_are_the_binomial_bootstrap_stretched_by_student():
    """Resampled means are then binomial, so the ends are known but for their stretch, t(n - 1) over normal."""
    x = np.r_[np.ones(30), np.zeros(30)]
    found = block_bootstrap(x, block=1.0, draws=20_000, generator=rng()).estimate
    quantile = (binom.ppf(0.975, 60, 0.5) - 30) / 60
    stretch = t.ppf(0.975, 59) / norm.ppf(0.975)
    assert stretch > 1.02
    assert (found.upper - found.lower) / 2 == pytest.approx(quantile * stretch, rel=0.005)


def test_moving_blocks_do_not_cross_the_ends():
    x = dependent(120, 0.3, 0.6, 1)
    centred = x - x.mean()
    sums = np.convolve(centred, np.ones(10), "valid")
    exact = 12 * sums.var() / 120**2
    found = block_bootstrap(x, block=10, blocks="moving", draws=20_000, generator=rng())
    assert found.standard_error**2 == pytest.approx(exact, rel=5 * np.sqrt(2 / 20_000))


def test_independent_errors_need_no_blocks_and_dependent_ones_long_ones():
    short = np.mean([block_length(dependent(2000, 0.3, 0.0, s)) for s in range(10)])
    middle = np.mean([block_length(dependent(2000, 0.3, 0.5, s)) for s in range(10)])
    long = np.mean([block_length(dependent(2000, 0.3, 0.9, s)) for s in range(10)])
    assert short < 2 < middle < long / 2


def test_the_length_of_an_autoregression_is_the_formula():
    """Exact autocovariances a^k give G = 2a/(1-a)^2 and sum (1+a)/(1-a); 4,000 values come near that length."""
    a, n = 0.6, 4000
    found = []
    for seed in range(20):
        noise = np.random.default_rng(seed).standard_normal(n + 200)
        found.append(block_length(lfilter([1], [1, -a], noise)[200:]))
    slope, spectrum = 2 * a / (1 - a) ** 2, (1 + a) / (1 - a)
    exact = (2 * slope**2 / (2 * spectrum**2) * n) ** (1 / 3)
    assert np.median(found) == pytest.approx(exact, rel=0.2)


def test_dependence_widens_the_interval():
    x = dependent(2000, 0.2, 0.8, 3)
    blind, seeing = block_bootstrap(x, block=1, generator=rng()), block_bootstrap(x, generator=rng())
    assert seeing.estimate.value == blind.estimate.value == x.mean()
    assert seeing.standard_error > 1.8 * blind.standard_error


def test_the_scale_of_the_errors_only_scales_the_answer():
    x = dependent(400, 0.2, 0.5, 3)
    one, ten = block_bootstrap(x, generator=rng()), block_bootstrap(10 * x + 5, generator=rng())
    assert ten.block == pytest.approx(one.block)
    assert ten.estimate.upper == pytest.approx(10 * one.estimate.upper + 5)
    assert one.estimate.lower >= 0


def test_too_few_stretches_have_no_interval():
    for x in ([0.0] * 50, dependent(60, 0.3, 0.5, 0)):
        found = block_bootstrap(x, block=10 if max(x) else None, generator=rng())
        assert isinstance(found.estimate.uncertainty, Unknown)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"errors": [1.0]}, "at least 2 finite numbers"),
        ({"errors": [1.0, np.nan]}, "at least 2 finite numbers"),
        ({"errors": [[1.0, 0.0]]}, "at least 2 finite numbers"),
        ({"block": 0.5}, "a block holds between 1"),
        ({"block": 51}, "a block holds between 1"),
        ({"blocks": "round"}, "'stationary', 'circular' or 'moving'"),
        ({"draws": 10}, "draws must be at least 100"),
        ({"delta": 0.0}, "delta must lie strictly between"),
    ],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_what_it_refuses(change, said):
    given = {"errors": [0, 1] * 25, "generator": rng(), **change}
    with pytest.raises(ValueError, match=said):
        block_bootstrap(given.pop("errors"), **given)


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "coefficient"), [(0.3, 0.0), (0.1, 0.5), (0.2, 0.8)])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(rate, coefficient):
    runs, covered, blind = 1000, 0, 0
    for seed in range(runs):
        x = dependent(2000, rate, coefficient, seed)
        ends = block_bootstrap(x, draws=300, generator=rng(seed)).estimate
        covered += ends.lower <= rate <= ends.upper
        half = 1.96 * np.sqrt(x.var() / len(x))
        blind += abs(x.mean() - rate) <= half
    assert covered / runs >= 0.91
    if coefficient == 0.8:
        assert blind / runs < 0.75  # what an interval for independent errors covers
