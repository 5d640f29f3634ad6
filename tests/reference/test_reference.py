"""The known answers are the right ones: each against a second route."""

import math

import pytest
import torch
from scipy import stats

from theorylens.generalization import clopper_pearson, probe_test_error
from theorylens.reference import bernoulli_classifier, gaussian_blobs, linear_regression, quadratic


def _hessian(subject):
    """By torch's own second derivatives of the mean loss."""
    (parameter,) = subject.net.parameters()
    name = next(n for n, _ in subject.net.named_parameters())
    batch = subject.train.take(range(len(subject.train)))

    def loss(flat):
        outputs = torch.func.functional_call(subject.net, {name: flat.view_as(parameter)}, (batch[0],))
        return subject.judged.losses(outputs, batch[1])[0].mean()

    return torch.autograd.functional.hessian(loss, parameter.detach().flatten())


def test_linear_regression_has_the_hessian_and_the_solution_it_says():
    known = linear_regression(60, 4, seed=3)
    assert torch.allclose(_hessian(known.subject), known.hessian, atol=1e-10)
    x, y = known.subject.train.data
    assert torch.allclose(x.T @ (x @ known.solution - y[:, 0]), torch.zeros(4, dtype=torch.float64), atol=1e-10)
    assert float(known.subject.scores("train").losses.mean()) == pytest.approx(known.loss, rel=1e-12)


def test_a_quadratic_has_the_eigenvalues_it_was_asked_for():
    known = quadratic([3.0, -1.0, 0.5, 0.0])
    assert known.eigenvalues.tolist() == [3.0, 0.5, 0.0, -1.0]
    assert torch.allclose(_hessian(known.subject), known.hessian, atol=1e-12)
    assert torch.allclose(torch.linalg.eigvalsh(known.hessian).flip(0), known.eigenvalues, atol=1e-12)
    w = known.subject.net.w.detach()
    assert float(known.subject.scores("train").losses.mean()) == pytest.approx(float(0.5 * w @ known.hessian @ w))


@pytest.mark.parametrize("error", [0.0, 0.07, 0.5, 1.0])
def test_a_bernoulli_classifier_errs_as_often_as_it_says(error):
    n = 20_000
    known = bernoulli_classifier(error, n, seed=1)
    wrong = int(known.subject.scores("test").errors.sum())
    assert stats.binom.cdf(wrong, n, error) > 1e-6 or wrong == n * error
    assert stats.binom.sf(wrong - 1, n, error) > 1e-6 or wrong == n * error
    assert known.subject.split("test").distinct_rows == n


def test_its_certificate_is_the_binomial_tail():
    known = bernoulli_classifier(0.1, 300, seed=2, train=50)
    result = probe_test_error(known.subject)
    wrong = int(known.subject.scores("test").errors.sum())
    assert result.certificate.bound == clopper_pearson(wrong, 300, 0.05)
    assert known.subject.roles == ("train", "test")


def test_gaussian_blobs_have_the_error_of_the_best_classifier():
    known = gaussian_blobs(20_000, 5, distance=2.0, seed=4)
    wrong = int(known.subject.scores("test").errors.sum())
    assert known.error == pytest.approx(stats.norm.cdf(-1.0), rel=1e-12)
    assert 1e-6 < stats.binom.cdf(wrong, 20_000, known.error) < 1 - 1e-6
    # The logits are the log odds: no temperature lowers the loss by more than sampling noise.
    outputs, targets = known.subject.predictions("test")
    at = [float(torch.nn.functional.cross_entropy(outputs * t, targets)) for t in (0.8, 1.0, 1.25)]
    assert at[1] == min(at)


def test_the_same_seed_gives_the_same_problem():
    a, b, c = (gaussian_blobs(10, seed=s).subject.split("test").sha256 for s in (0, 0, 1))
    assert a == b != c


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: linear_regression(3, 5), "n >= d"),
        (lambda: quadratic([]), "at least one finite eigenvalue"),
        (lambda: quadratic([math.nan]), "at least one finite eigenvalue"),
        (lambda: bernoulli_classifier(1.2), r"lies in \[0, 1\]"),
        (lambda: gaussian_blobs(distance=-1.0), "at least 0"),
    ],
)
def test_refusals(make, said):
    with pytest.raises(ValueError, match=said):
        make()
