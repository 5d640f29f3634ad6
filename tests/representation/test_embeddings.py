"""LLE and t-SNE against scikit-learn and definitions; what an embedding kept; the test against a Gaussian."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import make_swiss_roll
from sklearn.manifold import LocallyLinearEmbedding
from sklearn.manifold._locally_linear import barycenter_kneighbors_graph
from torch import Tensor

from theorylens.representation import (
    barycentric_weights,
    lle,
    manifold_report,
    manifold_test,
    neighbours_kept,
    tsne,
    tsne_gradient,
    tsne_objective,
)

P = torch.tensor([[0, 0.3, 0.1], [0.3, 0, 0.1], [0.1, 0.1, 0]], dtype=torch.float64)
Y = torch.tensor([[0, 0], [1, 0], [0, 2]], dtype=torch.float64)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def roll(n: int, noise: float = 0.0, seed: int = 0) -> Tensor:
    return torch.from_numpy(make_swiss_roll(n, noise=noise, random_state=seed)[0])


def test_lle_is_that_of_scikit_learn_with_the_papers_scale() -> None:
    """S2.1-1: swiss roll of 300 points, k = 10, to 5e-10 after the sign."""
    points = roll(300)
    found = lle(points, 2, 10)
    theirs = LocallyLinearEmbedding(n_neighbors=10, n_components=2, eigen_solver="dense").fit_transform(points.numpy())
    ours = found.coordinates.numpy() / math.sqrt(300)
    signs = np.sign((ours * theirs).sum(0))
    assert np.abs(ours * signs - theirs).max() < 5e-9
    y = found.coordinates
    assert torch.allclose(y.T @ y, 300 * torch.eye(2, dtype=torch.float64), atol=1e-8)
    assert y.mean(0).abs().max() < 1e-6
    assert found.pieces == 1
    assert found.trouble is None


def test_weights_are_those_of_scikit_learn_and_reconstruct_the_points() -> None:
    points = roll(100)
    found = lle(points, 2, 8)
    theirs = barycenter_kneighbors_graph(points.numpy(), n_neighbors=8, reg=1e-3)
    assert abs(found.weights - theirs).max() < 1e-9
    assert np.allclose(found.weights.sum(1), 1)
    x, y = points.numpy(), found.coordinates.numpy()
    left = x - found.weights.toarray() @ x
    assert found.reconstruction_error == pytest.approx((left**2).sum() / ((x - x.mean(0)) ** 2).sum(), rel=1e-9)
    m = (np.eye(100) - found.weights.toarray()).T @ (np.eye(100) - found.weights.toarray())
    assert found.embedding_error == pytest.approx(np.linalg.eigvalsh(m)[1:3].sum(), rel=1e-3)
    assert found.embedding_error == pytest.approx((y * (m @ y)).sum() / 100, rel=1e-6)


def test_equal_steps_on_a_line_weigh_both_neighbours_the_same(golden) -> None:
    line = torch.arange(7.0, dtype=torch.float64)[:, None] * torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    for regularisation in (1e-3, 1e-9):
        weights = barycentric_weights(line, 2, regularisation=regularisation).toarray()
        for i in range(1, 6):
            assert [weights[i, i - 1], weights[i, i + 1]] == pytest.approx(golden("G2.1-6"), rel=1e-9)


def test_two_clouds_apart_are_trouble() -> None:
    clouds = torch.cat([torch.randn(40, 3, generator=rng()), torch.randn(40, 3, generator=rng(1)) + 100])
    found = lle(clouds, 2, 6)
    assert found.pieces == 2
    assert found.trouble is not None
    assert "falls into 2 pieces" in found.trouble.render()


@pytest.mark.parametrize(
    ("points", "components", "k", "message"),
    [
        (torch.randn(30, 3), 3, 8, "n_components must be at least 1 and below the 3 coordinates, got 3"),
        (torch.randn(30, 9), 4, 4, "n_components must be below n_neighbors"),
        (torch.randn(8, 3), 2, 8, "k must be at least 1 and below the number of points, 8, got 8"),
        (torch.tensor([[1.0, 2.0], [math.nan, 0.0], [1.0, 1.0]]), 1, 2, "1 of 3 rows of points are not finite"),
        (torch.cat([torch.randn(9, 3)] * 2), 2, 4, "18 of 18 points have an exact copy"),
    ],
)
def test_lle_refuses_what_it_cannot_embed(points: Tensor, components: int, k: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lle(points, components, k)


def test_the_objective_and_gradient_of_tsne_are_the_published_ones(golden) -> None:
    y = Y.clone().requires_grad_()
    value = tsne_objective(P, y)
    assert float(value.detach()) == pytest.approx(golden("G2.1-4"), rel=1e-9)
    gradient = tsne_gradient(P, Y)
    assert gradient.tolist() == [pytest.approx(row, rel=1e-9) for row in golden("G2.1-5")]
    value.backward()
    assert torch.allclose(y.grad, gradient, atol=1e-15)


def test_tsne_separates_what_is_apart_and_reports_its_divergence() -> None:
    clouds = torch.cat([torch.randn(40, 5, generator=rng()), torch.randn(40, 5, generator=rng(1)) + 30])
    found = tsne(clouds, perplexity=10)
    assert found.coordinates.shape == (80, 2)
    assert 0 < found.divergence < 1
    near = torch.cdist(found.coordinates, found.coordinates).fill_diagonal_(math.inf).argmin(1)
    assert bool(((near < 40) == (torch.arange(80) < 40)).all())


@pytest.mark.parametrize("perplexity", [3.0, 5.0, 0.5])
def test_a_perplexity_of_a_third_of_the_points_is_refused(perplexity: float) -> None:
    with pytest.raises(ValueError, match=r"below \(n - 1\) / 3 = 3 for 10 points"):
        tsne(torch.randn(10, 3), perplexity=perplexity)


@pytest.mark.parametrize(
    ("p", "message"),
    [
        (torch.ones(2, 2) / 4, r"need similarities of shape \(3, 3\)"),
        (torch.ones(3, 3) / 9, "zero on the diagonal and sum to 1"),
        (torch.tensor([[0, 0.5, 0.1], [0.1, 0, 0.1], [0.1, 0.1, 0]]), "must be symmetric"),
    ],
)
def test_similarities_that_are_none_are_refused(p: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tsne_objective(p, Y)


def naive_trust(x: Tensor, y: Tensor, k: int) -> float:
    n = len(x)
    total = 0
    for i in range(n):
        order = [j for j in torch.argsort((x - x[i]).norm(dim=1)).tolist() if j != i]
        rank = {j: r + 1 for r, j in enumerate(order)}
        near = [j for j in torch.argsort((y - y[i]).norm(dim=1)).tolist() if j != i][:k]
        total += sum(max(0, rank[j] - k) for j in near)
    return 1 - 2 / (n * k * (2 * n - 3 * k - 1)) * total


def test_what_was_kept_is_as_loops_over_ranks_count_it() -> None:
    x = torch.randn(40, 5, generator=rng(), dtype=torch.float64)
    kept = neighbours_kept(x, x[:, :2], 6)
    assert kept.trustworthiness == pytest.approx(naive_trust(x, x[:, :2], 6), rel=1e-10)
    assert kept.continuity == pytest.approx(naive_trust(x[:, :2], x, 6), rel=1e-10)
    same = neighbours_kept(x, 3 * x, 6)
    assert (same.trustworthiness, same.continuity) == (1.0, 1.0)


def test_a_folded_sheet_loses_trust_and_a_torn_one_continuity() -> None:
    sheet = torch.rand(200, 2, generator=rng(), dtype=torch.float64)
    folded = torch.stack([(sheet[:, 0] - 0.5).abs(), sheet[:, 1]], 1)
    torn = sheet + 5 * (sheet[:, :1] > 0.5)
    fold, tear = neighbours_kept(sheet, folded, 8), neighbours_kept(sheet, torn, 8)
    assert fold.trustworthiness < fold.continuity
    assert tear.continuity < tear.trustworthiness


@pytest.mark.parametrize(("n", "k"), [(20, 10), (20, 0)])
def test_half_of_the_points_is_too_many_neighbours(n: int, k: int) -> None:
    with pytest.raises(ValueError, match="below half of the 20 points"):
        neighbours_kept(torch.randn(n, 3), torch.randn(n, 2), k)
    with pytest.raises(ValueError, match="20 points and 19 embedded rows"):
        neighbours_kept(torch.randn(20, 3), torch.randn(19, 2), 3)


def test_a_roll_is_no_gaussian_and_a_gaussian_is_one() -> None:
    rolled = manifold_test(roll(400, 0.01), rng=rng())
    assert rolled.p_value == 0.01
    assert rolled.dimension.value < 2.3
    assert 2.5 < float(rolled.null.mean()) < 3.2
    assert rolled.directions == 3
    plane = torch.randn(300, 2, generator=rng(1)) @ torch.randn(2, 8, generator=rng(2))
    flat = manifold_test(plane.double(), rng=rng())
    assert flat.directions == 2
    assert flat.p_value > 0.05


@pytest.mark.parametrize(
    ("points", "draws", "message"),
    [
        (torch.randn(49, 3), 99, "at least 50 rows, got 49"),
        (torch.randn(60, 40), 99, "vary along 40 directions; their covariance needs at least 80 points"),
        (torch.randn(60, 3), 18, "at least 19 draws, got 18"),
        (torch.ones(60, 3), 19, "exact copy"),
    ],
)
def test_too_little_for_a_covariance_is_refused(points: Tensor, draws: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        manifold_test(points, rng=rng(), draws=draws)


def test_the_report_unrolls_a_roll_that_a_plane_cannot() -> None:
    report = manifold_report(roll(600), rng=rng(), draws=19)
    assert report.test.p_value == 0.05
    assert report.linear_share < 0.9
    kept = {made.method: made.kept for made in report.embeddings}
    assert set(kept) == {"principal components", "LLE", "Isomap"}
    assert kept["Isomap"].trustworthiness > kept["principal components"].trustworthiness
    assert {made.components for made in report.embeddings} == {2}
    assert report.by_scale.lines[0].y[0] < 2.5


@pytest.mark.slow
def test_a_gaussian_is_rejected_as_often_as_the_level_says() -> None:
    """The covariance is estimated, so the test is not exact; measured at 5 %."""
    rejected = 0
    for seed in range(400):
        cloud = torch.randn(200, 4, generator=rng(seed), dtype=torch.float64) * torch.tensor([3.0, 2, 1, 0.5])
        rejected += manifold_test(cloud, rng=rng(10_000 + seed), draws=19).p_value <= 0.05
    assert 0.02 < rejected / 400 < 0.09
