"""Signal and noise: the decomposition by hand, the crossover, flips, and a real run that memorises."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from theorylens.core import Recipe, RefusedError, global_randomness_kept
from theorylens.dynamics import label_noise_course, label_noise_experiment
from theorylens.numerics.binomial import clopper_pearson_interval
from theorylens.training import Optimisation, fit

TRUE = torch.tensor([0, 1, 2, 0, 1, 2])
GIVEN = torch.tensor([0, 1, 2, 0, 2, 1])  # the last two are flipped


def test_each_share_counts_its_own_examples():
    predictions = torch.tensor([[0, 1, 0, 0, 1, 2], [0, 1, 2, 0, 0, 1], [0, 1, 2, 0, 2, 1]])
    found = label_noise_course(predictions, GIVEN, TRUE, steps=np.array([0.0, 10.0, 20.0]))
    assert found.clean_fit.tolist() == [0.75, 1.0, 1.0]
    assert found.recovered.tolist() == [1.0, 0.0, 0.0]
    assert found.memorised.tolist() == [0.0, 0.5, 1.0]
    assert (found.clean, found.flipped) == (4, 2)
    assert found.crossover == 10.0
    assert found.best == 0.0
    lines = found.curve().lines
    assert [line.name.render() for line in lines][1:] == ["wrong labels memorised", "true labels recovered"]
    low, high = clopper_pearson_interval(1, 2, 0.05)
    assert (lines[1].lower[1], lines[1].upper[1]) == pytest.approx((low, high))


def test_the_crossover_is_where_memorisation_leads_to_the_end():
    def course(pattern):
        rows = [GIVEN if wrong else TRUE for wrong in pattern]
        return label_noise_course(torch.stack(rows), GIVEN, TRUE).crossover

    assert course([0, 1, 0, 1, 1]) == 3.0
    assert course([0, 0, 1, 0]) is None
    assert course([1, 1]) == 0.0


@pytest.fixture(scope="module")
def digits_data():
    data = load_digits()
    return torch.tensor(data.data[:200] / 16, dtype=torch.float32), torch.tensor(data.target[:200])


def recipe_on(x, hidden=128, epochs=50):
    def train(*, seed, width=1.0, labels=None, callbacks=()):
        with global_randomness_kept(seed):
            net = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))
        how = Optimisation(lr=0.1, momentum=0.9, batch_size=25, epochs=epochs)
        return fit(net, (x, labels), "cross_entropy", how, seed=seed, callbacks=callbacks).subject()

    return Recipe(train)


def test_a_network_learns_the_signal_first_and_memorises_the_noise_later(digits_data):
    found = label_noise_experiment(recipe_on(digits_data[0]), digits_data, share=0.2, every=8)
    assert 25 <= found.flipped <= 55
    assert found.recovered.max() > 0.8
    assert found.memorised[-1] > 0.9
    assert found.clean_fit[-1] > 0.95
    assert found.best < found.crossover <= found.steps[-1]
    early = int(found.recovered.argmax())
    assert found.memorised[early] < 0.2  # signal without noise


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: label_noise_course(TRUE[None, :3], GIVEN, TRUE), r"needed are predictions \(t, n\)"),
        (lambda: label_noise_course(TRUE[None], GIVEN[:3], TRUE), r"\(1, 6\), \(3,\) and \(6,\)"),
        (lambda: label_noise_course(TRUE[None], TRUE, TRUE), "0 of 6 labels were flipped; both kinds are needed"),
        (lambda: label_noise_course(TRUE[None], GIVEN, TRUE, steps=np.zeros(2)), "a step for each of 1 records"),
        (
            lambda: label_noise_experiment(Recipe(lambda **_: None), (TRUE[:, None], TRUE), every=0),
            "every must be at least 1",
        ),
        (lambda: label_noise_experiment(Recipe(lambda **_: None), (TRUE[:, None], TRUE), share=0.9), "no callback"),
    ],
)
def test_refusals(call, said, unchecked_shapes):
    with pytest.raises((ValueError, RefusedError), match=said):
        call()
