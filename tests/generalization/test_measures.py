"""The suite of measures on one network, and its rank correlation with the gap over several."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from theorylens.core import Subject
from theorylens.generalization import (
    generalization_measures,
    measure_study,
    rank_correlation,
    squared_path_norm,
    stable_rank,
)
from theorylens.generalization._measure_names import NAMES
from theorylens.landscape import expected_sharpness
from theorylens.training import Optimisation, fit


@pytest.fixture(scope="module")
def trained(digits):
    x, y = digits
    found = []
    for width in (4, 8, 16, 32, 64):
        torch.manual_seed(width)
        net = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
        how = Optimisation(lr=0.1, momentum=0.9, batch_size=50, epochs=15)
        found.append(fit(net, (x[:200], y[:200]), "cross_entropy", how).subject(test=(x[200:700], y[200:700])))
    return found


def test_each_measure_is_the_one_it_is_named_after(trained):
    subject = trained[2]
    net, data = subject.net, subject.split("train")
    found = generalization_measures(net, data, "cross_entropy", reference=subject.init, draws=16)
    assert {n for n, v in found.items() if not math.isfinite(v)} == {"weight_alpha"}  # 16 eigenvalues have no tail
    first, _, last = net
    assert found["parameters"] == 64 * 16 + 16 + 160 + 10
    assert found["stable_rank"] == pytest.approx((stable_rank(first.weight) + stable_rank(last.weight)) / 2)
    assert found["path_norm"] == pytest.approx(math.log10(squared_path_norm(net, (64,))))
    moved = sum(float((p - subject.init[n]).double().square().sum()) for n, p in net.state_dict().items())
    assert found["distance"] == pytest.approx(math.sqrt(moved), rel=1e-6)
    sharp = expected_sharpness(net, data, "cross_entropy", radius=0.1, scale="weight", draws=16)
    assert found["adaptive_sharpness"] == sharp.value
    every = torch.cat([p.detach().double().reshape(-1) for p in net.parameters()])
    even = 0.1 * float(every.square().mean().sqrt())  # a tenth of the root mean square of all weights
    level = expected_sharpness(net, data, "cross_entropy", radius=even, scale="absolute", draws=16)
    assert found["sharpness"] == pytest.approx(level.value, rel=1e-9)
    with torch.no_grad():
        x, y = data.take(range(len(data)))
        assert found["train_loss"] == pytest.approx(float(nn.functional.cross_entropy(net(x), y)), rel=1e-5)


def test_what_is_not_defined_is_not_a_number_and_the_rest_stays(digits):
    x, y = digits
    net = nn.Sequential(nn.Linear(64, 8), nn.LayerNorm(8), nn.Linear(8, 10))
    found = generalization_measures(net, (x[:50], y[:50]), "cross_entropy", draws=4)
    chain = {"spectral_complexity", "spectral_complexity_margin", "path_norm", "path_norm_margin"}
    start, untrained = {"distance", "flatness_distance"}, {"flatness", "adaptive_flatness", "flatness_length"}
    assert {n for n, v in found.items() if math.isnan(v)} == {*chain, *start, *untrained, "weight_alpha"}
    # Its margins are negative: what is divided by them has no finite value.
    assert {n for n, v in found.items() if math.isinf(v)} == {"frobenius_margin", "spectral_margin", "inverse_margin"}


def test_adaptive_sharpness_and_path_norm_stay_when_layers_are_rescaled_and_plain_ones_do_not(trained):
    """Dinh et al.: a function has flat and sharp parametrisations, so plain sharpness cannot tell networks apart."""
    subject = trained[1]
    names = ["stable_rank", "path_norm", "spectral_complexity", "adaptive_sharpness", "sharpness", "length"]
    before = generalization_measures(subject.net, subject.split("train"), "cross_entropy", draws=16, names=names)
    net = nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
    net.load_state_dict(subject.net.state_dict())
    with torch.no_grad():
        net[0].weight *= 8
        net[0].bias *= 8
        net[2].weight /= 8
    after = generalization_measures(net, subject.split("train"), "cross_entropy", draws=16, names=names)
    for name in ("stable_rank", "path_norm", "spectral_complexity", "adaptive_sharpness"):
        # The bias of the last layer is not rescaled, so the path norm and the noise on it stay as they are.
        assert after[name] == pytest.approx(before[name], rel=1e-4), name
    assert abs(after["sharpness"] / before["sharpness"] - 1) > 0.5
    assert abs(after["length"] / before["length"] - 1) > 0.5


def test_study_over_networks_of_growing_width(trained):
    names = [name for name in NAMES if "flatness" not in name and name != "worst_sharpness"]
    study = measure_study(trained, draws=4, names=names)
    assert study.gaps == pytest.approx(
        [float(s.scores("test").errors.mean() - s.scores("train").errors.mean()) for s in trained]
    )
    assert study.values["parameters"].tolist() == sorted(study.values["parameters"])
    expected = stats.kendalltau(study.values["length"], study.gaps, variant="b").statistic
    assert study.correlations["length"].value == pytest.approx(expected, abs=0.15)  # up to ties
    picture = study.forest()
    assert (np.diff(picture.values) <= 0).all()
    assert len(picture.names) == len(study.correlations) >= 8


def test_rank_correlation_is_kendalls_and_its_interval_narrows():
    rng = np.random.default_rng(0)
    a = rng.normal(size=200)
    b = a + rng.normal(size=200)
    found = rank_correlation(a, b)
    assert found.value == pytest.approx(stats.kendalltau(a, b).statistic, rel=1e-12)
    few = rank_correlation(a[:20], b[:20])
    assert found.upper - found.lower < few.upper - few.lower
    assert rank_correlation(a, a).lower == 1.0
    assert rank_correlation(np.exp(a), -b).value == pytest.approx(-found.value)  # ranks only
    assert rank_correlation([1.0, 1.0, 2.0, 2.0], [0.0, 1.0, 2.0, 3.0]).value == pytest.approx(4 / 6)
    # The jackknife, by leaving each network out.
    x, y = a[:12], b[:12]
    left = np.array([rank_correlation(np.delete(x, i), np.delete(y, i)).value for i in range(12)])
    half = stats.t.ppf(0.975, 11) * math.sqrt(11 / 12 * ((left - left.mean()) ** 2).sum())
    twelve = rank_correlation(x, y)
    assert (twelve.lower, twelve.upper) == pytest.approx(
        (max(-1, twelve.value - half), min(1, twelve.value + half)), rel=1e-9
    )


@pytest.mark.slow
@pytest.mark.parametrize(("n", "rho"), [(15, 0.0), (15, 0.6), (60, 0.0), (60, 0.6)])
def test_the_interval_covers_as_often_as_it_says(n, rho):
    rng = np.random.default_rng(0)
    truth, covered = 2 / math.pi * math.asin(rho), 0
    for _ in range(2000):
        a = rng.normal(size=n)
        b = rho * a + math.sqrt(1 - rho**2) * rng.normal(size=n)
        found = rank_correlation(a, b)
        covered += found.lower <= truth <= found.upper
    assert 0.93 <= covered / 2000 <= 0.97


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: rank_correlation([1.0, 2.0], [1.0, 2.0]), "at least 4 numbers"),
        (lambda: rank_correlation([1.0] * 4, [1.0] * 5), "two lists"),
        (lambda: rank_correlation([1.0, 2.0, 3.0, math.nan], [1.0] * 4), "must be finite"),
        (lambda: measure_study([]), "at least 4 networks, got 0"),
        (lambda: measure_study([regression()] * 4), "states no error"),
    ],
)
def test_refusals(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def regression():
    data = torch.zeros(5, 2), torch.zeros(5, 1)
    return Subject(model=nn.Linear(2, 1), loss="mse", train=data, test=data)


def test_ignored_targets_have_no_margin_and_a_reference_must_have_every_weight():
    torch.manual_seed(0)
    net = nn.Linear(4, 3).eval()
    x, y = torch.randn(40, 4), torch.randint(0, 3, (40,))
    with torch.no_grad():
        y[:30] = net(x[:30]).argmax(1)
    ignored = y.clone()
    ignored[30:] = -100
    whole = generalization_measures(net, (x[:30], y[:30]), "cross_entropy", names=["inverse_margin"])
    part = generalization_measures(net, (x, ignored), "cross_entropy", names=["inverse_margin"])
    assert part["inverse_margin"] == pytest.approx(whole["inverse_margin"])
    with pytest.raises(ValueError, match="the reference has no bias of this shape"):
        generalization_measures(
            net, (x, y), "cross_entropy", names=["distance"], reference={"weight": net.weight.detach()}
        )
