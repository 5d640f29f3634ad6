"""Power laws by known samples, spectra of weights with every parameter listed, and TL125 on trained and random nets."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from theorylens.core import RefusedError, Subject, UnsuitableError
from theorylens.generalization import power_law, probe_weight_spectrum, weight_spectrum
from theorylens.generalization._weight_spectrum_probe import judge, read
from theorylens.results import Verdict
from theorylens.training import Optimisation, fit


def pareto(rng, n, alpha=2.5, start=1.0):
    return start * (1 - rng.random(n)) ** (-1 / (alpha - 1))


def twin(x):
    """Straight from the paper: for each start the exponent and the distance to both sides of the steps."""
    best = None
    for start in sorted(set(x)):
        tail = sorted(v for v in x if v >= start)
        if len(tail) < 10:
            break
        alpha = 1 + len(tail) / sum(math.log(v / start) for v in tail)
        apart = max(
            max(abs(1 - (v / start) ** (1 - alpha) - k / len(tail)) for k in (i, i + 1)) for i, v in enumerate(tail)
        )
        if best is None or apart < best[2]:
            best = alpha, start, apart
    return best


def test_the_exponent_of_a_sample_is_recovered_and_agrees_with_a_plain_loop():
    rng = np.random.default_rng(0)
    found = power_law(pareto(rng, 2000, 3.0), draws=20)
    assert found.alpha == pytest.approx(3.0, abs=0.15)
    assert found.lower < 3.0 < found.upper
    assert not found.rejected
    assert found.against_exponential > 5
    for n in (15, 60):
        x = np.concatenate([rng.random(n), pareto(rng, n)])
        alpha, start, distance = twin(x.tolist())
        found = power_law(x)
        assert (found.alpha, found.start) == pytest.approx((alpha, start), rel=1e-12)
        assert found.distance == pytest.approx(distance, rel=1e-9)
        assert found.tail == int((x >= start).sum())


def test_the_unit_changes_the_start_and_nothing_else():
    x = pareto(np.random.default_rng(1), 300)
    one, two = power_law(x, draws=10), power_law(1000 * x, draws=10)
    assert two.start == pytest.approx(1000 * one.start)
    assert (two.alpha, two.p, two.against_exponential) == pytest.approx((one.alpha, one.p, one.against_exponential))


def test_an_exponential_from_its_start_is_ruled_out_and_a_power_law_is_not():
    rng = np.random.default_rng(2)
    x = 1 + rng.exponential(size=500)
    found = power_law(x, start=1.0, draws=60)
    assert found.p == pytest.approx(1 / 61)
    assert found.rejected
    assert found.against_exponential < -3
    assert not power_law(pareto(np.random.default_rng(5), 500), start=1.0, draws=60).rejected


@pytest.mark.slow
def test_p_values_of_power_laws_are_even_and_limits_cover():
    rng = np.random.default_rng(3)
    p, covered, given = [], [], []
    for k in range(400):
        x = pareto(rng, 60)
        found = power_law(x, draws=60, seed=k)
        p.append(found.p)
        covered.append(found.lower <= 2.5 <= found.upper)
        given.append(power_law(x, start=1.0, draws=60, seed=k).p)
    assert np.quantile(given, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.09)
    assert 0.02 <= np.mean(np.array(p) <= 0.1) <= 0.11
    assert 0.88 <= np.mean(covered) <= 0.98


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: power_law([1.0, 0.0] * 20), "positive finite numbers"),
        (lambda: power_law([1.0, math.inf] * 20), "positive finite numbers"),
        (lambda: power_law([1.0, 2.0] * 20), "at least 10 different numbers, got 2"),
        (lambda: power_law(np.arange(1.0, 20.0), start=15.0), "at least 10 different numbers, got 5"),
        (lambda: power_law(np.arange(1.0, 20.0), start=-1.0), "start of a tail is a positive number"),
        (lambda: power_law(np.arange(1.0, 20.0), draws=-1), "draws must not be negative"),
        (lambda: weight_spectrum(nn.Linear(2, 2), least=5), "least must be at least 10"),
    ],
)
def test_refusals(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_every_parameter_is_listed_with_its_spectrum_or_the_reason_why_not():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(4, 40, 3), nn.Flatten(), nn.Linear(50, 60), nn.LayerNorm(60), nn.Linear(60, 3))
    with torch.no_grad():
        net[2].weight[1:] = 0  # rank one
    found = {layer.name: layer for layer in weight_spectrum(net, draws=0, permutations=3)}
    assert list(found) == [n for n, _ in net.named_parameters()]
    conv = found["0.weight"]
    exact = torch.linalg.svdvals(net[0].weight.detach().flatten(1).double()) ** 2 / 40
    assert conv.eigenvalues == pytest.approx(exact.numpy(), rel=1e-9)
    assert conv.fit == power_law(exact.numpy())
    assert len(conv.permuted) == 3
    assert len(set(conv.permuted)) == 3
    ratio, variance = 36 / 40, float(net[0].weight.detach().double().var(correction=0))
    assert conv.edge == pytest.approx(variance * (1 + math.sqrt(ratio)) ** 2)
    assert conv.beyond == int((conv.eigenvalues > conv.edge).sum()) <= 2
    assert found["2.weight"].skipped.render() == "1 eigenvalues above zero, too few for a tail (at least 30)"
    assert found["2.weight"].beyond == 0  # it has no edge
    assert "3 eigenvalues" in found["4.weight"].skipped.render()
    assert "no matrix" in found["3.weight"].skipped.render()
    with torch.no_grad():
        net[4].weight[0, 0] = math.nan
    with pytest.raises(RefusedError, match=r"4\.weight is not finite"):
        weight_spectrum(net)


@pytest.fixture(scope="module")
def deep(digits):
    x, y = digits
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 60), nn.ReLU(), nn.Linear(60, 50), nn.ReLU(), nn.Linear(50, 10))
    return fit(net, (x[:800], y[:800]), "cross_entropy", Optimisation(lr=0.1, momentum=0.9, epochs=15)).subject()


def test_training_makes_tails_heavier_and_the_probe_says_against_what(deep):
    found = probe_weight_spectrum(deep, draws=128)
    assert found.verdict is Verdict.DESCRIPTIVE
    assert found.reading.render().startswith("Yes, heavier than before training")
    layers = weight_spectrum(deep.net, draws=0, permutations=0)
    assert found.estimate.value == pytest.approx(np.mean([layer.fit.alpha for layer in layers if layer.fit]))
    (init,) = found.controls
    start = weight_spectrum(deep.initial().subject.net, draws=0, permutations=0)
    assert init.estimate.value == pytest.approx(np.mean([layer.fit.alpha for layer in start if layer.fit]))
    assert found.estimate.upper < init.estimate.value
    forest, spectrum, table = found.payload
    assert forest.names[:2] == ("0.weight", "2.weight")
    assert len(forest.names) == 4
    assert len(spectrum.levels[0].values) == 60
    assert len(table.rows) == 6
    assert table.rows[0][2] == pytest.approx(start[0].fit.alpha)


def test_weights_with_nothing_learnt_are_told_from_nothing(digits):
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(64, 60), nn.ReLU(), nn.Linear(60, 10))
    found = probe_weight_spectrum(Subject(model=net, loss="cross_entropy", train=digits), draws=128)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reading.render().startswith("Not shown")
    with pytest.raises(UnsuitableError, match="no weight matrix has 30 eigenvalues"):
        probe_weight_spectrum(Subject(model=nn.Linear(64, 10), loss="cross_entropy", train=digits), draws=128)


@pytest.mark.parametrize(
    ("value", "limits", "permuted", "others", "own", "verdict", "said"),
    [
        (3.0, (2.5, 3.5), (2.0, 4.0), {"init": 9.0}, True, Verdict.INCONCLUSIVE, ("random order", "Not shown")),
        (2.0, (1.8, 3.5), (4.0, 6.0), {"init": 3.0}, True, Verdict.INCONCLUSIVE, ("3 at initialisation", "Not shown")),
        (2.0, (1.8, 2.5), (4.0, 6.0), {"init": 5.0, "shuffled": 2.2}, True, Verdict.INCONCLUSIVE, ("2.2 after", "Not")),
        (2.0, (1.8, 2.5), (4.0, 6.0), {}, False, Verdict.DESCRIPTIVE, ("not known", "Perhaps")),
        (2.0, (1.8, 2.5), (4.0, 6.0), {"init": 5.0}, False, Verdict.DESCRIPTIVE, ("not known", "Perhaps")),
        (2.0, (1.8, 2.5), (4.0, 6.0), {"init": 5.0}, True, Verdict.DESCRIPTIVE, ("5 at initialisation", "Yes")),
        (7.0, (6.8, 7.5), (4.0, 6.0), {"init": 5.0}, True, Verdict.DESCRIPTIVE, ("5 at initialisation", "No, lighter")),
    ],
)
def test_judgement(value, limits, permuted, others, own, verdict, said):
    found, reason = judge(value, limits, permuted, others, own)
    assert found is verdict
    assert said[0] in reason.render()
    assert read(reason, value, others.get("init"), (2, 1, 1)).render().startswith(said[1])
