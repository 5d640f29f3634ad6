"""Nearest neighbours against a naive twin and a k-d tree, where products alone would fail."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from theorylens.numerics import neighbours
from theorylens.numerics.neighbours import nearest, unique_rows


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def naive(points, k):
    """All distances by differences in float64, sorted by (distance, index)."""
    points = points.double()
    distances = torch.stack([(points - row).square().sum(1).sqrt() for row in points])
    distances.fill_diagonal_(float("inf"))
    sorted_, order = distances.sort(dim=1, stable=True)
    return sorted_[:, :k], order[:, :k]


def agrees(points, k, **options):
    got, wanted = nearest(points, k, **options), naive(points, k)
    assert got.distances.dtype == torch.float64
    torch.testing.assert_close(got.distances, wanted[0], rtol=1e-13, atol=0)
    assert torch.equal(got.indices, wanted[1])
    return got


def line(n=400):
    """A line in 20 dimensions, in float32, with neighbours much closer than the products resolve."""
    direction = torch.nn.functional.normalize(torch.randn(20, generator=seeded(1)), dim=0)
    return torch.rand(n, 1, generator=seeded(2)) * direction + 10 * torch.randn(20, generator=seeded(3))


def clusters(spread):
    centres = 100 * torch.randn(6, 8, generator=seeded(4), dtype=torch.float64)
    return centres[torch.arange(300) % 6] + spread * torch.randn(300, 8, generator=seeded(5), dtype=torch.float64)


CASES = {
    "gaussian float32": torch.randn(500, 12, generator=seeded()),
    "gaussian float64": torch.randn(500, 12, generator=seeded(), dtype=torch.float64),
    "half precision": torch.randn(300, 4, generator=seeded()).half(),
    "bfloat16": torch.randn(300, 4, generator=seeded()).bfloat16(),
    "far from the origin": torch.randn(500, 6, generator=seeded()) + 1e4,
    "farther still": torch.randn(500, 6, generator=seeded(), dtype=torch.float64) * 1e-6 + 1e4,
    "clusters far apart": clusters(1.0),
    "tight clusters": clusters(1e-6),
    "clusters at the limit of float64": clusters(1e-12),
    "line in float32": line(),
    "outlier": torch.cat([torch.randn(300, 5, generator=seeded()), torch.full((1, 5), 1e6)]),
    "one coordinate": torch.randn(300, 1, generator=seeded()),
    "more coordinates than points": torch.randn(20, 300, generator=seeded()),
    "two points": torch.tensor([[0.0, 0.0], [3.0, 4.0]]),
    "binary": (torch.rand(300, 6, generator=seeded()) < 0.5).float(),
    "one-hot": torch.eye(60),
    "all the same": torch.full((40, 3), 0.1),
    "zero": torch.zeros(30, 2),
    "huge float32": torch.randn(200, 4, generator=seeded()) * 1e37,
    "tiny float32": torch.randn(200, 4, generator=seeded()) * 1e-37,
    "not contiguous": torch.randn(12, 500, generator=seeded()).T,
}


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_naive_twin(name):
    points = CASES[name]
    for k in {1, min(5, len(points) - 1)}:
        agrees(points, k)


@pytest.mark.parametrize("name", ["gaussian float32", "far from the origin", "tight clusters", "line in float32"])
def test_agrees_with_a_tree(name):
    points = CASES[name].double().numpy()
    distances, indices = cKDTree(points).query(points, k=6)
    got = nearest(CASES[name], 5)
    np.testing.assert_allclose(got.distances, distances[:, 1:], rtol=1e-12)
    assert (got.indices.numpy() == indices[:, 1:]).all()


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e150, 1e300])
def test_scale_changes_nothing_even_where_squares_leave_the_range(scale):
    points = torch.randn(100, 3, generator=seeded(), dtype=torch.float64)
    plain, scaled = nearest(points, 3), nearest(points * scale, 3)
    assert torch.equal(plain.indices, scaled.indices)
    torch.testing.assert_close(scaled.distances / scale, plain.distances, rtol=1e-12, atol=0)


def test_copies_are_at_distance_exactly_zero_and_in_the_order_of_the_index():
    points = torch.randn(200, 7, generator=seeded()) + 50
    points[[20, 30, 150]] = points[10].clone()
    got = agrees(points, 4)
    assert got.distances[30, :3].tolist() == [0, 0, 0]
    assert got.indices[30, :3].tolist() == [10, 20, 150]
    assert (got.distances[[i for i in range(200) if i not in (10, 20, 30, 150)]] > 0).all()


def test_many_copies_are_handled():
    points = torch.randn(300, 3, generator=seeded())
    points[50:250] = 0
    got = agrees(points, 2)
    assert got.indices[100].tolist() == [50, 51]
    assert got.indices[50].tolist() == [51, 52]


def test_everybody_is_a_neighbour_when_k_is_one_less_than_n():
    points = torch.randn(9, 2, generator=seeded())
    got = agrees(points, 8)
    assert all(sorted([*row, i]) == list(range(9)) for i, row in enumerate(got.indices.tolist()))


@pytest.mark.parametrize("name", ["gaussian float32", "tight clusters", "binary"])
def test_the_block_size_changes_no_bit(name):
    whole = nearest(CASES[name], 3)
    for block in (1, 7, 1000):
        part = nearest(CASES[name], 3, block=block)
        assert torch.equal(whole.distances, part.distances)
        assert torch.equal(whole.indices, part.indices)


@given(st.integers(0, 2**31), st.integers(2, 40), st.integers(1, 5), st.sampled_from([1e-7, 1.0, 100.0]))
@settings(max_examples=60, deadline=None)
def test_grids_with_many_ties_agree_with_the_naive_twin(seed, n, d, offset):
    points = torch.randint(0, 3, (n, d), generator=seeded(seed)).double() + offset
    agrees(points, min(3, n - 1))


def test_a_rigid_motion_changes_no_distance():
    points = torch.randn(200, 5, generator=seeded(), dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(5, 5, generator=seeded(1), dtype=torch.float64))
    moved = nearest(points @ rotation + 3, 4)
    torch.testing.assert_close(moved.distances, nearest(points, 4).distances, rtol=1e-12, atol=0)


def test_limits_are_below_the_true_squared_distances():
    """The proof rests on this; tried where rounding is worst, in both precisions."""
    for name in ("gaussian float32", "far from the origin", "tight clusters", "line in float32", "outlier", "one-hot"):
        exact = CASES[name].double()
        n = len(exact)
        true = torch.stack([(exact - row).square().sum(1) for row in exact])
        for dtype in (torch.float32, torch.float64):
            proposals = neighbours._Proposals(exact, dtype)
            limits = proposals.true(proposals.limits(torch.arange(n)))
            limits.fill_diagonal_(0)
            assert (limits <= true).all(), (name, dtype)


def test_the_answer_does_not_rest_on_good_proposals(monkeypatch):
    """Useless limits prove nothing, so every row must fall back to the careful search and still be right."""
    points = CASES["gaussian float32"]
    plain = neighbours._Proposals.limits

    def useless(self, rows):
        limits = plain(self, rows)
        return torch.where(limits.isinf(), limits, limits.new_full((), -1.0))

    monkeypatch.setattr(neighbours._Proposals, "limits", useless)
    agrees(points, 3)


def test_imprecise_matrix_products_are_not_trusted():
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert neighbours._precisions() == (torch.float64,)
        agrees(CASES["gaussian float32"], 3)
    finally:
        torch.set_float32_matmul_precision(before)
    assert neighbours._precisions() == (torch.float32, torch.float64)


def test_autocast_does_not_reach_the_search():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        agrees(CASES["line in float32"], 3)


def test_points_are_not_changed_and_no_gradient_is_kept():
    points = torch.randn(50, 3, generator=seeded(), requires_grad=True)
    before = points.detach().clone()
    got = nearest(points, 2)
    assert not got.distances.requires_grad
    assert torch.equal(points.detach(), before)


def test_unique_rows_finds_first_occurrences_and_counts():
    points = torch.tensor([[1.0, 2.0], [0.0, 0.0], [1.0, 2.0], [-0.0, 0.0], [1.0, 2.0 + 1e-6], [1.0, 2.0]])
    got = unique_rows(points)
    assert got.first.tolist() == [0, 1, 4]
    assert got.counts.tolist() == [3, 2, 1]


@given(st.integers(0, 2**31), st.integers(1, 60), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_unique_rows_agree_with_a_dictionary(seed, n, d):
    points = torch.randint(0, 3, (n, d), generator=seeded(seed)).float()
    seen = {}
    for i, row in enumerate(map(tuple, points.tolist())):
        seen.setdefault(row, [i, 0])[1] += 1
    got = unique_rows(points)
    assert got.first.tolist() == [first for first, _ in seen.values()]
    assert got.counts.tolist() == [count for _, count in seen.values()]


def poisoned():
    points = torch.randn(6, 2, generator=seeded())
    points[3, 1], points[5, 0] = float("nan"), float("inf")
    return points


@pytest.mark.parametrize(
    ("points", "k", "said"),
    [
        (torch.randn(5, 2), 0, "k must be between 1 and the number of other points, 4, got 0"),
        (torch.randn(5, 2), 5, "k must be between 1 and the number of other points, 4, got 5"),
        (torch.randn(1, 2), 1, r"at least 2 points .* got \(1, 2\)"),
        (torch.randn(5, 0), 1, "at least 1 coordinate"),
        (torch.randn(5), 1, r"must be a matrix \(examples, coordinates\), got shape \(5,\)"),
        (torch.randn(5, 2, 2), 1, "must be a matrix"),
        (torch.ones(5, 2, dtype=torch.int64), 1, "must be floating point, got torch.int64"),
        (poisoned(), 1, "2 of 6 points are not finite, the first is row 3"),
    ],
)
def test_refusals(points, k, said, unchecked_shapes):
    with pytest.raises(ValueError, match=said):
        nearest(points, k)


def test_a_block_of_nothing_is_refused():
    with pytest.raises(ValueError, match="block must be at least 1, got 0"):
        nearest(torch.randn(5, 2), 1, block=0)


def test_unique_rows_refuse_what_is_not_finite():
    with pytest.raises(ValueError, match="2 of 6 points are not finite"):
        unique_rows(poisoned())
