"""Two samples: the contract's values, naive twins, validity under the null, power, one feature."""

import numpy as np
import pytest
import torch
from scipy import stats

from theorylens.bias import (
    classifier_test,
    domain_bound,
    energy_distance,
    energy_test,
    feature_shift,
    holm,
    label_shift,
    mmd,
    proxy_a_distance,
)


def seeded(k=0):
    return torch.Generator().manual_seed(k)


X, Y = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [4.0]])


def test_the_contract_s_values(golden):
    assert [mmd(X, Y, gamma=0.5), mmd(X, Y, gamma=0.5, unbiased=False)] == pytest.approx(golden("G5.3-3"), rel=1e-9)
    assert energy_distance(X, Y) == pytest.approx(golden("G5.3-4"), rel=1e-9)
    assert proxy_a_distance(0.1) == pytest.approx(golden("G5.3-7"), rel=1e-9)


def test_energy_distance_in_one_dimension_is_scipy_s():
    a, b = torch.randn(40, 1, generator=seeded()), 2 * torch.randn(30, 1, generator=seeded(1))
    expected = stats.energy_distance(a[:, 0].double().numpy(), b[:, 0].double().numpy()) ** 2
    assert energy_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_the_permutations_are_those_of_the_statistic_itself():
    a, b = torch.randn(8, 2, generator=seeded()).double(), torch.randn(5, 2, generator=seeded(1)).double() + 1
    found, g, pooled = energy_test(a, b, 50, seeded(2)), seeded(2), torch.cat([a, b])
    null = []
    for _ in range(50):
        order = torch.randperm(13, generator=g)
        null.append(energy_distance(pooled[order[:8]], pooled[order[8:]]))
    assert found.statistic == pytest.approx(energy_distance(a, b), rel=1e-9)
    assert found.p == (1 + sum(v >= found.statistic - 1e-9 for v in null)) / 51


def test_one_feature_works_in_every_test():
    a, b = torch.randn(60, 1, generator=seeded()), torch.randn(60, 1, generator=seeded(1)) + 2
    assert energy_test(a, b, 99, seeded()).p == 0.01
    assert classifier_test(a, b, 99, seeded()).p == 0.01
    assert feature_shift(a, b).smallest < 1e-6


def test_a_classifier_separates_what_is_apart_and_not_what_is_not():
    a, b = torch.randn(200, 3, generator=seeded()), torch.randn(200, 3, generator=seeded(1))
    same, apart = classifier_test(a, b, 199, seeded(3)), classifier_test(a, b + 1, 199, seeded(3))
    assert same.separation.lower < 0.5 < same.separation.upper
    assert same.p > 0.05
    assert apart.separation.lower < float(stats.norm.cdf(3**0.5 / 2**0.5)) < apart.separation.upper + 0.01
    assert apart.p == 1 / 200
    assert apart.distance > same.distance


def test_complete_separation_still_has_an_interval():
    found = classifier_test(torch.zeros(40, 1) + 0.01 * torch.randn(40, 1, generator=seeded()), torch.ones(40, 1), 19,
                            seeded())  # fmt: skip
    assert found.separation.value == 1
    assert 0.7 < found.separation.lower < 1
    assert found.distance == 2


def test_features_are_tested_one_by_one_and_adjusted_together():
    g = seeded()
    a, b = torch.randn(200, 5, generator=g), torch.randn(200, 5, generator=g)
    b[:, 3] += 1
    found = feature_shift(a, b)
    for k in range(5):
        twin = stats.ks_2samp(a[:, k].double().numpy(), b[:, k].double().numpy())
        assert (found.statistics[k], found.p[k]) == pytest.approx((twin.statistic, twin.pvalue))
    assert found.adjusted.argmin() == 3
    assert (found.adjusted >= found.p).all()


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]).tolist() == [1.0, 1.0]


@pytest.mark.slow
@pytest.mark.parametrize("test", ["energy", "classifier", "features"])
def test_under_the_null_it_rejects_as_often_as_it_says(test):
    g, runs, rejected = seeded(), 600, 0
    for _ in range(runs):
        a, b = torch.randn(30, 3, generator=g), torch.randn(24, 3, generator=g)
        if test == "energy":
            p = energy_test(a, b, 39, g).p
        elif test == "classifier":
            p = classifier_test(a, b, 39, g).p
        else:
            p = feature_shift(a, b).smallest
        rejected += p <= 0.05
    assert stats.binomtest(rejected, runs, 0.05, alternative="greater").pvalue > 1e-3


def shifted(n, m, seed, share=(0.5, 0.3, 0.2), error=0.2):
    g = np.random.default_rng(seed)

    def answers(labels):
        return np.where(g.random(len(labels)) < error, g.integers(0, 3, len(labels)), labels)

    y, t = g.integers(0, 3, n), g.choice(3, size=m, p=share)
    return y, answers(y), answers(t)


def test_label_shift_finds_the_shares_that_were_drawn():
    y, f, q = shifted(20_000, 20_000, 0)
    found = label_shift(y, f, q, 3)
    assert found.target == pytest.approx([0.5, 0.3, 0.2], abs=0.015)
    assert found.weights == pytest.approx([1.5, 0.9, 0.6], abs=0.05)
    assert found.p < 1e-6
    assert (found.lower < found.weights).all()


def test_label_shift_undoes_errors_that_go_one_way():
    """Class 0 is taken for 1 in 40 % of its rows, and nothing else is mistaken; the source is uneven too."""
    g = np.random.default_rng(0)

    def answers(labels):
        return np.where((labels == 0) & (g.random(len(labels)) < 0.4), 1, labels)

    y, t = g.choice(3, size=20_000, p=[0.6, 0.3, 0.1]), g.choice(3, size=20_000, p=[0.2, 0.3, 0.5])
    found = label_shift(y, answers(y), answers(t), 3)
    assert found.target == pytest.approx([0.2, 0.3, 0.5], abs=0.015)
    assert found.weights == pytest.approx([1 / 3, 1, 5], rel=0.05)
    assert found.source == pytest.approx([0.6, 0.3, 0.1], abs=0.015)


def test_shares_of_answers_alone_would_be_biased():
    y, f, q = shifted(20_000, 20_000, 0, share=(0.8, 0.1, 0.1), error=0.5)
    raw = np.bincount(q) / len(q)
    assert raw[0] < 0.7
    assert label_shift(y, f, q, 3).target[0] == pytest.approx(0.8, abs=0.02)


@pytest.mark.slow
def test_the_intervals_of_label_shift_cover():
    truth, hits = np.array([1.5, 0.9, 0.6]), np.zeros(3)
    for seed in range(2000):
        found = label_shift(*shifted(500, 500, seed), 3)
        hits += (found.lower <= truth) & (truth <= found.upper)
    assert (hits / 2000 > 0.935).all()
    assert (hits / 2000 < 0.97).all()


def test_the_domain_bound_is_a_sum():
    assert domain_bound(0.1, 0.4, 0.05) == pytest.approx(0.35)
    assert domain_bound(0.9, 1.0, 0.5) == 1.0


def test_refusals():
    a = torch.randn(20, 2)
    for call, match in (
        (lambda: energy_distance(a, torch.randn(20, 3)), "shapes"),
        (lambda: energy_distance(a, a[:1]), "at least 2 rows"),
        (lambda: energy_distance(a, a * torch.nan), "not finite"),
        (lambda: energy_test(a, a, 0, seeded()), "permutations must be at least 1"),
        (lambda: classifier_test(a, a[:5], 9, seeded()), "at least 10 rows"),
        (lambda: classifier_test(a, a, 0, seeded()), "permutations must be at least 1"),
        (lambda: feature_shift(a, torch.randn(20, 3)), "shapes"),
        (lambda: feature_shift(a, a * torch.nan), "not finite"),
        (lambda: holm([2.0]), "from 0 to 1"),
        (lambda: proxy_a_distance(0.7), "0 to 0.5"),
        (lambda: domain_bound(0.1, 3.0, 0.1), "divergence must lie"),
        (lambda: label_shift([0, 1], [0], [0], 2), "one length"),
        (lambda: label_shift([0, 0], [0, 1], [0], 2), "do not occur"),
        (lambda: label_shift([0, 1], [0, 0], [0], 2), "tell the classes apart too little"),
        (lambda: label_shift([0, 1], [0, 2], [0], 2), "source_predicted must be classes"),
        (lambda: label_shift([0, 1], [0, 1], [0], 1), "at least 2"),
    ):
        with pytest.raises(ValueError, match=match):
            call()
