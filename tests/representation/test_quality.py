"""Spectra, collapse, read-outs, disentanglement: closed forms, definitions, laws, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from theorylens.representation import (
    alignment_loss,
    completeness_score,
    covariance_eigenvalues,
    dci,
    disentanglement_score,
    effective_rank,
    entropy_dimension,
    fisher_ratio,
    knn_accuracy,
    mig,
    mutual_information_gap,
    neural_collapse,
    participation_ratio,
    rankme,
    representation_quality,
    uniformity_loss,
    within_class_variability,
)
from theorylens.results import Statistical, Unknown

TWO = torch.tensor([[0, 0], [2, 0], [4, 4], [6, 4]], dtype=torch.float64)
WHICH = torch.tensor([0, 0, 1, 1])


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def test_spectra_have_the_published_ranks(golden) -> None:
    eigenvalues, singular = torch.tensor([4.0, 2.0, 1.0, 1.0]), torch.tensor([2.0, 1.0, 1.0])
    found = [entropy_dimension(eigenvalues), participation_ratio(eigenvalues), effective_rank(singular)]
    assert found == pytest.approx(golden("G2.3-8"), rel=1e-9)
    for measure in (entropy_dimension, participation_ratio, effective_rank):
        assert measure(torch.full((5,), 0.3)) == pytest.approx(5, rel=1e-6)
        assert measure(torch.tensor([1.0, 0.0, 0.0])) == 1


def test_rankme_is_the_published_formula() -> None:
    x = normal(50, 6) + 2
    sigma = np.linalg.svd(x.numpy(), compute_uv=False)
    p = sigma / np.abs(sigma).sum() + 1e-7
    assert rankme(x) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-10)
    assert rankme(torch.ones(9, 3)) == pytest.approx(1, abs=1e-4)


def test_eigenvalues_are_those_of_numpys_covariance() -> None:
    x = normal(40, 6)
    expected = np.sort(np.linalg.eigvalsh(np.cov(x.numpy().T)))[::-1]
    assert covariance_eigenvalues(x).numpy() == pytest.approx(expected, rel=1e-9)
    assert len(covariance_eigenvalues(normal(4, 6))) == 3
    assert covariance_eigenvalues(torch.full((5, 3), 0.1)).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: participation_ratio(torch.tensor([1.0, -1.0])), "finite numbers >= 0"),
        (lambda: participation_ratio(torch.zeros(3)), "all eigenvalues are zero"),
        (lambda: effective_rank(torch.ones(2, 2)), r"of shape \(d,\), got shape \(2, 2\)"),
        (lambda: rankme(torch.zeros(3, 3)), "all features are zero"),
    ],
)
def test_spectra_that_are_none_are_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_two_pairs_of_points_have_the_published_separation(golden) -> None:
    assert [fisher_ratio(TWO, WHICH), within_class_variability(TWO, WHICH)] == pytest.approx(golden("G2.3-9"), rel=1e-9)


def test_nc1_is_its_definition_with_a_pseudo_inverse() -> None:
    x, y = normal(60, 5), torch.arange(60) % 3
    x[:, 0] += y
    means = torch.stack([x[y == c].mean(0) for c in range(3)])
    within = sum((x[y == c] - means[c]).T @ (x[y == c] - means[c]) for c in range(3)) / 60
    away = means - means.mean(0)
    expected = torch.trace(within @ torch.linalg.pinv(away.T @ away / 3, rcond=1e-9)) / 3
    assert within_class_variability(x, y) == pytest.approx(float(expected), rel=1e-8)


@pytest.mark.parametrize("change", [lambda x: 1e-3 * x, lambda x: x.repeat(1, 40), lambda x: x @ torch.eye(2).double()])
def test_separation_does_not_vanish_for_small_or_many_features(change) -> None:
    x = change(TWO)
    assert fisher_ratio(x, WHICH) == pytest.approx(8, rel=1e-9)
    assert within_class_variability(x, WHICH) == pytest.approx(0.03125, rel=1e-7)


def simplex(classes: int) -> Tensor:
    return torch.eye(classes, dtype=torch.float64) - 1 / classes


def test_a_simplex_is_collapsed_in_every_mark() -> None:
    y = torch.arange(80) % 4
    means = simplex(4) * 3
    found = neural_collapse(means[y] + 1e-4 * normal(80, 4), y, simplex(4))
    assert found.within.value < 1e-6
    assert found.norms < 1e-3
    assert found.angles < 1e-3
    assert found.duality is not None
    assert found.duality < 1e-6
    assert found.disagreement == 0
    assert isinstance(found.within.uncertainty, Statistical)
    assert neural_collapse(means[y], y).duality is None


def test_large_and_small_classes_count_the_same() -> None:
    y = torch.repeat_interleave(torch.arange(3), torch.tensor([10, 20, 70]))
    found = neural_collapse(simplex(3)[y] + 1e-5 * normal(100, 3), y, simplex(3))
    assert max(found.norms, found.angles, found.duality or 0.0) < 1e-4


def test_random_features_are_not_collapsed_and_a_wrong_layer_disagrees() -> None:
    y = torch.arange(400) % 4
    x = normal(400, 8)
    x[:, :4] += simplex(4)[y]
    weights = torch.cat([-simplex(4), torch.zeros(4, 4)], 1)
    found = neural_collapse(x, y, weights, torch.zeros(4))
    assert found.within.value > 1
    assert found.duality is not None
    assert found.duality > 3
    assert found.disagreement is not None
    assert found.disagreement > 0.7


def test_a_rotation_a_shift_and_a_scale_leave_the_marks() -> None:
    y = torch.arange(90) % 3
    x = normal(90, 6) + 2 * normal(3, 6, seed=1)[y]
    rotation = torch.linalg.qr(normal(6, 6, seed=2))[0]
    one, other = neural_collapse(x, y), neural_collapse(5 * x @ rotation + 1, y)
    for name in ("norms", "angles", "fisher"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-8)
    assert one.within.value == pytest.approx(other.within.value, rel=1e-8)
    assert one.within.upper == pytest.approx(other.within.upper, rel=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: neural_collapse(TWO, torch.zeros(4).long()), "have 1 class; at least 2"),
        (lambda: neural_collapse(TWO, torch.arange(3)), "4 rows and 3 labels"),
        (lambda: neural_collapse(TWO, WHICH, torch.ones(2, 3)), r"weights of shape \(2, 3\) do not fit 2 features"),
        (lambda: neural_collapse(torch.ones(4, 2), WHICH), "lies at the mean of all"),
        (lambda: fisher_ratio(torch.ones(4, 2), WHICH), "all 4 rows are equal"),
        (lambda: fisher_ratio(TWO, WHICH.double()), "labels must be whole numbers"),
    ],
)
def test_classes_that_are_none_are_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_points_on_the_axes_have_the_published_uniformity(golden) -> None:
    axes = torch.tensor([[1, 0], [0, 1], [-1, 0], [0, -1]], dtype=torch.float64)
    assert uniformity_loss(axes) == pytest.approx(golden("G2.3-10"), rel=1e-9)
    assert uniformity_loss(7 * axes) == pytest.approx(golden("G2.3-10"), rel=1e-9)
    assert uniformity_loss(torch.ones(5, 3)) == pytest.approx(0, abs=1e-12)


def test_views_that_agree_are_aligned_and_opposite_ones_are_two_apart() -> None:
    z = normal(10, 3)
    assert alignment_loss(z, 4 * z) == pytest.approx(0, abs=1e-12)
    assert alignment_loss(z, -z) == pytest.approx(4, rel=1e-10)
    assert alignment_loss(z, -z, power=1) == pytest.approx(2, rel=1e-10)
    with pytest.raises(ValueError, match="embeddings of one shape"):
        alignment_loss(z, z[:5])
    with pytest.raises(ValueError, match="1 rows of embeddings are zero"):
        uniformity_loss(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))


def test_neighbours_vote_as_in_scikit_learn() -> None:
    x, y = normal(80, 3), torch.arange(80) % 2
    x[:, 0] += y
    z, w = normal(50, 3, seed=1), torch.arange(50) % 2
    z[:, 0] += w
    expected = KNeighborsClassifier(7).fit(x.numpy(), y.numpy()).score(z.numpy(), w.numpy())
    found = knn_accuracy(x, y, z, w, 7)
    assert found.value == pytest.approx(expected)
    assert found.lower < found.value < found.upper
    with pytest.raises(ValueError, match="between 1 and the 80 fitted rows, got 81"):
        knn_accuracy(x, y, z, w, 81)


def test_quality_holds_every_number_for_classes_and_targets() -> None:
    y = torch.arange(400) % 4
    x = normal(400, 10) + 3 * normal(4, 10, seed=1)[y]
    found = representation_quality(x, y, rng=rng())
    assert found.readout.value > 0.95
    assert found.neighbours is not None
    assert found.neighbours.value > 0.95
    assert found.fisher == pytest.approx(fisher_ratio(x, y))
    assert found.within == pytest.approx(within_class_variability(x, y))
    assert found.participation == pytest.approx(participation_ratio(covariance_eigenvalues(x)))
    noise = representation_quality(normal(400, 10, seed=3), y, rng=rng())
    assert noise.readout.value < 0.35


def test_regression_reads_the_share_of_variance_that_can_be_read() -> None:
    x = normal(2000, 5)
    y = x @ normal(5, seed=1) + normal(2000, seed=2) * 1.5
    truth = float((normal(5, seed=1) ** 2).sum() / ((normal(5, seed=1) ** 2).sum() + 1.5**2))
    found = representation_quality(x, y, "regression", rng=rng())
    assert found.readout.lower < truth < found.readout.upper
    assert found.readout.upper - found.readout.lower < 0.15
    assert found.neighbours is None
    noise = representation_quality(x, normal(2000, seed=3), "regression", rng=rng())
    assert noise.readout.lower < 0.01


@pytest.mark.parametrize(
    ("targets", "task", "message"),
    [
        (torch.arange(30) % 2, "ranking", "'classification' or 'regression', got 'ranking'"),
        (torch.arange(29) % 2, "classification", r"30 rows and targets of shape \(29,\)"),
        (torch.zeros(30).long(), "classification", "have 1 class"),
        (torch.zeros(30), "regression", "finite and vary"),
        (torch.randn(30), "classification", "labels must be whole numbers"),
    ],
)
def test_quality_without_a_task_is_refused(targets: Tensor, task: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        representation_quality(normal(30, 3), targets, task, rng=rng())


def test_importances_have_the_published_scores(golden) -> None:
    r = torch.tensor([[0.5, 0.5], [0.0, 1.0]], dtype=torch.float64)
    found = [disentanglement_score(r), completeness_score(r), completeness_score(r, weighted=True)]
    assert found == pytest.approx(golden("G2.2-5"), rel=1e-9)
    one = torch.eye(3)
    assert [disentanglement_score(one), completeness_score(one), completeness_score(one, weighted=True)] == [1, 1, 1]
    assert disentanglement_score(torch.ones(3, 3)) == pytest.approx(0, abs=1e-12)


def test_gaps_have_the_published_value(golden) -> None:
    shared = torch.tensor([[1, 0.2], [0.1, 0.5]], dtype=torch.float64)
    assert mutual_information_gap(shared, torch.ones(2)) == pytest.approx(golden("G2.2-6"), rel=1e-9)


def factors(n: int, seed: int = 0) -> Tensor:
    return torch.stack([torch.randint(0, k, (n,), generator=rng(seed + k)) for k in (4, 5, 3)], 1)


def test_codes_that_copy_factors_are_disentangled_and_noise_is_not() -> None:
    y = factors(300)
    copied = y.double() + 0.05 * normal(300, 3)
    found = dci(copied, y, rng=rng())
    assert found.disentanglement.value > 0.97
    assert found.completeness.value > 0.97
    assert found.informativeness.value == 1
    assert found.importance.shape == (3, 3)
    assert found.baseline[0] < 0.3
    noise = dci(normal(300, 3, seed=9), y, rng=rng())
    assert noise.disentanglement.value < 0.2
    assert noise.informativeness.value < 0.5
    assert mig(copied, y) > 0.95
    assert mig(normal(300, 3, seed=9), y) < 0.07


def test_real_factors_are_regressed() -> None:
    y = normal(200, 2)
    found = dci(torch.stack([y[:, 1], y[:, 0]], 1), y, rng=rng())
    assert found.disentanglement.value > 0.95
    assert 0.8 < found.informativeness.value < 1
    assert float(found.importance[0, 1]) > 0.95


def test_a_rotated_code_is_informative_but_not_disentangled() -> None:
    y = normal(200, 2)
    mixed = y @ torch.tensor([[1.0, 1.0], [1.0, -1.0]]).double()
    assert dci(mixed, y, rng=rng()).disentanglement.value < 0.4
    assert dci(y, y, rng=rng()).disentanglement.value > 0.95


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dci(normal(30, 3), factors(29), rng=rng()), r"factors of shape \(30, factors\), got \(29, 3\)"),
        (
            lambda: dci(normal(30, 3), factors(30)[:, :1], rng=rng()),
            "two latents and two factors at least, got 3 and 1",
        ),
        (lambda: dci(normal(30, 2), torch.zeros(30, 2).long(), rng=rng()), "factor 0 is constant on all 30 rows"),
        (lambda: mig(normal(30, 2), torch.zeros(30, 2).long()), "factor 0 is constant on all 30 rows"),
        (lambda: mig(normal(30, 2), normal(30, 2)), "factors must be whole numbers"),
        (lambda: disentanglement_score(torch.tensor([[1.0, -1.0], [0, 1]])), "no negative and some positive"),
        (lambda: mutual_information_gap(torch.ones(2, 2), torch.zeros(2)), "positive entropies"),
    ],
)
def test_factors_that_are_none_are_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_few_rows_give_no_interval() -> None:
    assert isinstance(neural_collapse(TWO, WHICH).within.uncertainty, Unknown)
    assert math.isfinite(neural_collapse(TWO, WHICH).fisher)


@pytest.mark.slow
def test_the_interval_of_the_variability_covers_its_mean() -> None:
    y, means = torch.arange(300) % 4, 2 * normal(4, 6, seed=9)
    found = [neural_collapse(means[y] + normal(300, 6, seed=s), y).within for s in range(400)]
    mean = np.mean([e.value for e in found])
    assert 0.91 < np.mean([e.lower <= mean <= e.upper for e in found]) < 0.98
