"""Long tails: the contract's counts, accuracy by frequency, and corrections that do what they say."""

import numpy as np
import pytest
import torch

from theorylens.bias import class_balance, effective_number, group_accuracy, ldam_margins, logit_adjustment

COUNTS = (1000, 500, 200, 100, 50, 20, 10, 5)


def test_the_contract_s_counts(golden):
    expected = golden("G5.3-1")
    for counts in (COUNTS, (1000, 500, 200, 100, 50, 20, 10)):
        found = class_balance(counts)
        values = [found.ratio, found.gini, found.effective, found.simpson]
        if values == pytest.approx(expected, rel=1e-9):
            return
    pytest.fail(f"{values} against {expected}")


def test_effective_number(golden):
    assert effective_number([1000, 5], 0.999) == pytest.approx(golden("G5.3-2"), rel=1e-9)
    assert effective_number([7], 1e-12)[0] == pytest.approx(1, rel=1e-9)
    assert effective_number([7], 1 - 1e-9)[0] == pytest.approx(7, rel=1e-6)
    assert effective_number([0, 3], 0.9)[0] == 0


def test_accuracy_by_frequency_is_counted():
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2])
    predicted = torch.tensor([0, 0, 1, 1, 0, 2, 0, 0, 0])
    head, medium, tail = group_accuracy([500, 50, 5], labels, predicted)
    assert [g.name for g in (head, medium, tail)] == ["head", "medium", "tail"]
    assert [g.examples for g in (head, medium, tail)] == [3, 2, 4]
    assert [g.accuracy.value for g in (head, medium, tail)] == pytest.approx([2 / 3, 1 / 2, 1 / 4])
    assert tail.accuracy.lower < 0.01
    assert tail.classes == (2,)


def test_the_limits_of_the_bands():
    names = group_accuracy([101, 100, 20, 19], [0], [0])
    assert [g.classes for g in names] == [(0,), (1, 2), (3,)]
    assert names[2].accuracy is None  # no row of it was scored: there is no share


def test_logit_adjustment_turns_the_posterior_of_a_skewed_source_into_that_of_an_even_one():
    likelihood = torch.rand(6, 3, generator=torch.Generator().manual_seed(0)).double()
    counts = np.array([900, 90, 10])
    skewed = (likelihood * torch.from_numpy(counts / 1000)).log()
    even = torch.softmax(logit_adjustment(skewed, counts), 1)
    assert torch.allclose(even, likelihood / likelihood.sum(1, keepdim=True), rtol=1e-10)
    assert torch.equal(logit_adjustment(skewed, counts, tau=0.0), skewed)


def test_ldam_margins_minimise_the_bound_for_two_classes():
    n = np.array([1000.0, 30.0])
    found = ldam_margins(n, largest=0.5)
    total, grid = found.sum(), np.linspace(0.01, 0.99, 9801)
    bound = 1 / (grid * total * np.sqrt(n[0])) + 1 / ((1 - grid) * total * np.sqrt(n[1]))
    assert found[0] / total == pytest.approx(grid[bound.argmin()], abs=2e-4)
    assert found.max() == 0.5


def test_refusals():
    for counts in ([], [3, -1], [0, 0], [1.5]):
        for call in (lambda c: effective_number(c, 0.9), ldam_margins, lambda c: group_accuracy(c, [0], [0])):
            with pytest.raises(ValueError, match="class counts"):
                call(counts)
    for call, match in (
        (lambda: effective_number([1], 1.0), "beta must lie"),
        (lambda: group_accuracy([1, 1], [2], [0]), "labels must be classes from 0 to 1"),
        (lambda: group_accuracy([1, 1], [0], [-1]), "predicted must be classes"),
        (lambda: group_accuracy([1, 1], [0, 1], [0]), "one length"),
        (lambda: group_accuracy([1, 1], [0], [0], head=1, tail=2), "0 <= tail <= head"),
        (lambda: ldam_margins([0, 1]), "have no margin"),
        (lambda: ldam_margins([1, 1], largest=0.0), "largest must be positive"),
        (lambda: logit_adjustment(torch.zeros(1, 2), [0, 1]), "no logarithm"),
        (lambda: logit_adjustment(torch.zeros(1, 2), [1, 1, 1]), "2 classes, counts 3"),
    ):
        with pytest.raises(ValueError, match=match):
            call()
