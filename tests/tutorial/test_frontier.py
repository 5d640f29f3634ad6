"""Frontier: what the tutorial only names is a number here."""

import pytest
import torch
from torch import nn

from theorylens.advice import CLAIMS, Standing, Truth, claims
from theorylens.frontier import mean_field, recommend_optimisation


def test_mean_field_theory_has_its_fixed_points_and_slopes(golden):
    found = [mean_field("tanh", sw2, sb2) for sw2, sb2 in ((1.5, 0.05), (2.25, 0.0), (0.5, 0.1))]
    for theory, (q, chi) in zip(found, golden("G7.2-1"), strict=True):
        assert theory.q == pytest.approx(q, rel=1e-9)
        assert theory.chi == pytest.approx(chi, rel=1e-9)


def test_the_critical_initialisation_of_relu_networks(golden):
    assert mean_field("relu", 2.0, 0.0).chi == pytest.approx(golden("G7.2-2"), rel=1e-9)


def linear_data(n=60, noise=1.0, seed=0):
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 5, generator=rng)
    return x, x @ torch.ones(5, 1) + noise * torch.randn(n, 1, generator=rng)


def start(p=5):
    net = nn.Linear(p, 1, bias=False)
    nn.init.zeros_(net.weight)
    return net


def test_recommendations_depend_on_the_data_and_not_on_its_size_alone():
    """There: 1e6 parameters and 1e6 examples decide everything, by thresholds."""
    quiet, loud = (
        recommend_optimisation(start(), linear_data(noise=noise), "mse", horizon=100) for noise in (0.3, 4.0)
    )
    assert quiet.noise_scale.value < loud.noise_scale.value
    assert quiet.batch_size < loud.batch_size


def test_one_example_more_changes_no_recommendation_by_a_jump():
    """There, the batch doubles at exactly a million examples."""
    x, y = linear_data(n=101)
    one, more = (recommend_optimisation(start(), (x[:n], y[:n]), "mse", horizon=100) for n in (100, 101))
    assert more.sharpness.value == pytest.approx(one.sharpness.value, rel=0.2)
    assert more.batch_size == one.batch_size


def test_no_examples_are_refused_and_do_not_divide_by_zero():
    with pytest.raises(ValueError, match="at least 2 rows"):
        recommend_optimisation(start(), (torch.zeros(1, 5), torch.zeros(1, 1)), "mse", horizon=100)


def test_nothing_is_regularised_that_was_not_measured_to_need_it():
    """There, dropout of one half is recommended for every large model."""
    assert recommend_optimisation(start(), linear_data(), "mse", horizon=100).regularise is None


def test_insights_are_returned_with_conditions_and_references_and_not_printed(capsys):
    found = claims()
    assert capsys.readouterr().out == ""
    assert len(found) >= 12
    assert all(j.claim.conditions.render() and j.claim.references for j in found)


def test_slogans_are_not_all_called_true():
    by_id = {c.id: c.truth for c in CLAIMS}
    for id in ("flat_minima", "saddles", "distributed_exponential", "hierarchy", "effective_complexity"):
        assert by_id[id] is Truth.CONDITIONAL
    assert by_id["double_descent_contradicts"] is Truth.FALSE


def test_nothing_is_claimed_of_a_network_that_was_not_measured():
    assert {j.standing for j in claims([])} == {Standing.UNMEASURED}
