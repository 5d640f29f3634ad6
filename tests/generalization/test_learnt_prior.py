"""Which rows the prior may see and which carry the bound; what a relative is certified to do."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from theorylens.core import Recipe, RefusedError, Split, Subject, UnsuitableError
from theorylens.generalization import (
    GaussianPosterior,
    LearntPrior,
    PosteriorTraining,
    certify,
    certify_relative,
    clopper_pearson,
    kl_inverse,
    pac_bayes_kl,
)
from theorylens.generalization._learnt_prior import parts
from theorylens.results import Predictor
from theorylens.training import Optimisation

PLAIN = LearntPrior(share=0.5, training=None, draws=10, prior_std=0.1)


def rows_of(n, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, generator=rng), torch.randint(0, 2, (n,), generator=rng)


def test_every_unit_is_on_one_side():
    x, y = rows_of(60)
    units = [i // 3 for i in range(60)]
    split = Split((x, y), units=units)
    found = parts(split, np.arange(60), 0.5)
    seen, kept = {units[i] for i in found.prior}, [units[i] for i in found.bound]
    assert len(seen) == 10
    assert len(kept) == len(set(kept)) == 10  # one row per unit
    assert not seen & set(kept)


def test_rows_with_the_same_input_stay_together():
    x, y = rows_of(40)
    x[20:] = x[:20]
    y[30:] = 1 - y[10:20]  # the same input with another label is a copy too
    found = parts(Split((x, y)), np.arange(40), 0.5)
    assert {i % 20 for i in found.prior} & {i % 20 for i in found.bound} == set()
    assert len(found.bound) == 10


def test_units_joined_by_a_copy_are_one():
    x, y = rows_of(12)
    x[11] = x[0]
    split = Split((x, y), units=[0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 7, 8])
    found = parts(split, np.arange(12), 0.5)
    assert (0 in found.prior) == (11 in found.prior)
    assert len(found.bound) == 4  # of eight groups


def test_the_order_of_the_file_decides_nothing():
    x, y = rows_of(50)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(9))
    a = parts(Split((x, y)), np.arange(50), 0.6)
    b = parts(Split((x[order], y[order])), np.arange(50), 0.6)
    assert {int(order[i]) for i in b.prior} == set(a.prior)
    assert {int(order[i]) for i in b.bound} == set(a.bound)


def test_another_seed_divides_otherwise():
    split = Split(rows_of(50))
    assert parts(split, np.arange(50), 0.5, seed=0) != parts(split, np.arange(50), 0.5, seed=1)


def test_rows_without_a_target_carry_no_bound():
    split = Split(rows_of(30))
    assert set(parts(split, np.arange(20), 0.5).bound) <= set(range(20))


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_outside_its_range_is_refused(share):
    with pytest.raises(ValueError, match="the share of the prior must lie strictly between 0 and 1"):
        parts(Split(rows_of(30)), np.arange(30), share)


def test_too_few_units_are_refused():
    split = Split(rows_of(30), units=[0] * 15 + [1] * 15)
    with pytest.raises(ValueError, match="of 2 independent units leave fewer than two"):
        parts(split, np.arange(30), 0.5)


# ------------------------------------------------------------------------------------------------- certificates


def blobs(n, seed, flipped=0.0):
    """Two Gaussians at +-1 on the first axis."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 2, (n,), generator=rng)
    x = torch.randn(n, 2, generator=rng, dtype=torch.float64)
    x[:, 0] += 2.0 * y - 1.0
    return x, torch.where(torch.rand(n, generator=rng) < flipped, 1 - y, y)


def by_means(x, y):
    """The linear network that compares distances to the two class means: training without a loop."""
    net = nn.Linear(2, 2).double()
    means = torch.stack([x[y == c].mean(0) for c in (0, 1)])
    with torch.no_grad():
        net.weight.copy_(means)
        net.bias.copy_(-(means**2).sum(1) / 2)
    return net


def subject_of(x, y, *, cheat=False):
    def train(*, seed, width=1.0, labels=None, rows=None, callbacks=()):
        chosen = slice(None) if rows is None or cheat else list(rows)
        return Subject(model=by_means(x[chosen], y[chosen]), loss="cross_entropy", train=(x[chosen], y[chosen]))

    return Subject(model=by_means(x, y), loss="cross_entropy", train=(x, y), recipe=Recipe(train))


def error_of(w, b):
    """Error on the two Gaussians of the rules that answer 1 where w x + b > 0, in closed form; w (k, 2), b (k,)."""
    size = np.hypot(w[:, 0], w[:, 1])
    return (norm.cdf((b - w[:, 0]) / size) + norm.cdf((-b - w[:, 0]) / size)) / 2


def true_errors(net, std, draws=2000):
    """Of the network, and of networks with weights drawn around it."""
    w = (net.weight[1] - net.weight[0]).detach().numpy()[None]
    b = (net.bias[1] - net.bias[0]).detach().numpy()[None]
    rng = np.random.default_rng(0)
    spread = std * math.sqrt(2)  # of a difference of two weights
    random = error_of(w + spread * rng.standard_normal((draws, 2)), b + spread * rng.standard_normal(draws))
    return float(error_of(w, b)[0]), float(random.mean()), float(random.std() / math.sqrt(draws))


def test_the_two_certificates_are_what_the_theorems_give():
    found = certify_relative(subject_of(*blobs(400, 1)), PLAIN, delta=0.05)
    n, wrong = found.holdout.n, round(found.holdout.empirical * found.holdout.n)
    assert n == 200
    assert found.holdout.bound == clopper_pearson(wrong, n, 0.05)
    upper = kl_inverse(found.risk.mean, math.log(1 / 0.005) / (200 * 10))
    assert found.gibbs.bound == pytest.approx(kl_inverse(upper, math.log(1 / 0.045) / n), rel=1e-9)
    assert "fixed before" in found.gibbs.theorem
    assert found.divergence == 0.0
    assert found.gibbs.predictor is found.holdout.predictor is Predictor.RELATIVE
    assert {round(s.delta, 12) for s in found.gibbs.ledger} == {0.045, 0.005}


def test_every_way_tried_is_paid_for():
    subject = subject_of(*blobs(400, 1))
    one, many = (certify_relative(subject, PLAIN, delta=0.05, comparisons=k) for k in (1, 8))
    wrong = round(one.holdout.empirical * one.holdout.n)
    assert many.holdout.bound == clopper_pearson(wrong, 200, 0.05 / 8)
    assert many.gibbs.bound > one.gibbs.bound
    assert sum(s.delta for s in many.gibbs.ledger) == pytest.approx(0.05, abs=1e-15)
    assert many.gibbs.comparisons == 8


def test_certify_pays_for_ways_it_was_told_of():
    subject, ways = subject_of(*blobs(400, 1)), [PLAIN, LearntPrior(share=0.6, training=None, draws=5)]
    found = certify(subject, methods=["pac-bayes"], ways=ways)
    assert [r.gibbs.comparisons for r in found.relatives] == [2, 2]
    assert certify(subject, methods=["pac-bayes"], ways=ways, ways_known=5).relatives[0].gibbs.comparisons == 5
    assert found.headline is None


def test_a_trained_posterior_pays_for_leaving_its_prior():
    how = PosteriorTraining(optimisation=Optimisation(optimizer="adam", lr=0.02, batch_size=50, epochs=5), price=0.0)
    way = LearntPrior(share=0.5, draws=20, prior_std=0.05, training=how)
    found = certify_relative(subject_of(*blobs(400, 1)), way)
    assert found.divergence > 1
    upper = found.risk.upper(0.005)
    assert found.gibbs.bound == pytest.approx(pac_bayes_kl(upper, found.divergence, 200, 0.045), rel=1e-9)


def test_the_price_of_a_divergence_keeps_the_posterior_near():
    subject = subject_of(*blobs(400, 1))

    def moved(price):
        how = PosteriorTraining(
            optimisation=Optimisation(optimizer="adam", lr=0.02, batch_size=50, epochs=5), price=price
        )
        return certify_relative(subject, LearntPrior(share=0.5, draws=2, prior_std=0.05, training=how)).divergence

    assert moved(1.0) < 0.5 * moved(0.0)


def test_the_same_seed_gives_the_same_certificate():
    subject = subject_of(*blobs(200, 1))
    a, b = (certify_relative(subject, PLAIN) for _ in range(2))
    assert (a.gibbs.bound, a.risk) == (b.gibbs.bound, b.risk)


def test_the_subject_and_the_random_state_are_left_alone():
    subject = subject_of(*blobs(200, 1))
    before, state = copy.deepcopy(subject.net.state_dict()), torch.random.get_rng_state()
    certify_relative(subject, PLAIN)
    assert all(torch.equal(before[k], v) for k, v in subject.net.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.slow
def test_both_bounds_miss_the_true_error_no_more_than_delta():
    """4,000 data sets; the prior network's error is known in closed form, that of random networks by many draws."""
    from scipy.stats import binom

    runs, delta, missed = 4000, 0.2, [0, 0]
    for seed in range(runs):
        found = certify_relative(subject_of(*blobs(60, seed)), PLAIN, delta=delta)
        truth, random, spread = true_errors(found.subject.net, PLAIN.prior_std)
        missed[0] += found.holdout.bound < truth
        missed[1] += found.gibbs.bound < random + 4 * spread  # counts more than the misses
    assert missed[0] > 0
    assert all(binom.sf(m - 1, runs, delta) > 1e-4 for m in missed)


def test_the_known_errors_are_right():
    net = by_means(*blobs(300, 5))
    x, y = blobs(200_000, 6)
    fixed, random, _ = true_errors(net, 0.1)
    noise = 4 * math.sqrt(0.16 * 0.84 / 200_000)
    assert fixed == pytest.approx(float((net(x).argmax(1) != y).double().mean()), abs=noise)
    posterior = GaussianPosterior(net, 0.1, ["weight", "bias"], by_example=True)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        assert random == pytest.approx(float((posterior(x).argmax(1) != y).double().mean()), abs=2 * noise)


# ------------------------------------------------------------------------------------------------------ refusals


def test_a_recipe_that_looks_at_the_bound_rows_is_refused():
    with pytest.raises(RefusedError, match=r"its training split holds 100 of the 100 it was to leave out"):
        certify_relative(subject_of(*blobs(200, 1), cheat=True), PLAIN)


def test_a_recipe_that_cannot_leave_rows_out_is_refused():
    x, y = blobs(100, 1)

    def train(*, seed, width=1.0, labels=None, callbacks=()):
        return Subject(model=by_means(x, y), loss="cross_entropy", train=(x, y))

    subject = Subject(model=by_means(x, y), loss="cross_entropy", train=(x, y), recipe=Recipe(train))
    with pytest.raises(RefusedError, match="its function has no argument rows"):
        certify_relative(subject, PLAIN)


def test_without_a_recipe_there_is_no_relative():
    x, y = blobs(100, 1)
    subject = Subject(model=by_means(x, y), loss="cross_entropy", train=(x, y))
    with pytest.raises(UnsuitableError, match="takes a recipe"):
        certify_relative(subject, PLAIN)
    assert "takes a recipe" in certify(subject, methods=["pac-bayes"]).left_out["pac-bayes"].render()


def test_a_regression_has_no_gibbs_certificate():
    x = torch.randn(20, 2)
    net = nn.Linear(2, 1)
    recipe = Recipe(lambda **_: Subject(model=net, loss="mse", train=(x, x[:, :1])))
    subject = Subject(model=net, loss="mse", train=(x, x[:, :1]), recipe=recipe)
    with pytest.raises(UnsuitableError, match="no error to bound"):
        certify_relative(subject, PLAIN)


@pytest.mark.parametrize("delta", [0.0, 1.0])
def test_delta_is_checked(delta):
    with pytest.raises(ValueError, match=r"delta in \(0, 1\)"):
        certify_relative(subject_of(*blobs(100, 1)), PLAIN, delta=delta)


def test_unknown_methods_are_refused():
    with pytest.raises(ValueError, match=r"unknown methods \['luck'\]; known are test-set, training-bits, pac-bayes"):
        certify(subject_of(*blobs(100, 1)), methods=["luck"])
    with pytest.raises(ValueError, match="at least one method"):
        certify(subject_of(*blobs(100, 1)), methods=[])


def test_the_headline_is_the_test_set_bound_of_this_network():
    x, y = blobs(300, 1)
    subject = subject_of(x, y)
    subject = Subject(
        model=subject.net, loss="cross_entropy", train=(x, y), test=blobs(100, 2), recipe=subject.recipe
    )  # fmt: skip
    found = certify(subject, methods=["training-bits", "test-set"], comparisons=3)
    assert found.headline is not None
    assert (found.headline.split, found.headline.comparisons) == ("test", 3)
    assert found.headline.predictor is Predictor.THIS_MODEL
    assert [r.code for r in found.this_model] == ["TL101", "TL103"]
