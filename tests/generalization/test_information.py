"""Information about the training examples: closed forms, bounds that hold exactly, and what they are not."""

import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from theorylens.core import Subject, UnsuitableError
from theorylens.generalization import (
    certify,
    cmi_bound,
    conditional_mutual_information,
    information_gap,
    pair_information,
    xu_raginsky,
)
from theorylens.results import Certificate, Kind


def memoriser(rows, pairs, seed):
    """Right on what it was trained on, wrong on everything else."""
    return (~np.isin(pairs, rows)).astype(float)


def constant(rows, pairs, seed):
    return (pairs % 3 == 0).astype(float)


def test_a_memoriser_gives_away_every_choice():
    found = conditional_mutual_information(memoriser, 40, 20, runs=6)
    assert found.information == pytest.approx(20 * math.log(2), rel=1e-12)
    assert found.bound.value == pytest.approx(cmi_bound(20 * math.log(2), 20), rel=1e-12)
    assert found.gap.value == 1.0
    assert found.trainings == 24


def test_a_constant_learner_gives_away_nothing():
    found = conditional_mutual_information(constant, 40, 20, runs=6)
    assert (found.information, found.bound.value, found.null) == (0.0, 0.0, 0.0)
    assert found.bound.value >= abs(found.gap.value) or found.gap.uncertainty.lower <= 0 <= found.gap.uncertainty.upper


def test_a_learner_of_noise_reads_no_more_than_the_shuffled_choices():
    def noisy(rows, pairs, seed):
        return (np.random.default_rng(seed).random(pairs.shape) < 0.3).astype(float)

    found = conditional_mutual_information(noisy, 200, 100, runs=20, supersamples=4)
    assert found.bound.value == pytest.approx(found.null, rel=0.15)
    assert found.null > 0.2  # what counting makes of nothing: said, not hidden
    assert found.reading.render().startswith("Undecided")


def test_information_of_pairs_is_what_scikit_learn_counts():
    rng = np.random.default_rng(0)
    losses, chosen = rng.integers(2, size=(60, 5, 2)), rng.integers(2, size=(60, 5))
    losses[..., 0] = np.where(rng.random((60, 5)) < 0.7, chosen, losses[..., 0])
    expected = [mutual_info_score(losses[:, i, 0] * 2 + losses[:, i, 1], chosen[:, i]) for i in range(5)]
    assert pair_information(losses, chosen) == pytest.approx(expected, abs=1e-12)


def majority(sample):
    return int(sum(sample) * 2 > len(sample))


@pytest.mark.parametrize("p", [0.3, 0.5, 0.62])
@pytest.mark.parametrize("n", [1, 3])
def test_the_bounds_hold_exactly_for_the_majority_of_coins(p, n):
    """All samples and all choices listed: the expected gap, CMI through the losses, and I(answer; sample)."""
    chance = {0: 1 - p, 1: p}
    choices = np.array(list(itertools.product((0, 1), repeat=n)))
    gap = pairwise = total = whole = 0.0
    for flat in itertools.product((0, 1), repeat=2 * n):
        weight = math.prod(chance[z] for z in flat)
        pairs = np.array(flat).reshape(n, 2)
        answers = [majority(pairs[np.arange(n), u]) for u in choices]
        losses = np.array([pairs != w for w in answers], dtype=float)
        found = pair_information(losses, choices)
        pairwise += weight * float(np.sqrt(2 * found).mean())
        total += weight * float(found.sum())
        index = choices @ (1 << np.arange(n))
        whole += weight * float(mutual_info_score(answers, index))
        sides = np.arange(n)
        gap += weight * float(
            np.mean([loss[sides, 1 - u] - loss[sides, u] for loss, u in zip(losses, choices, strict=True)])
        )
    risk_gap = sum(
        math.prod(chance[z] for z in s) * (chance[1 - majority(s)] - np.mean([z != majority(s) for z in s]))
        for s in itertools.product((0, 1), repeat=n)
    )
    assert gap == pytest.approx(risk_gap, abs=1e-12)
    assert abs(gap) <= pairwise + 1e-12 <= cmi_bound(total, n) + 2e-12 <= cmi_bound(whole, n) + 3e-12
    one = sum(math.prod(chance[z] for z in s) * majority(s) for s in itertools.product((0, 1), repeat=n))
    entropy = -sum(q * math.log(q) for q in (one, 1 - one) if q > 0)  # I(answer; sample) of a deterministic rule
    assert abs(gap) <= xu_raginsky(entropy, n) + 1e-12


def test_it_is_a_description_and_no_method_of_certify():
    found = conditional_mutual_information(memoriser, 10, 5, runs=4)
    assert found.kind is Kind.DESCRIPTION
    assert not any(isinstance(value, Certificate) for value in vars(found).values())
    with pytest.raises(ValueError, match="unknown methods"):
        certify(Subject(model=None, loss="cross_entropy", outputs={}), methods=["information"])


def test_of_a_recipe(gaussians):
    found = information_gap(gaussians.subject(60, 1), pairs=10, runs=8)
    assert (found.pairs, found.trainings) == (10, 16)
    assert 0 <= found.information <= 10 * math.log(2)
    assert abs(found.gap.value) <= 1
    again = information_gap(gaussians.subject(60, 1), pairs=10, runs=8)
    assert again.bound == found.bound


def test_what_it_needs(gaussians):
    bare = gaussians.subject(60, 1)
    bare = Subject(model=bare.net, loss="cross_entropy", train=gaussians.rows(60, 1))
    with pytest.raises(UnsuitableError, match="takes a recipe"):
        information_gap(bare)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: conditional_mutual_information(memoriser, 10, 6), "6 pairs take 12 examples, got 10"),
        (lambda: conditional_mutual_information(memoriser, 10, 5, runs=5), "even number of runs"),
        (lambda: conditional_mutual_information(memoriser, 10, 5, supersamples=1), "two supersamples"),
        (lambda: conditional_mutual_information(memoriser, 10, 5, level=1.0), "level must lie"),
        (lambda: conditional_mutual_information(lambda *_: np.zeros(3), 10, 5), r"shape \(5, 2\) are needed"),
        (lambda: conditional_mutual_information(lambda r, p, s: p + 2.0, 10, 5), r"losses in \[0, 1\]"),
        (lambda: pair_information([[[0, 1]]], [[2]]), "choices 0 or 1"),
        (lambda: pair_information([[0, 1]], [[0]]), r"losses \(runs, n, 2\)"),
        (lambda: cmi_bound(-1.0, 10), "information must be at least 0"),
        (lambda: xu_raginsky(float("nan"), 10), "information must be at least 0"),
        (lambda: cmi_bound(1.0, 0), "n must be"),
    ],
)
def test_bad_input(call, said):
    with pytest.raises(ValueError, match=said):
        call()
