"""MMD: golden values, a naive twin, validity of the p-value, coverage and power, and the probe."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from theorylens.bias import mmd, mmd_test, probe_two_sample
from theorylens.bias._shift_test import judge
from theorylens.core import Split, Subject, UnsuitableError
from theorylens.results import Status, Verdict

X, Y = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [4.0]])


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def naive(x: Tensor, y: Tensor, gamma: float) -> float:
    def k(a: list[float], b: list[float]) -> float:
        return math.exp(-gamma * math.dist(a, b) ** 2)

    xs, ys = x.tolist(), y.tolist()
    n, m = len(xs), len(ys)
    within_x = sum(k(a, b) for i, a in enumerate(xs) for j, b in enumerate(xs) if i != j) / (n * (n - 1))
    within_y = sum(k(a, b) for i, a in enumerate(ys) for j, b in enumerate(ys) if i != j) / (m * (m - 1))
    return within_x + within_y - 2 * sum(k(a, b) for a in xs for b in ys) / (n * m)


def shift_truth(shift: float, gamma: float) -> float:
    """Squared MMD of N(0, 1) and N(shift, 1) over the spread within: Gaussian integrals."""
    near = (1 + 4 * gamma) ** -0.5
    return 2 * near * (1 - math.exp(-gamma * shift**2 / (1 + 4 * gamma))) / (1 - near)


def test_the_golden_values() -> None:
    assert mmd(X, Y, gamma=0.5) == pytest.approx(0.3652107419, abs=1e-10)
    assert mmd(X, Y, gamma=0.5, unbiased=False) == pytest.approx(0.9942777704, abs=1e-10)


def test_it_agrees_with_double_sums_and_so_does_every_permutation() -> None:
    x, y = torch.randn(9, 3, generator=rng(), dtype=torch.float64), torch.randn(6, 3, generator=rng(1)).double() + 1
    found = mmd_test(x, y, 5, rng(2), gamma=0.3)
    assert found.squared_mmd == pytest.approx(naive(x, y, 0.3), abs=1e-12)
    pooled, again = torch.cat([x, y]), rng(2)
    for value in found.null:
        order = torch.randperm(15, generator=again)
        assert float(value) == pytest.approx(naive(pooled[order[:9]], pooled[order[9:]], 0.3), abs=1e-12)
    assert found.p == (1 + int((found.null >= found.squared_mmd).sum())) / 6


def test_rotation_offset_order_and_the_median_scale_do_not_matter() -> None:
    x, y = torch.randn(40, 3, generator=rng(), dtype=torch.float64), torch.randn(30, 3, generator=rng(1)).double() + 0.5
    q = torch.linalg.qr(torch.randn(3, 3, generator=rng(2), dtype=torch.float64))[0]
    before = mmd(x, y)
    for a, b in ((x @ q, y @ q), (x + 1e3, y + 1e3), (x.flip(0), y), (1e4 * x, 1e4 * y), (y, x)):
        assert mmd(a, b) == pytest.approx(before, rel=1e-8)


def test_the_median_scale_is_that_of_the_pooled_squared_distances() -> None:
    pooled = torch.cat([X, Y]).double()
    squares = sorted(float((a - b) ** 2) for i, a in enumerate(pooled) for b in pooled[i + 1 :])
    assert mmd_test(X, Y, 1, rng()).gamma == pytest.approx(1 / squares[2])


def test_equal_samples_are_never_significant_even_when_all_statistics_tie() -> None:
    x = torch.tensor([[0.0], [1.0]]).repeat(20, 1)
    assert mmd_test(x, x, 64, rng()).p == 1


def test_a_clear_shift_reaches_the_smallest_p_and_never_zero() -> None:
    x = torch.randn(60, 2, generator=rng())
    assert mmd_test(x, torch.randn(50, 2, generator=rng(1)) + 3, 99, rng(2)).p == 1 / 100


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, torch.zeros(3, 2), r"shapes \(n, d\) and \(m, d\), got \(2, 1\) and \(3, 2\)"),
        (X[:1], Y, "at least 2 rows, got 1 and 2"),
        (X, Y * math.nan, "2 of 2 rows of the second sample are not finite"),
        (torch.ones(3, 1), torch.ones(4, 1), "all 7 rows are equal"),
    ],
)
def test_what_cannot_be_compared_is_refused(x: Tensor, y: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mmd(x, y)


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="positive number or 'median', got 'mean'"):
        mmd(X, Y, gamma="mean")
    with pytest.raises(ValueError, match="positive number or 'median', got -1"):
        mmd(X, Y, gamma=-1.0)
    with pytest.raises(ValueError, match="permutations must be at least 1, got 0"):
        mmd_test(X, Y, 0, rng())


@pytest.mark.slow
def test_the_test_rejects_equal_distributions_as_often_as_its_level_allows() -> None:
    generator, runs = rng(5), 2000
    rejected = {0.05: 0, 0.1: 0}
    for _ in range(runs):
        x = torch.randn(30, 2, generator=generator).exp()
        y = torch.randn(20, 2, generator=generator).exp()
        p = mmd_test(x, y, 99, generator).p
        for level in rejected:
            rejected[level] += p <= level
    for level, count in rejected.items():  # k / 100 <= level exactly: the test has its level without slack
        assert stats.binomtest(count, runs, level).pvalue > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m"), [(50, 50), (200, 100), (300, 300)])
@pytest.mark.parametrize("shift", [0.0, 0.2, 0.5, 1.0])
def test_the_interval_covers_the_effect_as_often_as_it_says(n: int, m: int, shift: float) -> None:
    generator, runs, truth = rng(int(100 * shift) + n), 2000, shift_truth(shift, 0.5)
    hits = 0
    for _ in range(runs):
        x, y = torch.randn(n, 1, generator=generator), torch.randn(m, 1, generator=generator) + shift
        effect = mmd_test(x, y, 64, generator, gamma=0.5).effect
        hits += effect.lower <= truth <= effect.upper
    assert 0.9 < hits / runs < 0.985


@pytest.mark.slow
@pytest.mark.parametrize(("d", "gamma"), [(1, 0.5), (10, 0.05)])
@pytest.mark.parametrize("n", [50, 150])
def test_the_smallest_effect_is_found_at_least_about_four_times_in_five(d: int, gamma: float, n: int) -> None:
    generator = rng(9)

    def p_of(shift: float) -> tuple[float, float]:
        x, y = torch.randn(n, d, generator=generator), torch.randn(n, d, generator=generator) + shift
        found = mmd_test(x, y, 128, generator, gamma)
        return found.p, found.smallest

    smallest = sorted(p_of(0.0)[1] for _ in range(200))[100]
    near = (1 + 4 * gamma) ** (-d / 2)
    shift = math.sqrt(-math.log(1 - smallest * (1 - near) / (2 * near)) * (1 + 4 * gamma) / gamma / d)
    power = sum(p_of(shift)[0] <= 0.05 for _ in range(500)) / 500
    assert 0.74 < power < 0.99


def subject_of(train: Tensor, test: Tensor, units: list[int] | None = None) -> Subject:
    def split(x: Tensor, u: list[int] | None = None) -> Split:
        return Split((x, torch.zeros(len(x), dtype=torch.long)), units=u)

    return Subject(
        model=nn.Linear(train.shape[1], 2), loss="cross_entropy", train=split(train, units), test=split(test)
    )  # fmt: skip


def test_a_shifted_test_split_fails_and_says_what_that_means_for_certificates() -> None:
    x, y = torch.randn(200, 3, generator=rng()), torch.randn(150, 3, generator=rng(1)) + 0.7
    result = probe_two_sample(subject_of(x, y))
    assert result.verdict is Verdict.FAILS
    assert result.assumptions[0].status is Status.BROKEN
    assert result.settings["p"] == 1 / 129
    assert "certificate" in (result.reading.render() if result.reading else "")
    assert result.estimate.lower > 0


def test_not_rejecting_is_described_and_never_holds() -> None:
    result = probe_two_sample(subject_of(torch.randn(200, 3, generator=rng()), torch.randn(150, 3, generator=rng(1))))
    assert result.verdict is Verdict.DESCRIPTIVE
    assert result.reading is not None
    assert result.reading.render().startswith("Undecided")


def test_columns_of_any_unit_count_alike_and_pictures_are_taken_as_given() -> None:
    x, y = torch.randn(150, 2, generator=rng()), torch.randn(100, 2, generator=rng(1)) + torch.tensor([0.0, 1.0])
    plain = probe_two_sample(subject_of(x, y))
    scaled = probe_two_sample(subject_of(x * torch.tensor([1e4, 1.0]), y * torch.tensor([1e4, 1.0])))
    assert scaled.verdict is plain.verdict is Verdict.FAILS
    assert scaled.settings["squared MMD"] == pytest.approx(plain.settings["squared MMD"], abs=0.15)


def test_declared_units_break_exchangeability() -> None:
    x = torch.randn(60, 3, generator=rng())
    result = probe_two_sample(subject_of(x, torch.randn(50, 3, generator=rng(1)), [k // 3 for k in range(60)]))
    assert result.assumptions[1].status is Status.BROKEN


def test_token_inputs_other_shapes_and_constants_are_unsuitable() -> None:
    words = torch.randint(0, 5, (20, 3), generator=rng())
    y = torch.zeros(20, dtype=torch.long)

    class Bag(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x.double().sum(1), x.double().mean(1)], 1)

    with pytest.raises(UnsuitableError, match="not one array of real numbers"):
        probe_two_sample(Subject(model=Bag(), loss="cross_entropy", train=(words, y), test=(words, y)))
    with pytest.raises(UnsuitableError, match="two rows in each split that differ"):
        probe_two_sample(subject_of(torch.ones(9, 3), torch.ones(8, 3)))


def test_each_branch_of_the_judge() -> None:
    x = torch.randn(60, 1, generator=rng())
    near, far = mmd_test(x[:30], x[30:], 64, rng()), mmd_test(x, x + 3, 64, rng())
    assert judge(near, 30, 30)[0] is Verdict.DESCRIPTIVE
    assert judge(far, 60, 60)[0] is Verdict.FAILS
