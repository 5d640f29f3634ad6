"""Sample sizes against the contract's values, their inverses, and the exact experiment with a threshold."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theorylens.generalization import (
    attainable_delta,
    attainable_error,
    ehrenfeucht_lower_bound,
    sample_complexity,
    sample_size_table,
    sample_sizes,
    vc_gap,
)
from theorylens.generalization._asked import whole
from theorylens.generalization._sample_complexity import _chosen
from theorylens.generalization._sample_theorems import SAMPLE_THEOREMS, SETTINGS, smallest_sample

SIZES = {"nats": {"log_class_size": 7.0}, "vc": {"vc_dimension": 4}}


def test_finite_classes(golden):
    asked = {"epsilon": 0.1, "delta": 0.05, "class_size": 1000}
    assert sample_complexity(**asked) == golden("G1.1-1")
    assert sample_complexity(**asked, setting="uniform") == golden("G1.1-2")
    assert sample_complexity(**asked, setting="agnostic") == golden("G1.1-3")


@pytest.mark.parametrize(
    ("key", "d"), [("G1.1-4.5", 5), ("G1.1-4.10", 10), ("G1.1-4.50", 50), ("G1.1-4.100", 100)]
)  # fmt: skip
def test_realizable_vc_classes_take_logarithms_to_base_two(golden, key, d):
    found = [sample_complexity(0.1, 0.05, vc_dimension=d, theorem=name) for name in ("blumer", "mitchell")]
    assert found == golden(key)


def test_smallest_sample_by_gap(golden):
    found = [smallest_sample(lambda m, v=v: vc_gap(m, 10, 0.05, v), 0.1) for v in ("mohri", "vapnik", "bousquet")]
    assert found == golden("G1.1-6")
    for m, variant in zip(found, ("mohri", "vapnik", "bousquet"), strict=True):
        assert vc_gap(m, 10, 0.05, variant) <= 0.1 < vc_gap(m - 1, 10, 0.05, variant)
    assert sample_complexity(0.1, 0.05, vc_dimension=10, setting="uniform") == golden("G1.1-6")[1]


def test_what_no_learner_does_with_less(golden):
    assert ehrenfeucht_lower_bound(100, 0.1, 0.01) == pytest.approx(golden("G1.1-10"), rel=1e-9)
    assert ehrenfeucht_lower_bound(10_000, 0.1, 0.01) == pytest.approx(9999 / 3.2)
    for epsilon, delta in ((0.13, 0.01), (0.1, 0.011)):
        with pytest.raises(ValueError, match="proved for epsilon <= 1/8 and delta <= 1/100"):
            ehrenfeucht_lower_bound(100, epsilon, delta)
        assert "ehrenfeucht" not in {s.key for s in sample_sizes(epsilon, delta, vc_dimension=100)}
    assert "ehrenfeucht" in {s.key for s in sample_sizes(0.1, 0.01, vc_dimension=100)}


def test_half_of_a_shattered_set_is_not_enough():
    """The bound by counting: on m of d uniform points a learner errs on average at least (d - m)/2d."""
    found = {s.key: s for s in sample_sizes(0.05, 0.05, vc_dimension=100)}
    assert found["half-seen"].m == math.ceil(100 * (1 - 2 * (0.05 * 0.95 + 0.05))) == 81


@given(st.floats(0.001, 0.12), st.floats(1e-6, 0.2), st.integers(1, 500))
def test_needed_is_never_more_than_enough(epsilon, delta, d):
    found = [t for t in SAMPLE_THEOREMS.values() if (t.measure, t.setting) == ("vc", "realizable")]
    asked = {t.key: t.required(d, epsilon, delta) for t in found if t.holds(d, epsilon, delta)}
    needed = [asked[t.key] for t in found if t.kind == "necessary" and t.key in asked]
    assert max(needed) <= min(asked[t.key] for t in found if t.kind == "sufficient")


def test_sizes_of_a_class_in_three_units():
    nats = math.log(4096)
    for setting in ("realizable", "uniform", "agnostic"):
        one = sample_complexity(0.03, 0.01, class_size=4096, setting=setting)
        assert one == sample_complexity(0.03, 0.01, log_class_size=nats, setting=setting)
        assert one == sample_complexity(0.03, 0.01, bits=12, setting=setting)
    assert sample_complexity(0.1, 0.05, class_size=10**400) == math.ceil((400 * math.log(10) + math.log(20)) / 0.1)


def test_the_exact_tail_is_what_the_experiment_needs():
    """|H| classifiers with error just above epsilon fit m examples with probability at most |H| (1 - epsilon)^m."""
    m = sample_complexity(0.1, 0.05, class_size=1000, theorem="occam-tail")
    assert 1000 * 0.9**m <= 0.05 < 1000 * 0.9 ** (m - 1)


@pytest.mark.parametrize("key", [k for k, t in SAMPLE_THEOREMS.items() if t.kind == "sufficient"])
def test_each_theorem_can_be_solved_for_each_of_its_numbers(key):
    theorem = SAMPLE_THEOREMS[key]
    size = SIZES[theorem.measure]
    chosen = {**size, "theorem": key, "setting": theorem.setting}
    m = sample_complexity(0.1, 0.05, **chosen)
    epsilon = attainable_error(m, 0.05, **chosen)
    assert 0.09 < epsilon <= 0.1 * (1 + 1e-11)
    assert sample_complexity(epsilon, 0.05, **chosen) <= m < sample_complexity(epsilon * (1 - 1e-9), 0.05, **chosen) + 1
    if key != "one-inclusion":  # an average has no confidence
        delta = attainable_delta(m, 0.1, **chosen)
        assert delta <= 0.05 * (1 + 1e-11)
        assert sample_complexity(0.1, delta, **chosen) <= m < sample_complexity(0.1, delta * 0.9, **chosen) + 1
    assert attainable_error(1, 0.05, **chosen) >= 0.5


def test_all_theorems_side_by_side():
    found = sample_sizes(0.1, 0.005, vc_dimension=10)
    assert {s.key for s in found} == {k for k, t in SAMPLE_THEOREMS.items() if t.measure == "vc"}
    table = sample_size_table(found)
    assert [row[2] for row in table.rows] == [s.m for s in found]
    order = list(SETTINGS)
    assert [s.setting for s in found] == sorted((s.setting for s in found), key=order.index)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"epsilon": -1.0, "class_size": 10}, "epsilon must lie strictly between 0 and 1, got -1"),
        ({"epsilon": 0.0, "class_size": 10}, "epsilon must lie strictly between 0 and 1, got 0"),
        ({"epsilon": 20.0, "vc_dimension": 10}, "epsilon must lie strictly between 0 and 1, got 20"),
        ({"delta": 2.0, "class_size": 10}, "delta must lie strictly between 0 and 1, got 2"),
        ({"class_size": 0}, "class_size must be at least 1, got 0"),
        ({"log_class_size": -1.0}, "log_class_size must be at least 0 and finite, got -1"),
        ({"bits": float("inf")}, "bits must be at least 0 and finite, got inf"),
        ({"vc_dimension": 0}, "vc_dimension must be at least 1, got 0"),
        ({}, "give exactly one of class_size, log_class_size, bits, vc_dimension; got none"),
        ({"class_size": 3, "bits": 2}, "got class_size, bits"),
        ({"class_size": 3, "theorem": "blumer"}, "unknown theorem 'blumer' for this class; known are occam-tail"),
        ({"class_size": 3, "setting": "expected"}, "no theorem of the setting 'expected' uses the size of a finite"),
        ({"vc_dimension": 3, "epsilon": 1e-160}, "more than 2\\*\\*500 examples would be needed"),
        ({"vc_dimension": 3, "epsilon": 1e-80, "setting": "uniform"}, "more than 2\\*\\*500 examples would be needed"),
    ],
)
def test_what_is_refused(asked, said):
    with pytest.raises(ValueError, match=said):
        sample_complexity(**{"epsilon": 0.1, "delta": 0.05, **asked})


def test_an_unknown_setting_is_refused():
    # One step inside: the run-time type check of this test suite would object to the name first.
    with pytest.raises(ValueError, match="unknown setting 'pac'; known are realizable, uniform, agnostic, expected"):
        _chosen("nats", "pac", None)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (10.5, "m must be a whole number, got 10.5"), (math.nan, "m must be a whole number, got nan"),
        (math.inf, "m must be a whole number, got inf"), (True, "m must be a whole number, got True"),
        (0, "m must be at least 1, got 0"),
    ],
)  # fmt: skip
def test_counts_are_whole(value, said):
    with pytest.raises(ValueError, match=said):
        whole("m", value)
    assert whole("m", 10.0) == whole("m", np.int64(10)) == 10
