"""Overlap: enumeration against sets and loops, and the probe on splits with planted copies."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from theorylens.bias import duplicates, probe_overlap, shared_units, split_overlap
from theorylens.bias._overlap import Overlap
from theorylens.bias._split_overlap import judge
from theorylens.core import Split, Subject, UnsuitableError
from theorylens.numerics import nearest_in
from theorylens.results import Verdict


def test_shared_rows_are_those_a_double_loop_finds() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randint(0, 6, (40, 2), generator=generator)
    b = torch.randint(0, 6, (25, 2), generator=generator)
    expected = tuple(i for i, x in enumerate(a) if any(torch.equal(x, y) for y in b))
    assert 5 < len(expected) < 35
    found = split_overlap(Split((a, a)).input_hashes, Split((b, b)).input_hashes)
    assert found.rows == expected
    assert found.share == len(expected) / 40


def test_a_copy_with_another_target_is_told_apart() -> None:
    x = torch.arange(4.0)[:, None]
    a, b = Split((x, torch.tensor([0, 1, 2, 3]))), Split((x[:3], torch.tensor([0, 1, 9])))
    found = split_overlap(a.input_hashes, b.input_hashes, a.row_hashes, b.row_hashes)
    assert found == Overlap(rows=(0, 1, 2), of=4, relabelled=1)


def test_repeats_inside_a_split_are_counted_from_the_second_on() -> None:
    x, y = torch.tensor([[1.0], [2.0], [1.0], [1.0]]), torch.tensor([0, 0, 0, 1])
    found = duplicates(Split((x, y)).input_hashes, Split((x, y)).row_hashes)
    assert found == Overlap(rows=(2, 3), of=4, relabelled=1)


def test_units_are_compared_only_where_both_splits_declare_them() -> None:
    assert shared_units(["ann", "bob", "bob"], ["bob", "cy"]) == 1
    assert shared_units(["ann"], None) is None


def test_nearest_distances_agree_with_loops_and_keep_close_pairs_far_from_the_origin() -> None:
    x, z = torch.randn(20, 4, dtype=torch.float64), torch.randn(30, 4, dtype=torch.float64)
    naive = torch.tensor([min(math.dist(a, b) for b in z.tolist()) for a in x.tolist()], dtype=torch.float64)
    torch.testing.assert_close(nearest_in(x, z), naive)
    far = z + 1e6
    copies = far[:5] + torch.tensor([1e-7, 0, 0, 0], dtype=torch.float64)
    expected = (copies - far[:5]).norm(dim=1)
    torch.testing.assert_close(nearest_in(copies, far), expected, rtol=1e-2, atol=0)
    assert float(nearest_in(far, far).max()) == 0


def subject_of(train: Tensor, test: Tensor, units: dict[str, list[int]] | None = None) -> Subject:
    def split(x: Tensor, role: str) -> Split:
        return Split((x, torch.zeros(len(x), dtype=torch.long)), units=(units or {}).get(role))

    return Subject(
        model=nn.Linear(3, 2), loss="cross_entropy", train=split(train, "train"), test=split(test, "test")
    )  # fmt: skip


def rows(n: int, seed: int) -> Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))


def test_disjoint_splits_hold_and_planted_copies_fail_with_their_indices() -> None:
    train, test = rows(80, 0), rows(40, 1)
    clean = probe_overlap(subject_of(train, test))
    assert clean.verdict is Verdict.HOLDS
    assert clean.estimate.value == 0
    assert clean.reason.render() == "none of the 40 test inputs is a training input"
    test[[3, 17]] = train[[5, 60]]
    leaky = probe_overlap(subject_of(train, test))
    assert leaky.verdict is Verdict.FAILS
    assert leaky.estimate.value == 2 / 40
    assert leaky.examples == (3, 17)
    assert "certificate" in (leaky.reading.render() if leaky.reading else "")


def test_near_copies_show_in_the_distances_and_are_only_described() -> None:
    train = rows(200, 0)
    near = probe_overlap(subject_of(train, train[:100] + 1e-4))
    assert near.verdict is Verdict.HOLDS
    assert near.settings["share closer than usual"] == 1.0
    other = probe_overlap(subject_of(train, rows(100, 1)))
    assert isinstance(other.settings["share closer than usual"], float)
    assert other.settings["share closer than usual"] < 0.1


def test_a_shared_patient_fails_even_when_no_input_is_equal() -> None:
    units = {"train": [k // 2 for k in range(80)], "test": [100 + k for k in range(39)] + [7]}
    result = probe_overlap(subject_of(rows(80, 0), rows(40, 1), units))
    assert result.verdict is Verdict.FAILS
    assert result.reason.id == "TL504.elsewhere"


def test_the_verdict_needs_every_pair_to_be_disjoint() -> None:
    none = Overlap(rows=(), of=10, relabelled=0)
    assert judge(none, ("test", "train"), 0, 0, None)[0] is Verdict.HOLDS
    assert judge(none, ("test", "train"), 3, 0, 0.01)[0] is Verdict.FAILS
    assert judge(Overlap(rows=(1,), of=10, relabelled=0), ("test", "train"), 0, 0, None)[0] is Verdict.FAILS
    assert "Near copies were not looked for" in judge(none, ("test", "train"), 0, 0, None)[2].render()


def test_one_split_cannot_overlap() -> None:
    alone = Subject(model=nn.Linear(3, 2), loss="cross_entropy", train=(rows(9, 0), torch.zeros(9, dtype=torch.long)))
    with pytest.raises(UnsuitableError, match="only one split"):
        probe_overlap(alone)
