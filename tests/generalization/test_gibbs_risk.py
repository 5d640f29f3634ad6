"""The risk of drawn networks: the mean, how many independent terms it has, and the bound on it."""

import math

import pytest
import torch

from theorylens.generalization import GibbsRisk, gibbs_risk, kl_inverse


def test_all_examples_count_equally_often_whatever_the_batch():
    losses = torch.linspace(0, 1, 7, dtype=torch.float64)
    for batch in (1, 2, 3, 4, 7, 100):
        for alone in (True, False):
            risk = gibbs_risk(lambda rows: losses[rows], 7, draws=3, batch=batch, by_example=alone)
            assert risk.mean == pytest.approx(0.5, rel=1e-14)


def test_terms_are_counted_by_who_shares_a_draw():
    def score(rows):
        return torch.zeros(len(rows))

    assert gibbs_risk(score, 7, draws=3, batch=2, by_example=True).terms == 21
    shared = gibbs_risk(score, 7, draws=3, batch=2, by_example=False)
    assert shared.terms == 3 * 4  # batches of 2, 2, 2, 1
    assert shared.inflation == pytest.approx(2 * 4 / 7)


def test_the_bound_is_the_inverse_of_kl_on_the_terms():
    risk = GibbsRisk(mean=0.1, terms=500)
    assert risk.upper(0.01) == pytest.approx(kl_inverse(0.1, math.log(100) / 500), rel=1e-9)
    assert risk.upper(0.01) >= kl_inverse(0.1, math.log(100) / 500)


def test_batches_of_unequal_size_bound_the_terms_of_the_largest():
    """With largest batch b of B and n examples, terms are sums / b, and the mean loss is B b / n times their mean."""
    risk = GibbsRisk(mean=0.1, terms=12, inflation=8 / 7)
    assert risk.upper(0.05) == pytest.approx(8 / 7 * kl_inverse(0.1 * 7 / 8, math.log(20) / 12), rel=1e-9)


def test_no_error_at_all_has_a_bound_in_closed_form():
    assert GibbsRisk(mean=0.0, terms=300).upper(0.05) == pytest.approx(1 - 0.05 ** (1 / 300), rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("alone", [True, False])
def test_the_bound_misses_no_more_than_delta(alone):
    """Examples with chances p_i of their own, batches sharing one draw or not; 4,000 runs."""
    rng = torch.Generator().manual_seed(0)
    p = torch.rand(23, generator=rng, dtype=torch.float64) * 0.3

    def score(rows):
        u = torch.rand(len(rows) if alone else 1, generator=rng, dtype=torch.float64)
        return (u < p[rows]).double()

    runs, delta = 4000, 0.1
    missed = sum(
        gibbs_risk(score, 23, draws=4, batch=3, by_example=alone).upper(delta) < float(p.mean()) for _ in range(runs)
    )
    from scipy.stats import binom

    assert binom.sf(missed - 1, runs, delta) > 1e-4
    assert missed > 0  # a bound that never missed would not have been tried


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"examples": 0, "draws": 1, "batch": 1}, "at least one example, draw and batch"),
        ({"examples": 2, "draws": 0, "batch": 1}, "at least one example, draw and batch"),
        ({"examples": 2, "draws": 1, "batch": 0}, "at least one example, draw and batch"),
    ],
)
def test_nothing_to_score_is_refused(kwargs, said):
    examples = kwargs.pop("examples")
    with pytest.raises(ValueError, match=said):
        gibbs_risk(lambda rows: torch.zeros(len(rows)), examples, by_example=True, **kwargs)


@pytest.mark.parametrize("bad", [1.5, -0.1, float("nan")])
def test_losses_outside_their_range_are_refused(bad):
    with pytest.raises(ValueError, match=r"one loss in \[0, 1\]"):
        gibbs_risk(lambda rows: torch.full((len(rows),), bad), 3, draws=1, batch=3, by_example=True)


@pytest.mark.parametrize("delta", [0.0, 1.0, float("nan")])
def test_a_bound_needs_a_delta(delta):
    with pytest.raises(ValueError, match="delta must lie strictly between"):
        GibbsRisk(mean=0.1, terms=3).upper(delta)
