"""Networks memorise random labels: the experiment on digits, and what it refuses."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from theorylens.core import Recipe, global_randomness_kept
from theorylens.generalization import RandomLabelStudy, random_label_study
from theorylens.generalization._random_labels import random_labels
from theorylens.training import Optimisation, SweepError, fit


def recipe(train, test, width=64, epochs=150, stop=0.02):
    def run(*, seed, width=width, labels=None, callbacks=()):
        with global_randomness_kept(seed):
            net = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
        given = train[1] if labels is None else labels
        how = Optimisation(optimizer="adam", lr=1e-2, batch_size=50, epochs=epochs, stop_at=stop)
        return fit(net, (train[0], given), "cross_entropy", how, seed=seed).subject(test=test)

    return Recipe(lambda *, seed, width=1.0, labels=None, callbacks=(): run(seed=seed, labels=labels))


def test_labels_are_drawn_from_all_classes_and_growing_shares_keep_what_was_drawn():
    y = torch.arange(20_000) % 10
    all_new = random_labels(y, 1.0, 10, 3)
    assert float((all_new != y).double().mean()) == pytest.approx(0.9, abs=0.01)
    joint = torch.bincount(10 * y + all_new, minlength=100).double() / len(y)
    assert float((joint - 0.01).abs().max()) < 0.0035  # five standard errors: nothing is left of the true label
    half = random_labels(y, 0.5, 10, 3)
    assert (half[half != y] == all_new[half != y]).all()
    assert (random_labels(y, 0.0, 10, 3) == y).all()
    assert (random_labels(y, 0.5, 10, 4) != half).any()


@pytest.fixture(scope="module")
def study(digits):
    x, y = digits
    train, test = (x[:150], y[:150]), (x[150:650], y[150:650])
    return random_label_study(
        recipe(train, test), y[:150], shares=(0.0, 1.0), seeds=(0, 1), jobs=1, names=("length", "distance", "path_norm")
    )


def test_a_network_that_generalises_also_fits_labels_drawn_at_random(study):
    assert (study.train_error == 0).all()
    assert (study.test_error[0] < 0.25).all()
    assert np.abs(study.test_error[1] - 0.9).max() < 0.06  # chance
    assert study.chance == pytest.approx(0.9, abs=0.03)
    assert study.memorises
    assert (study.steps[1] > study.steps[0]).all()
    moved = study.change("distance")
    assert moved.lower > 0 or moved.value > 0.2 * study.measures["distance"][0].mean()
    assert study.reading.render().startswith("Yes: random labels are fitted to a training error of 0.0\xa0%")
    curve, table = study.curve(), study.table()
    assert [line.y[1] for line in curve.lines] == pytest.approx([study.test_error[1].mean(), 0.0])
    assert [row[0].render() for row in table.rows][:2] == ["steps to no training error", "length of the weights"]
    assert table.rows[0][1] == pytest.approx(study.steps[0].mean())


@pytest.mark.slow
def test_test_error_grows_with_the_share_while_training_error_stays_at_zero(digits):
    x, y = digits
    train, test = (x[:400], y[:400]), (x[400:1400], y[400:1400])
    found = random_label_study(recipe(train, test, width=256, epochs=200, stop=0.005), y[:400], seeds=(0, 1, 2), jobs=1)
    assert (found.train_error == 0).all()
    assert (np.diff(found.test_error.mean(1)) > 0).all()
    assert np.abs(found.test_error[-1] - 0.9).max() < 0.05
    for name in ("length", "distance", "path_norm", "spectral_complexity_margin"):
        assert found.change(name).lower > 0, name
    assert found.change("adaptive_flatness").lower > 0


def test_a_network_that_is_too_small_does_not_and_the_reading_says_what_that_means(digits):
    x, y = digits
    train, test = (x[:300], y[:300]), (x[300:400], y[300:400])
    found = random_label_study(
        recipe(train, test, width=2, epochs=5), y[:300], shares=(0.5, 1.0), seeds=(0, 1), jobs=1, names=("length",)
    )
    assert not found.memorises
    assert found.reading.render().startswith("No: at the largest share of random labels (100\xa0%)")
    assert np.isnan(found.steps).all()
    assert found.table().rows[0][1:] == ("-", "-")


def test_a_recipe_that_ignores_its_labels_is_found_out(digits):
    x, y = digits
    train, test = (x[:50], y[:50]), (x[50:90], y[50:90])
    deaf = Recipe(lambda *, seed, width=1.0, labels=None, callbacks=(): recipe(train, test, epochs=1)(seed=seed))
    with pytest.raises(SweepError, match="trained on other labels than it was given"):
        random_label_study(deaf, y[:50], shares=(0.0, 1.0), seeds=(0, 1), jobs=1)
    blind = recipe(train, None, epochs=1)
    with pytest.raises(SweepError, match="has no test split"):
        random_label_study(blind, y[:50], shares=(0.0, 1.0), seeds=(0, 1), jobs=1)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"shares": (0.5, 0.2)}, "increase within 0 and 1"),
        ({"shares": (0.5, 1.2)}, "increase within 0 and 1"),
        ({"shares": (0.5,)}, "at least 2 numbers"),
        ({"seeds": (1, 1)}, "at least 2 different ones"),
        ({"labels": [-1, 0]}, "labels must be classes from 0"),
        ({"labels": [0, 0]}, "needed are 2 classes"),
        ({"labels": [0, 5], "classes": 3}, "labels go up to 5"),
    ],
)
def test_refusals(given, said):
    with pytest.raises(ValueError, match=said):
        random_label_study(Recipe(lambda **_: None), **{"labels": [0, 1], **given})


def test_a_measure_that_is_not_defined_says_so():
    plain = np.zeros((2, 2))
    study = RandomLabelStudy(
        shares=np.array([0.0, 1.0]), train_error=plain, test_error=plain, steps=plain, chance=0.9,
        measures={"distance": np.array([[1.0, 2.0], [math.nan, 3.0]])},
    )  # fmt: skip
    assert study.change("distance").trouble is not None
