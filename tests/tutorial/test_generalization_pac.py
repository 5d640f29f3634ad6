"""Section 1.1: each test is named after a defect of the tutorial that this library does not have."""

import math
import os

import numpy as np
import pytest
import torch
from sklearn.linear_model import Perceptron

from theorylens.generalization import (
    pac_certificate,
    pac_learning_curve,
    sample_complexity,
    sample_sizes,
    vc_bound,
    vc_gap,
)


def test_realizable_and_agnostic_are_never_mixed():
    asked = {"epsilon": 0.1, "delta": 0.05, "class_size": 1000}
    assert sample_complexity(**asked) == 100  # S1.1-1, said to be realizable
    assert sample_complexity(**asked, setting="agnostic") == 2120
    assert {s.setting for s in sample_sizes(**asked)} == {"realizable", "uniform", "agnostic"}
    realizable = pac_certificate(0.0, 500, 0.05, class_size=1000, setting="realizable")
    agnostic = pac_certificate(0.0, 500, 0.05, class_size=1000)
    assert realizable.theorem != agnostic.theorem
    assert realizable.risk < agnostic.risk


@pytest.mark.parametrize(("epsilon", "delta"), [(-1.0, 0.05), (20.0, 0.05), (0.0, 0.05), (0.1, 2.0), (0.1, 0.0)])
def test_numbers_outside_their_range_give_no_sample_size(epsilon, delta):
    with pytest.raises(ValueError, match="must lie strictly between 0 and 1"):
        sample_complexity(epsilon, delta, class_size=1000)


def test_logarithm_of_the_vc_theorem_has_base_two():
    for d in (5, 10, 50, 100):
        natural = (8 * d * math.log(13 / 0.1) + 4 * math.log(2 / 0.05)) / 0.1
        found = [sample_complexity(0.1, 0.05, vc_dimension=d, theorem=t) for t in ("blumer", "mitchell")]
        assert natural < min(found)
        assert found[1] == math.ceil(natural / math.log(2))


def test_fewer_examples_than_dimensions_is_vacuous_and_not_nan():
    found = vc_bound(0.1, 10, 100, 0.05)
    assert (found.bound, found.vacuous) == (1.0, True)
    assert vc_bound(0.1, 1000, 500, 0.05).bound <= 1


def test_the_gap_is_that_of_a_named_theorem():
    """The tutorial's constant (S1.1-2) follows from none; it is below one theorem and above another."""
    for d, value in ((10, 0.3477), (50, 0.6390), (100, 0.8181)):
        tutorial = math.sqrt((2 * d * math.log(math.e * 1000 / d) + 2 * math.log(4 / 0.05)) / 1000)
        assert tutorial == pytest.approx(value, abs=5e-5)
        assert vc_gap(1000, d, 0.05, "vapnik") < tutorial < vc_gap(1000, d, 0.05, "mohri")


def test_pac_is_not_a_small_gap():
    """Agnostic learning to epsilon needs half of it as the gap; the realizable kind is about the error itself."""
    found = pac_certificate(0.0, 3000, 0.05, vc_dimension=5)
    assert found.gap < 0.15 < found.excess
    assert not found.satisfies(0.15)
    assert type(found.satisfies(0.15)) is bool
    assert not pac_certificate(0.4, 10, 0.05, vc_dimension=100).satisfies(0.5)  # where the tutorial met NaN
    with pytest.raises(ValueError, match="without training errors"):
        pac_certificate(0.3, 3000, 0.05, vc_dimension=5, setting="realizable")


def test_the_picture_shows_a_learner_and_writes_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1500, 2))
    y = x @ [1.0, -2.0] > 0.3
    found = pac_learning_curve(
        Perceptron, (x[:1000], y[:1000]), (x[1000:], y[1000:]), sizes=(100, 1000), vc_dimension=3,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert (found.test_upper < found.bound).all()
    assert found.payload.lines[0].y.tolist() == found.test_error.tolist()
    assert os.listdir() == []
