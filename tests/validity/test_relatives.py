"""Certificates of relatives: each classical mistake is refused, or its value shows it."""

import math

import pytest
import torch
from torch import nn

from theorylens.core import Recipe, RefusedError, Subject, Task, UnsuitableError, global_randomness_kept
from theorylens.generalization import (
    Ensemble,
    GaussianPosterior,
    LearntPrior,
    PosteriorTraining,
    ProgressiveRun,
    Recursion,
    certify,
    certify_ensemble,
    certify_progressive,
    certify_recursive,
    certify_relative,
    chernoff_kl,
    clopper_pearson,
    kl_inverse,
    xi,
)
from theorylens.results import Predictor
from theorylens.training import Optimisation, fit

QUICK = PosteriorTraining(optimisation=Optimisation(optimizer="adam", lr=0.01, batch_size=40, epochs=2), price=0.0)
WAY = LearntPrior(share=0.5, draws=4, prior_std=0.05, training=QUICK)


def net():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 2)
    )  # fmt: skip


def pictures(n, seed=0):
    rng = torch.Generator().manual_seed(seed)
    y = torch.randint(2, (n,), generator=rng)
    return torch.randn(n, 1, 4, 4, generator=rng) + 0.5 * (2.0 * y - 1)[:, None, None, None], y


def subject(n=120, *, shown=False, statistics=None, task=None):
    """A small convolutional network with batch-norm; ``shown`` recipes train on everything they have."""
    x, y = pictures(n)
    how = {"loss": "cross_entropy"} if task is None else {"task": task}

    def train(*, seed, width=1.0, labels=None, rows=None, callbacks=()):
        chosen = list(range(n)) if rows is None or shown else list(rows)
        with global_randomness_kept(seed):
            made = net()
        fitted = fit(made, (x[chosen], y[chosen]), "cross_entropy", Optimisation(lr=0.1, epochs=1), seed=seed)
        if statistics == "all":  # the last pass over the data refreshes the running statistics: a look at every row
            fitted.model.train()(x)
            fitted.model.eval()
            return Subject(model=fitted.model, **how, train=(x, y))
        return Subject(model=fitted.model, **how, train=(x[chosen], y[chosen]))

    with global_randomness_kept(0):
        return Subject(model=net().eval(), **how, train=(x, y), recipe=Recipe(train))


EVERY = [
    (certify_relative, WAY),
    (certify_recursive, Recursion(shares=(0.5, 0.5), draws=2, training=QUICK)),
    (certify_progressive, ProgressiveRun(shares=(0.5, 0.25, 0.25))),
    (certify_ensemble, Ensemble(networks=2, share=0.5)),
]


@pytest.mark.parametrize(("certify_it", "way"), EVERY)
def test_a_prior_made_from_the_bound_data_is_refused(certify_it, way):
    with pytest.raises(RefusedError, match="it was to leave out; a bound on them would not be valid"):
        certify_it(subject(shown=True), way)


@pytest.mark.parametrize(("certify_it", "way"), EVERY)
def test_batch_norm_statistics_from_the_bound_data_are_refused_where_the_recipe_says_what_it_read(certify_it, way):
    with pytest.raises(RefusedError, match="it was to leave out"):
        certify_it(subject(statistics="all"), way)


def test_a_posterior_trained_on_the_bound_data_keeps_the_batch_norm_statistics_of_its_prior():
    found = certify_relative(subject(), WAY)
    assert found.divergence > 0  # it was trained, on all rows
    prior, inside = found.subject.net[1], found.posterior.net[1]
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(getattr(prior, name), getattr(inside, name))
    x, _ = pictures(120)
    fresh = net().train()
    fresh.load_state_dict(found.subject.net.state_dict())
    fresh(x)
    assert not torch.equal(fresh[1].running_mean, prior.running_mean)  # the statistics of all rows are others


def test_statistics_of_the_batch_at_hand_are_refused():
    made = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False), nn.Flatten(), nn.Linear(8, 2)
    )
    with pytest.raises(ValueError, match="the answer for one example depends on others"):
        GaussianPosterior(made, 0.1, ["0.weight"], by_example=False)


def test_convolutions_in_the_posterior_share_a_draw_and_are_counted_so():
    found = certify_relative(subject(), LearntPrior(share=0.5, draws=6, weights="all", training=QUICK))
    n = found.gibbs.n
    assert n == 60
    assert not found.by_example
    assert found.random_parameters == sum(p.numel() for p in net().parameters())
    assert found.risk.terms == 6 * math.ceil(n / 10)  # ten examples share a draw: not n terms per draw
    spent = sorted(share.delta for share in found.gibbs.ledger)
    upper = kl_inverse(found.risk.mean, math.log(1 / spent[0]) / (6 * 6))
    expected = kl_inverse(upper, (found.divergence + math.log(xi(n) / spent[1])) / n)
    assert found.gibbs.bound == pytest.approx(expected, rel=1e-6)


def test_the_n_of_a_certificate_is_that_of_the_rows_scored():
    """Not of the file: a doubled n would show in the value."""
    found = certify_relative(subject(), LearntPrior(share=0.5, draws=4, training=None))
    wrong = round(60 * found.holdout.empirical)
    assert (found.gibbs.n, found.holdout.n) == (60, 60)
    assert found.holdout.bound == clopper_pearson(wrong, 60, 0.05) != clopper_pearson(2 * wrong, 120, 0.05)
    upper = found.risk.upper(0.005)
    assert found.gibbs.bound == pytest.approx(chernoff_kl(upper, 60, 0.045), rel=1e-9)


def test_units_and_copies_on_both_sides_of_a_division_are_one():
    """Overlap cannot be made by hand: rows with one input stay together, so none is learnt from and bounded on."""
    x, y = pictures(60)
    double = (torch.cat([x, x]), torch.cat([y, y]))
    seen = []

    def train(*, seed, width=1.0, labels=None, rows=None, callbacks=()):
        seen.append(set(rows))
        chosen = list(rows)
        return Subject(model=net().eval(), loss="cross_entropy", train=(double[0][chosen], double[1][chosen]))

    whole = Subject(model=net().eval(), loss="cross_entropy", train=double, recipe=Recipe(train))
    found = certify_relative(whole, LearntPrior(share=0.5, draws=2, training=None))
    assert found.holdout.n == 30  # distinct inputs, not 60 rows
    assert all((row + 60) % 120 in seen[0] for row in seen[0])


@pytest.mark.parametrize(("certify_it", "way"), EVERY)
def test_a_certificate_for_the_cross_entropy_cannot_be_read_as_one_for_errors(certify_it, way):
    def bounded(outputs, targets):
        return nn.functional.cross_entropy(outputs, targets, reduction="none").clamp(max=4.0) / 4.0

    task = Task(loss="cross_entropy", error=bounded, error_range=(0.0, 1.0), kind="classification")
    with pytest.raises(UnsuitableError, match="about the 0-1 error"):
        certify_it(subject(task=task), way)


def test_a_certificate_from_test_rows_names_its_own_loss():
    def bounded(outputs, targets):
        return nn.functional.cross_entropy(outputs, targets, reduction="none").clamp(max=4.0) / 4.0

    task = Task(loss="cross_entropy", error=bounded, error_range=(0.0, 1.0), kind="classification")
    made = Subject(model=net().eval(), task=task, train=pictures(40), test=pictures(50, 1))
    found = certify(made).headline
    assert found is not None
    assert "0-1" not in found.loss
    assert "bounded" in found.loss


def test_the_best_of_many_ways_is_paid_for():
    ways = [LearntPrior(share=0.5, draws=1, training=None, seed=seed) for seed in range(5)]
    found = certify(subject(), methods=["pac-bayes"], ways=ways, ways_known=50)
    for relative in found.relatives:
        wrong = round(relative.holdout.empirical * relative.holdout.n)
        assert relative.holdout.bound == clopper_pearson(wrong, relative.holdout.n, 0.05 / 50)


def test_a_vote_a_run_and_a_drawn_network_are_never_called_this_model():
    found = certify(
        subject(), methods=["pac-bayes", "recursive", "progressive", "ensemble"], ways=[w for _, w in EVERY]
    )
    assert found.headline is None
    made = [*found.relatives, *found.recursive, *found.progressive, *found.votes]
    certificates = [c for each in made for c in vars(each).values() if hasattr(c, "ledger")]
    assert len(certificates) == 8
    assert all(c.predictor is not Predictor.THIS_MODEL for c in certificates)
    assert all(c.comparisons == 4 for c in certificates)
