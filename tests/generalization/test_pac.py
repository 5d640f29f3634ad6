"""PAC certificates and experiments: exact probabilities, a halfspace on real data, each refusal."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from theorylens.generalization import (
    clopper_pearson,
    failure_rate,
    pac_certificate,
    pac_learning_curve,
    sample_complexity,
    sample_size_curve,
    vc_gap,
)


def threshold(m, generator):
    """Tightest fit to the positives of a one-sided threshold whose positives fill [0, 1]: its error is the least x."""
    return float(torch.rand(m, generator=generator, dtype=torch.float64).min())


def test_the_experiment_gives_the_exact_probability(golden):
    exact, m = golden("G1.1-8")
    assert 0.9**m == pytest.approx(exact, rel=1e-9)
    assert 0.9 ** (m - 1) > 0.05
    found = failure_rate(threshold, int(m), 0.1, runs=20_000, generator=torch.Generator().manual_seed(0))
    assert found.lower <= exact <= found.upper
    assert found.upper - found.lower < 0.01


def test_the_threshold_needs_fewer_than_the_theorems_of_its_class_say(golden):
    assert golden("G1.1-8")[1] < sample_complexity(0.1, 0.05, vc_dimension=1)


@pytest.mark.slow
def test_the_interval_of_the_failure_rate_covers():
    generator = torch.Generator().manual_seed(1)
    covered = 0
    for _ in range(2000):
        found = failure_rate(threshold, 10, 0.1, runs=50, generator=generator, delta=0.1)
        covered += found.lower <= 0.9**10 <= found.upper
    assert stats.binom.cdf(covered, 2000, 0.9) >= 1e-4


def test_bounds_from_a_test_set(golden):
    assert [clopper_pearson(k, 100, 0.05) for k in (5, 0)] == pytest.approx(golden("G1.1-9"), rel=1e-9)


def test_an_agnostic_certificate_is_uniform_convergence_twice():
    found = pac_certificate(0.1, 20_000, 0.05, vc_dimension=10)
    assert found.gap == vc_gap(20_000, 10, 0.05, "vapnik")
    assert found.risk == pytest.approx(0.1 + found.gap)
    assert found.excess == pytest.approx(2 * found.gap)
    assert found.satisfies(found.excess * 1.01)
    assert not found.satisfies(found.gap * 1.01)
    mohri = pac_certificate(0.1, 20_000, 0.05, vc_dimension=10, variant="mohri")
    assert mohri.gap == vc_gap(20_000, 10, 0.025, "mohri")  # both signs, each at delta / 2


def test_certificates_and_sample_sizes_are_inverse():
    m = sample_complexity(0.1, 0.05, class_size=1000, setting="agnostic")
    assert pac_certificate(0.3, m, 0.05, class_size=1000).satisfies(0.1)
    assert not pac_certificate(0.3, m - 1, 0.05, class_size=1000).satisfies(0.1)
    m = sample_complexity(0.1, 0.05, vc_dimension=5, theorem="blumer")
    assert pac_certificate(0.0, m, 0.05, vc_dimension=5, setting="realizable").satisfies(0.1 * (1 + 1e-9))
    assert not pac_certificate(0.0, m - 1, 0.05, vc_dimension=5, setting="realizable").satisfies(0.1)


def test_a_realizable_certificate_is_the_exact_tail():
    found = pac_certificate(0.0, 200, 0.05, class_size=64, setting="realizable")
    assert 64 * (1 - found.risk) ** 200 == pytest.approx(0.05, rel=1e-8)
    assert (found.gap, found.excess) == (None, found.risk)


def test_a_certificate_that_says_nothing_says_so():
    assert pac_certificate(0.0, 20, 0.05, vc_dimension=100).vacuous
    assert pac_certificate(0.0, 20, 0.05, vc_dimension=100, setting="realizable").vacuous


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"empirical": 5.0}, "empirical must lie between 0 and 1, got 5"),
        ({"empirical": 0.1, "setting": "realizable"}, "without training errors, got 0.1; take the agnostic"),
        ({"m": 0}, "m must be at least 1"),
        ({"delta": 0.0}, "delta must lie strictly between 0 and 1"),
        ({"bits": 3}, "give exactly one"),
    ],
)
def test_what_is_refused(asked, said):
    with pytest.raises(ValueError, match=said):
        pac_certificate(**{"empirical": 0.0, "m": 100, "delta": 0.05, "vc_dimension": 3, **asked})


@pytest.fixture(scope="module")
def cancer():
    x, y = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order][:, :2], y[order]
    return (x[:400], y[:400]), (x[400:], y[400:])


def halfspace():
    return make_pipeline(StandardScaler(), LogisticRegression())


def test_a_halfspace_on_real_data_lies_below_its_bound(cancer):
    found = pac_learning_curve(
        halfspace, *cancer, sizes=(20, 60, 200, 400), vc_dimension=3, generator=torch.Generator().manual_seed(0)
    )  # fmt: skip
    assert (found.test_upper <= found.bound).all()
    assert (found.test_lower <= found.test_error).all()
    assert (np.diff(found.bound) <= 0).all()
    assert found.bound[-1] < 0.5 < found.bound[0]
    learner = halfspace().fit(*cancer[0])
    assert found.test_error[-1] == pytest.approx(1 - learner.score(*cancer[1]))
    assert found.train_error[-1] == pytest.approx(1 - learner.score(*cancer[0]))


def test_the_curve_is_drawn(cancer):
    from theorylens.report._plots import figure

    found = pac_learning_curve(
        halfspace, *cancer, sizes=(50, 400), vc_dimension=3, generator=torch.Generator().manual_seed(0)
    )
    assert [line.role for line in found.payload.lines] == ["network", "network", "theory"]
    assert figure(found.payload) is not None
    assert figure(sample_size_curve((1, 10, 100), 0.05, 0.01)) is not None


def test_the_curve_of_sample_sizes_holds_the_theorems():
    enough, order, needed = sample_size_curve((1, 5, 50), 0.1, 0.05).lines
    assert np.ceil(enough.y).tolist() == [sample_complexity(0.1, 0.05, vc_dimension=d) for d in (1, 5, 50)]
    assert (needed.y <= order.y).all()
    assert (order.y < enough.y).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sizes": (10, 401)}, "need 1 to 400 training examples"),
        ({"sizes": ()}, "need 1 to 400 training examples"),
        ({"sizes": (0,)}, "sizes must be at least 1"),
        ({"vc_dimension": 0}, "d must be at least 1"),
    ],
)
def test_curves_that_cannot_be(cancer, change, said):
    asked = {"sizes": (100,), "vc_dimension": 3, **change}
    with pytest.raises(ValueError, match=said):
        pac_learning_curve(halfspace, *cancer, **asked, generator=torch.Generator())


def test_three_classes_are_not_two(cancer):
    (x, y), test = cancer
    with pytest.raises(ValueError, match="about two classes, got 3 labels"):
        pac_learning_curve(
            halfspace, (x, np.where(x[:, 0] > 20, 2, y)), test, sizes=(10,), vc_dimension=3, generator=torch.Generator()
        )
