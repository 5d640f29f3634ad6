"""Bounds on excess losses and their recursion: values, how often they fail, and what a relative is certified to do."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from theorylens.core import RefusedError
from theorylens.generalization import (
    PosteriorTraining,
    Recursion,
    RecursiveStep,
    certify,
    certify_recursive,
    chernoff_kl,
    clopper_pearson,
    excess_bound,
    kl_inverse,
    pac_bayes_kl,
    pac_bayes_recursive,
    split_kl,
    xi,
)
from theorylens.generalization._excess import EXCESS_FORMS, RATES, excess_values
from theorylens.results import Predictor
from theorylens.training import Optimisation

# ------------------------------------------------------------------------------------------------------- values


def inverse(q, c):
    """The upper inverse of kl by a root finder, independent of ours."""

    def gap(p):
        first = q * math.log(q / p) if q else 0.0
        return first + (1 - q) * math.log((1 - q) / (1 - p)) - c

    return optimize.brentq(gap, max(q, 1e-15), 1 - 1e-15, xtol=1e-15)


TAILS = (0.97, 0.07, 0.03)


def by_hand(form, gamma, n, nats=4.0, delta=0.05):
    if form == "kl":
        mean = (gamma * TAILS[0] + (1 - gamma) * TAILS[1] + gamma * TAILS[2]) / (1 + gamma)
        return (1 + gamma) * inverse(mean, (nats + math.log(xi(n) / delta)) / n) - gamma
    if form == "split-kl":
        budget = (nats + math.log(3 * xi(n) / delta)) / n
        return -gamma + sum(a * inverse(t, budget) for a, t in zip((gamma, 1 - gamma, gamma), TAILS, strict=True) if a)
    chances = {1.0: TAILS[2], 1 - gamma: TAILS[1] - TAILS[2], 0.0: TAILS[0] - TAILS[1], -gamma: 1 - TAILS[0]}
    if gamma == 1:
        chances[0.0] = TAILS[0] - TAILS[2]
    mean = sum(v * p for v, p in chances.items())
    square = sum(v * v * p for v, p in chances.items())
    return min(
        mean + (-r - math.log(1 - r)) / r * square + (nats + math.log(len(RATES) / delta)) / (r * n) for r in RATES
    )


@pytest.mark.parametrize("form", EXCESS_FORMS)
@pytest.mark.parametrize("gamma", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("n", [300, 5000])
def test_each_form_is_its_formula_with_the_right_n(form, gamma, n):
    found = excess_bound(TAILS, 4.0, n, 0.05, gamma, form=form)
    assert found == pytest.approx(by_hand(form, gamma, n), rel=1e-9)
    assert found != pytest.approx(by_hand(form, gamma, 2 * n), rel=1e-3)  # a doubled n would be seen


def test_a_loss_of_two_values_is_pac_bayes_kl():
    assert split_kl((0.0, 1.0), (0.2,), 3.0, 400, 0.1) == pytest.approx(pac_bayes_kl(0.2, 3.0, 400, 0.1), rel=1e-12)


def test_the_recursion_by_hand():
    steps = [
        RecursiveStep(tails=(0.98, 0.08, 0.03), divergence=1.0, n=800, gamma=0.5),
        RecursiveStep(tails=(0.99, 0.07, 0.02), divergence=2.0, n=300, gamma=0.6),
    ]
    found = pac_bayes_recursive(0.1, 2000, steps, 0.06)
    first = kl_inverse(0.1, math.log(3 / 0.06) / 2000)
    second = excess_bound((0.98, 0.08, 0.03), 1.0, 800, 0.02, 0.5) + 0.5 * first
    third = excess_bound((0.99, 0.07, 0.02), 2.0, 300, 0.02, 0.6) + 0.6 * second
    assert found.bounds == pytest.approx((first, second, third), rel=1e-9)
    assert found.bound == found.bounds[-1]


def test_a_first_step_that_has_seen_its_examples_pays_for_it():
    free, paid = (pac_bayes_recursive(0.1, 500, [], 0.05, divergence=d).bound for d in (None, 3.0))
    assert free == chernoff_kl(0.1, 500, 0.05)
    assert paid == pac_bayes_kl(0.1, 3.0, 500, 0.05)


# ------------------------------------------------------------------------------------------------ how often they fail

PATTERNS = np.array([[0, 0, 1, 1], [0, 1, 0, 1]])  # errors of two networks on four kinds of examples
KINDS = [(0.7, 0.1, 0.15, 0.05), (0.4, 0.3, 0.05, 0.25), (0.85, 0.02, 0.12, 0.01), (0.25, 0.25, 0.25, 0.25)]


def counts(n):
    """All counts of the four kinds in n examples."""
    return [np.diff([-1, *cuts, n + 3]) - 1 for cuts in itertools.combinations(range(n + 3), 3)]


def tails_of(rho, sigma, shares):
    """Tails of the excess loss of a network drawn from rho over one from sigma, shares (kinds,)."""
    new, old = rho @ PATTERNS, sigma @ PATTERNS  # chance of an error on each kind
    return tuple(float(shares @ t) for t in (1 - (1 - new) * old, new, new * (1 - old)))


def divergence(rho, sigma):
    return max(0.0, float(np.sum(rho * np.log(rho / sigma))))


def learnt(prior, errors, rate):
    weights = prior * np.exp(-rate * errors)
    return weights / weights.sum()


@pytest.mark.parametrize("form", EXCESS_FORMS)
@pytest.mark.parametrize("gamma", [0.5, 1.0])
@pytest.mark.parametrize("delta", [0.7, 0.2])
def test_for_all_posteriors_at_once_the_excess_is_bounded_as_often_as_it_says(form, gamma, delta):
    n, sigma = 8, np.array([0.6, 0.4])
    posteriors = np.array([[q, 1 - q] for q in (1e-9, 0.2, 0.6, 0.9, 1 - 1e-9)])
    drawn = counts(n)
    tails = np.array([[tails_of(rho, sigma, c / n) for rho in posteriors] for c in drawn])
    bounds = excess_bound(tails, [divergence(rho, sigma) for rho in posteriors], n, delta, gamma, form=form)
    for chances in KINDS:
        truth = (posteriors - gamma * sigma) @ PATTERNS @ np.array(chances)
        missed = (bounds < truth - 1e-12).any(1)
        assert stats.multinomial.pmf(drawn, n, chances)[missed].sum() <= delta


@pytest.mark.parametrize("form", EXCESS_FORMS)
def test_two_steps_miss_with_probability_at_most_delta_summed_over_every_sample(form):
    """Q_1 learnt from three examples, Q_2 from these and five more, on which both steps are bounded."""
    delta, n, gamma, uniform = 0.5, 5, 0.5, np.array([0.5, 0.5])
    pairs = list(itertools.product(counts(3), counts(n)))
    ones = [learnt(uniform, PATTERNS @ first, 0.5) for first, _ in pairs]
    twos = [learnt(one, PATTERNS @ (first + second), 0.4) for one, (first, second) in zip(ones, pairs, strict=True)]
    all_of = list(zip(twos, ones, (second for _, second in pairs), strict=True))
    tails = [tails_of(two, one, second / n) for two, one, second in all_of]
    nats = [divergence(two, one) for two, one, _ in all_of]
    start = chernoff_kl([float(one @ PATTERNS @ second / n) for _, one, second in all_of], n, delta / 2)
    bounds = excess_bound(tails, nats, n, delta / 2, gamma, form=form) + gamma * start
    step = RecursiveStep(tails=tuple(tails[77]), divergence=nats[77], n=n, gamma=gamma)
    risk = float(ones[77] @ PATTERNS @ pairs[77][1] / n)
    assert pac_bayes_recursive(risk, n, [step], delta, form=form).bound == pytest.approx(min(1, bounds[77]), rel=1e-9)
    for chances in KINDS:
        missed = bounds < np.array(twos) @ PATTERNS @ np.array(chances)
        weight = [stats.multinomial.pmf(a, 3, chances) * stats.multinomial.pmf(b, n, chances) for a, b in pairs]
        assert np.array(weight)[missed].sum() <= delta


CLASS = np.random.default_rng(3).random((40, 12)) < np.linspace(0.3, 0.5, 40)[:, None]  # 40 rules, 12 kinds


def many(seed):
    """Three portions of 30, 30, 60 over 12 kinds and 40 rules: first risk, later steps, true risk of the last."""
    rng = np.random.default_rng(seed)
    parts = [rng.multinomial(n, np.full(12, 1 / 12)) for n in (30, 30, 60)]
    errors = [CLASS @ c for c in parts]
    q, later = learnt(np.full(40, 1 / 40), errors[0], 0.3), 90
    shares = (parts[1] + parts[2]) / later
    start, steps = float(q @ CLASS @ shares), []
    for t in (1, 2):
        new = learnt(q, sum(errors[: t + 1]), 0.15)
        n = int(sum(c.sum() for c in parts[t:]))
        shares = sum(parts[t:]) / n
        mine, old = new @ CLASS, q @ CLASS
        tails = tuple(float(shares @ tail) for tail in (1 - (1 - mine) * old, mine, mine * (1 - old)))
        steps.append(RecursiveStep(tails=tails, divergence=divergence(new, q), n=n, gamma=0.5))
        q = new
    return start, steps, float(q @ CLASS.mean(1))


@pytest.mark.slow
def test_three_steps_miss_no_more_than_delta():
    runs, delta = 2000, 0.3
    starts, steps, truth = zip(*(many(seed) for seed in range(runs)), strict=True)
    bounds = chernoff_kl(np.array(starts), 90, delta / 3)
    for t in (0, 1):  # all runs at once; the function for one run does the same
        tails, nats = np.array([s[t].tails for s in steps]), np.array([s[t].divergence for s in steps])
        bounds = np.clip(excess_bound(tails, nats, steps[0][t].n, delta / 3, 0.5) + 0.5 * bounds, 0, 1)
    for i in range(5):
        assert pac_bayes_recursive(starts[i], 90, steps[i], delta).bound == pytest.approx(bounds[i], rel=1e-9)
    missed = int((bounds < np.array(truth)).sum())
    assert stats.binom.sf(missed - 1, runs, delta) > 1e-4


def test_a_first_step_made_from_the_bound_examples_is_caught():
    """The negative control: the best of a million rules that err on half of all, chosen on the 200 bound examples."""
    n = 200

    def bound(risk):  # the second step stays where the first is: both err together
        step = RecursiveStep(tails=(1.0, risk, 0.0), divergence=0.0, n=n, gamma=0.5)
        return pac_bayes_recursive(risk, n, [step], 0.05).bound

    k = stats.binom.ppf(1e-6, n, 0.5)
    assert 1 - stats.binom.sf(k, n, 0.5) ** 10**6 > 0.6  # the best has k errors or fewer in most samples
    assert bound(k / n) < 0.5 < bound(stats.binom.ppf(0.05, n, 0.5) / n)


# --------------------------------------------------------------------------------------------------- certificates

QUICK = PosteriorTraining(optimisation=Optimisation(optimizer="adam", lr=0.02, batch_size=50, epochs=1), price=0.3)
WAY = Recursion(shares=(0.5, 0.25, 0.25), draws=10, prior_std=0.05, training=QUICK)


def test_the_certificate_is_the_recursion_of_what_was_measured(gaussians):
    found = certify_recursive(gaussians.subject(400, 1), WAY, delta=0.06, comparisons=2)
    assert [step.n for step in found.steps] == [200, 100]
    assert all(nats > 0 for nats in found.divergences)
    again = found.bounds.bounds[0]
    for step in found.steps:
        again = excess_bound(step.tails, step.divergence, step.n, 0.03 * 0.9 / 3, 0.5) + 0.5 * again
    assert found.certificate.bound == pytest.approx(again, rel=1e-9)
    assert found.certificate.predictor is Predictor.RELATIVE
    assert sum(share.delta for share in found.certificate.ledger) == pytest.approx(0.06, abs=1e-15)
    assert {round(share.delta, 6) for share in found.certificate.ledger} == {0.027, 0.003, 0.03}
    wrong = round(found.holdout.empirical * 200)
    assert found.holdout.bound == clopper_pearson(wrong, 200, 0.03)


def test_a_recursion_that_learns_nothing_measures_no_excess_beyond_the_noise(gaussians):
    still = PosteriorTraining(optimisation=Optimisation(optimizer="sgd", lr=1e-12, epochs=1))
    way = Recursion(shares=(0.5, 0.5), gamma=1.0, draws=50, prior_std=1e-6, training=still)
    found = certify_recursive(gaussians.subject(400, 1), way)
    assert found.divergences[0] < 1e-6
    (step,) = found.steps
    assert 1 - step.tails[0] < 0.01  # both err on the same examples,
    assert step.tails[2] < 0.01  # so nobody is alone


def test_the_same_seed_gives_the_same_recursion(gaussians):
    subject = gaussians.subject(200, 1)
    a, b = (certify_recursive(subject, WAY) for _ in range(2))
    assert (a.bounds, a.steps) == (b.bounds, b.steps)


def test_portions_that_overlap_are_refused(gaussians):
    with pytest.raises(RefusedError, match="holds 100 of the 100 it was to leave out"):
        certify_recursive(gaussians.subject(200, 1, cheat=True), WAY)


def test_certify_knows_the_method(gaussians):
    found = certify(gaussians.subject(200, 1), methods=["recursive"], ways=[WAY, Recursion(draws=2)])
    assert [each.certificate.comparisons for each in found.recursive] == [2, 2]


@pytest.mark.slow
def test_the_certificate_misses_the_true_error_no_more_than_delta(gaussians):
    """Two Gaussians: the error of every drawn network is known in closed form."""
    runs, delta, missed = 200, 0.5, 0
    quick = PosteriorTraining(optimisation=Optimisation(optimizer="adam", lr=0.05, batch_size=100, epochs=1))
    way = Recursion(shares=(0.5, 0.5), draws=4, prior_std=0.05, training=quick)
    for seed in range(runs):
        found = certify_recursive(gaussians.subject(60, seed), way, delta=delta)
        last = found.posterior
        mean = {name: m.detach().double() for name, m in zip(last.names, last.means, strict=True)}
        std = {name: s.detach().double() for name, s in zip(last.names, last.stds(), strict=True)}
        rng = torch.Generator().manual_seed(seed)
        w = mean["weight"] + std["weight"] * torch.randn(500, 2, 2, generator=rng)
        b = mean["bias"] + std["bias"] * torch.randn(500, 2, generator=rng)
        risk = gaussians.error(w.numpy(), b.numpy())
        missed += found.certificate.bound < risk.mean() + 4 * risk.std() / math.sqrt(500)
    assert stats.binom.sf(missed - 1, runs, delta) > 1e-4


# --------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda _: excess_values(0.0), r"gamma must lie in \(0, 1\]"),
        (lambda _: excess_bound(TAILS, 1.0, 100, 0.05, 1.5), r"gamma must lie in \(0, 1\]"),
        (lambda _: excess_bound((0.1, 0.2, 0.3), 1.0, 100, 0.05, 0.5), "tails of ascending values descend"),
        (
            lambda _: excess_bound((0.1, 0.2, 0.3), 1.0, 100, 0.05, 0.5, form="kl"),
            "3 tails of ascending values descend",
        ),
        (lambda _: excess_bound(TAILS, -1.0, 100, 0.05, 0.5), "a divergence must be at least 0"),
        (lambda _: excess_bound(TAILS, -1.0, 100, 0.05, 0.5, form="unexpected-bernstein"), "a divergence must be"),
        (lambda _: split_kl((0.0, 1.0), (0.1, 0.05), 1.0, 100, 0.05), "1 tails of ascending values descend"),
        (lambda _: pac_bayes_recursive(0.1, 100, [], 1.0), "delta must lie strictly between"),
        (
            lambda _: pac_bayes_recursive(0.1, 100, [RecursiveStep(tails=TAILS, divergence=0.0, n=101)], 0.05),
            r"cannot grow; got sizes \[100, 101\]",
        ),
        (
            lambda g: certify_recursive(g.subject(100, 1), Recursion(shares=(1.0,))),
            "shares of two or more portions",
        ),
        (
            lambda g: certify_recursive(g.subject(100, 1), Recursion(shares=(0.5, 0.4))),
            "adding up to 1",
        ),
    ],
)
def test_what_is_no_bound_is_refused(gaussians, call, said):
    with pytest.raises(ValueError, match=said):
        call(gaussians)


def test_an_unknown_form_is_refused(gaussians):
    for call in (
        lambda: excess_bound(TAILS, 1.0, 100, 0.05, 0.5, form="best"),
        lambda: certify_recursive(gaussians.subject(100, 1), Recursion(form="best")),
    ):
        with pytest.raises((ValueError, TypeError), match="form"):
            call()
