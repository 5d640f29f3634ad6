"""Recommendations follow the measurements: each number moves with what it was read from."""

import math

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from theorylens.bias import gradient_noise_scale
from theorylens.core import global_randomness_kept
from theorylens.dynamics import range_test
from theorylens.frontier import loss_gap, recommend_optimisation
from theorylens.results import Message
from theorylens.training import Optimisation, fit


@pytest.fixture(scope="module")
def data():
    found = load_digits()
    x, y = torch.tensor(found.data / 16, dtype=torch.float32), torch.tensor(found.target)
    return (x[:300], y[:300]), (x[300:500], y[300:500])


def network(seed=0):
    with global_randomness_kept(seed):
        return nn.Sequential(nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, 10)).eval()


@pytest.fixture(scope="module")
def found(data):
    return recommend_optimisation(network(), data[0], "cross_entropy", horizon=500)


def by_id(found):
    return {r.id: r for r in found.recommendations}


def test_each_setting_is_read_off_its_own_measurement(found, data):
    noise = gradient_noise_scale(network(), data[0], "cross_entropy")
    assert found.noise_scale.value == pytest.approx(noise.value, rel=1e-6)
    assert found.batch_size == min(300, 2 ** round(math.log2(noise.value)))
    tested = range_test(network(), data[0], "cross_entropy")
    assert found.range_test.losses.tolist() == tested.losses.tolist()
    limit = min(tested.lowest, tested.edge / 3) if tested.edge else tested.lowest
    ratio = (1 + noise.value / 32) / (1 + noise.value / found.batch_size)
    assert found.lr == pytest.approx(limit * ratio, rel=1e-6)
    assert found.schedule.horizon == 500
    assert found.regularise is None
    assert set(by_id(found)) == {"rate_from_range", "batch_from_noise", "schedule_from_horizon"}


def test_every_recommendation_has_evidence_that_can_be_said(found):
    for recommendation in found.recommendations:
        assert recommendation.supports
        for evidence in (*recommendation.supports, *recommendation.contradicts):
            assert isinstance(evidence.finding, Message)
            assert evidence.finding.render()


def test_a_rate_above_what_the_start_allows_is_warmed_up(found):
    stable = 2 / found.sharpness.value
    warm = found.schedule.name.startswith("warm-up")
    assert warm == (found.lr > stable)
    assert ("Warm up" in by_id(found)["schedule_from_horizon"].change.render()) == warm
    said = by_id(found)["rate_from_range"]
    assert any(e.code == "landscape.eigenvalues" for e in (said.contradicts if warm else said.supports))


def test_a_loss_with_a_hundred_times_the_curvature_gets_a_smaller_rate(data, found):
    steep = recommend_optimisation(
        network(), data[0], lambda o, t: 100 * nn.functional.cross_entropy(o, t), horizon=500
    )  # fmt: skip
    assert steep.lr == pytest.approx(found.lr / 100, rel=0.7)
    assert steep.batch_size == found.batch_size  # noise and gradient scale alike


def test_a_measured_gap_asks_for_regularisation_and_no_gap_does_not(data):
    small = data[0][0][:40], data[0][1][:40]
    net = network()
    fit(net, small, "cross_entropy", Optimisation(lr=0.3, batch_size=40, epochs=150))
    asked = {"horizon": 100, "trained": net.eval()}
    overfitted = recommend_optimisation(network(), small, "cross_entropy", validation=data[1], **asked)
    assert overfitted.regularise
    assert "Regularise more" in by_id(overfitted)["regularise_from_gap"].change.render()
    same = recommend_optimisation(network(), small, "cross_entropy", validation=small, **asked)
    assert not same.regularise
    assert "Do not regularise more" in by_id(same)["regularise_from_gap"].change.render()


def test_the_gap_is_a_mean_over_rows_with_its_interval(data):
    net = network()
    found = loss_gap(net, data[0], data[1], "cross_entropy")
    with torch.no_grad():
        losses = nn.functional.cross_entropy(net(data[1][0]), data[1][1], reduction="none").double()
        train = nn.functional.cross_entropy(net(data[0][0]), data[0][1]).double()
    assert found.value == pytest.approx(float(losses.mean() - train), abs=1e-5)
    half = (found.upper - found.lower) / 2
    assert half == pytest.approx(1.972 * float(losses.std()) / math.sqrt(200), rel=1e-3)


def test_where_nothing_descends_nothing_is_recommended():
    still = nn.Linear(2, 2)
    with torch.no_grad():
        still.weight.zero_()
        still.bias.zero_()
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).repeat(20, 1)
    y = torch.tensor([0, 1, 1, 0] * 10)  # labels that no input tells: the gradient is zero
    found = recommend_optimisation(still, (x, y), "cross_entropy", horizon=10)
    assert found.lr is None
    assert found.batch_size is None
    assert set(by_id(found)) == {"schedule_from_horizon"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"horizon": 0}, "horizon must be at least 1 step, got 0"),
        ({"horizon": 5, "trained": nn.Linear(2, 1)}, "the gap of a trained network needs validation="),
    ],
)
def test_refusals(options, said):
    with pytest.raises(ValueError, match=said):
        recommend_optimisation(nn.Linear(2, 1), (torch.ones(4, 2), torch.ones(4, 1)), "mse", **options)


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="at least 2 rows"):
        recommend_optimisation(nn.Linear(2, 1), (torch.ones(1, 2), torch.ones(1, 1)), "mse", horizon=5)
    with pytest.raises(ValueError, match="at least 30 validation rows"):
        loss_gap(nn.Linear(2, 1), (torch.ones(4, 2), torch.ones(4, 1)), (torch.ones(4, 2), torch.ones(4, 1)), "mse")
