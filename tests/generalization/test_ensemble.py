"""Votes: bounds from one voter and from pairs, how often they fail, and certificates of an ensemble."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from theorylens.core import RefusedError
from theorylens.generalization import (
    Ensemble,
    certify,
    certify_ensemble,
    clopper_pearson,
    first_order_bound,
    kl_inverse,
    pac_bayes_kl,
    plurality,
    tandem_bound,
    tandem_losses,
    tandem_weights,
    weights_divergence,
    xi,
)
from theorylens.results import Predictor


def test_the_values_are_two_and_four_inverses():
    n, delta, nats = 700, 0.05, 0.4
    one = kl_inverse(0.03, (nats + math.log(xi(n) / delta)) / n)
    two = kl_inverse(0.03, (2 * nats + math.log(xi(n) / delta)) / n)  # the pair pays twice
    assert first_order_bound(0.03, nats, n, delta) == pytest.approx(2 * one, rel=1e-9)
    assert tandem_bound(0.03, nats, n, delta) == pytest.approx(4 * two, rel=1e-9)
    assert tandem_bound(0.03, nats, 2 * n, delta) < 3.7 * two  # a doubled n would be seen


@pytest.mark.parametrize("seed", range(20))
def test_a_vote_errs_at_most_twice_and_four_times_as_often(seed):
    """For any voters, weights and number of classes, on any examples: the steps before the data."""
    rng = np.random.default_rng(seed)
    voters, classes, n = rng.integers(2, 7), rng.integers(2, 6), 200
    truth = rng.integers(classes, size=n)
    said = np.where(rng.random((voters, n)) < rng.random((voters, 1)), truth, rng.integers(classes, size=(voters, n)))
    rho = rng.dirichlet(np.ones(voters))
    wrong = (said != truth).astype(float)
    vote = float((plurality(said, rho) != truth).mean())
    assert vote <= 2 * float(rho @ wrong.mean(1)) + 1e-12
    assert vote <= 4 * float(rho @ tandem_losses(wrong) @ rho) + 1e-12


def test_the_diagonal_of_pairs_holds_the_errors():
    wrong = np.random.default_rng(0).integers(2, size=(4, 50))
    losses = tandem_losses(wrong)
    assert np.diag(losses) == pytest.approx(wrong.mean(1), abs=1e-15)
    assert losses[0, 1] == pytest.approx((wrong[0] & wrong[1]).mean(), abs=1e-15)


def test_weights_found_for_the_bound_are_better_than_equal_ones():
    rng = np.random.default_rng(1)
    wrong = rng.random((6, 4000)) < np.array([0.05, 0.08, 0.3, 0.4, 0.45, 0.45])[:, None]
    losses, n = tandem_losses(wrong), 4000

    def bound(rho):
        return tandem_bound(float(rho @ losses @ rho), weights_divergence(rho), n, 0.05)

    rho = tandem_weights(losses, n, 0.05)
    assert rho.sum() == pytest.approx(1, abs=1e-12)
    assert bound(rho) < 0.8 * bound(np.full(6, 1 / 6))
    assert rho[0] > rho[-1]
    grid = [np.array([a, b, 1 - a - b, 0, 0, 0]) for a in np.arange(0, 1.01, 0.1) for b in np.arange(0, 1.01 - a, 0.1)]
    assert bound(rho) < min(bound(np.maximum(g, 0)) for g in grid) * 1.02


def test_ties_go_to_the_smallest_class_and_rounding_decides_nothing():
    assert plurality([[2], [0], [1]]).tolist() == [0]
    assert plurality([[1], [1], [0], [0]], [0.1, 0.4, 0.25, 0.25]).tolist() == [0]


PATTERNS = np.array([[0, 1, 0, 1, 1], [0, 0, 1, 1, 0], [0, 0, 0, 1, 1]])  # errors of three voters on five kinds


@pytest.mark.parametrize("delta", [0.6, 0.2])
def test_for_all_weights_at_once_the_tandem_bound_fails_as_rarely_as_it_says(delta):
    """Every sample of seven examples: the tandem risk of any weights below a quarter of its bound."""
    n = 7
    rhos = [np.array(r) for r in ((1 / 3, 1 / 3, 1 / 3), (0.98, 0.01, 0.01), (0.5, 0.49, 0.01), (0.01, 0.01, 0.98))]
    counts = [np.diff([-1, *c, n + 4]) - 1 for c in itertools.combinations(range(n + 4), 4)]
    pairs = np.einsum("ik,jk->ijk", PATTERNS, PATTERNS)
    shares = np.array(counts) / n
    for rho in rhos:  # the kl form before it is multiplied by four, which is looser
        empirical = np.einsum("i,j,ijk,ck->c", rho, rho, pairs, shares)
        rho_bounds = pac_bayes_kl(np.minimum(empirical, 1), 2 * weights_divergence(rho), n, delta)
        wrong_weight = rho @ PATTERNS
        for chances in ((0.6, 0.1, 0.1, 0.1, 0.1), (0.3, 0.2, 0.1, 0.3, 0.1), (0.9, 0.02, 0.02, 0.03, 0.03)):
            truth = float((wrong_weight**2) @ np.array(chances))
            weight = stats.multinomial.pmf(counts, n, chances)
            assert weight[rho_bounds < truth].sum() <= delta
            vote = float((wrong_weight >= 0.5) @ np.array(chances))  # ties count as wrong
            assert weight[4 * rho_bounds < vote].sum() <= delta


# --------------------------------------------------------------------------------------------------- certificates


def test_three_certificates_of_one_vote(gaussians):
    way = Ensemble(networks=3, share=0.5)
    found = certify_ensemble(gaussians.subject(300, 1, noise=1.0, test=(200, 5)), way, delta=0.06, comparisons=2)
    n = found.holdout.n
    assert n == 150
    wrong = round(found.holdout.empirical * n)
    assert found.holdout.bound == clopper_pearson(wrong, n, 0.03)
    assert found.first_order.bound == pytest.approx(first_order_bound(float(np.mean(found.voters)), 0.0, n, 0.03))
    assert found.tandem.bound > found.holdout.bound  # a factor of four is dear
    for certificate in (found.holdout, found.tandem, found.first_order):
        assert certificate.predictor is Predictor.ENSEMBLE
        assert certificate.empirical == found.holdout.empirical
        assert sum(share.delta for share in certificate.ledger) == pytest.approx(0.06, abs=1e-15)
    assert len(set(found.voters)) > 1
    assert 0 < found.test_error < 0.4


def test_voters_that_have_seen_the_bound_units_are_refused(gaussians):
    with pytest.raises(RefusedError, match="it was to leave out"):
        certify_ensemble(gaussians.subject(100, 1, cheat=True), Ensemble(networks=2))


def test_certify_knows_the_method_and_all_ways_are_paid_for(gaussians):
    found = certify(gaussians.subject(100, 1), methods=["ensemble", "progressive"], ways=[Ensemble(networks=2)])
    assert [v.holdout.comparisons for v in found.votes] == [2]
    assert [p.certificate.comparisons for p in found.progressive] == [2]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda _: tandem_losses([0, 1]), r"errors \(voters, examples\)"),
        (lambda _: tandem_losses([[0.5, 1]]), r"errors \(voters, examples\)"),
        (lambda _: tandem_weights([[2.0]], 10, 0.05), "tandem losses"),
        (lambda _: plurality([[0.5]]), "whole numbers from 0 on"),
        (lambda _: plurality([[1], [0]], [0.5, 0.25]), "add up to 1"),
        (lambda _: plurality([[1], [0]], [1.0]), "one weight per voter"),
        (lambda _: weights_divergence([0.5, 0.5], [1.0]), "one entry per voter"),
        (lambda _: tandem_bound(0.1, -1.0, 10, 0.05), "a divergence must be at least 0"),
        (lambda g: certify_ensemble(g.subject(50, 1), Ensemble(networks=1)), "two networks or more"),
    ],
)
def test_bad_input(gaussians, call, said):
    with pytest.raises(ValueError, match=said):
        call(gaussians)
