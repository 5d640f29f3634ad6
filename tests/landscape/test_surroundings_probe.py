"""TL309: the profile and the distance in closed form, the words on bare numbers, the probe on digits."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from theorylens.core import Subject, UnsuitableError, rng_for
from theorylens.landscape import Surface, probe_surroundings, random_direction, slice_1d
from theorylens.landscape._surroundings_probe import distance, judge, read, surroundings
from theorylens.report._plots import figure
from theorylens.results import Enclosure, Estimate, Kind, Message, Verdict

AT = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])


def plane(f):
    losses = np.array([[f(a, b) for b in AT] for a in AT])
    return Surface(at_first=AT, at_second=AT, losses=losses, directions=(torch.ones(1), torch.ones(1)))


def test_the_profile_is_the_mean_over_the_four_half_lines():
    found = surroundings(plane(lambda a, b: 1 + a + 2 * b + a * a + 3 * b * b + 100 * a * b))
    assert found.at.tolist() == [0, 0.5, 1]
    assert found.mean.tolist() == [1, 1.5, 3]  # linear parts cancel, corners are not looked at
    assert found.lowest.tolist() == [1, 0.75, 1]
    assert found.highest.tolist() == [1, 2.75, 6]


def test_the_distance_lies_between_two_points_of_the_grid():
    found = surroundings(plane(lambda a, b: abs(a) + abs(b)))
    half = distance(found, 0.8)
    assert half.value == pytest.approx(0.8)
    assert (half.lower, half.upper) == (0.5, 1.0)
    assert distance(found, 0.5).value == pytest.approx(0.5)
    beyond = distance(found, 1.5)
    assert (beyond.value, beyond.upper) == (1, math.inf)
    broken = surroundings(plane(lambda a, b: math.nan if abs(a) > 0.7 else abs(a) + abs(b)))
    assert distance(broken, 0.8).value == 1.0
    with pytest.raises(ValueError, match="the rise must be a positive number, got 0"):
        distance(found, 0.0)


def known(value, lower, upper):
    return Estimate(value=value, uncertainty=Enclosure(lower=lower, upper=upper, why=Message("x", "x")))


def test_every_branch_in_words():
    near, wide = known(0.3, 0.2, 0.4), known(1.0, 1.0, math.inf)
    own = surroundings(plane(lambda a, b: abs(a) + abs(b)))
    flat = surroundings(plane(lambda a, b: 1.0))
    assert judge(None, 1.0, 2.0)[0] is Verdict.INCONCLUSIVE
    assert "nothing to lose" in judge(None, 1.0, 2.0)[1].render()
    assert "about 30\N{NO-BREAK SPACE}% of its norm" in judge(near, 2.0, 1.0)[1].render()
    assert "more than half" in judge(wide, 2.0, 1.0)[1].render()
    cases = [
        (None, own, None, "Nothing was gained"),
        (near, own, wide, "does not rise by as much anywhere"),
        (near, own, known(0.35, 0.2, 0.4), "so the width is none of training's doing"),
        (near, own, known(0.7, 0.6, 0.8), "Before training the same rise takes 70\N{NO-BREAK SPACE}%."),
        (near, own, None, "no network before training"),
        (near, flat, None, "Not like a bowl: the mean"),
        (near, own, None, "Like a bowl: the mean"),
        (wide, own, None, "100\N{NO-BREAK SPACE}% of the filters' norms or more. "),
    ]
    for found, around, start, text in cases:
        assert text in read(found, around, start, 1.0).render()


def test_the_probe_measures_the_plane_of_its_seed(digits):
    found = probe_surroundings(digits, rows=100)
    assert (found.kind, found.verdict) == (Kind.DESCRIPTION, Verdict.DESCRIPTIVE)
    assert found.estimate.lower <= found.estimate.value <= found.estimate.upper
    matrix, profile, _ = found.payload
    assert matrix.values.shape == (11, 11)
    assert matrix.values[5, 5] == matrix.values.min() == profile.lines[0].y[0]
    assert [c.role for c in found.controls] == ["init"]
    assert found.cost.forwards == 100 * 2 * 121
    assert probe_surroundings(digits, rows=100).estimate.value == found.estimate.value
    assert probe_surroundings(digits, rows=100, seed=1).estimate.value != found.estimate.value
    for payload in found.payload:
        assert figure(payload).axes


def test_its_losses_are_those_of_slices(digits):
    everything = dataclasses.replace(digits, train=digits.split("train").take(range(60)))
    found = probe_surroundings(everything).payload[0].values[:, 5]
    seed = int(torch.randint(1 << 40, (2,), generator=rng_for(0, "TL309"))[0])
    line = slice_1d(
        digits.net, digits.split("train").take(range(60)), "cross_entropy", random_direction(digits.net, seed=seed),
        points=11,
    )  # fmt: skip
    assert found == pytest.approx(np.minimum(line.losses, found.max()), rel=1e-5)


def test_without_a_fall_or_a_start_it_says_so(digits):
    start = digits.initial().subject.net
    still = Subject(model=start, loss="cross_entropy", train=digits.split("train"), init=digits.init)
    found = probe_surroundings(still, rows=50)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reading.render().startswith("Nothing was gained")

    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(64, 10))

        def forward(self, x):
            return x @ self.w

    with pytest.raises(UnsuitableError, match="needs the network before training"):
        probe_surroundings(Subject(model=Own(), loss="cross_entropy", train=digits.split("train")))
