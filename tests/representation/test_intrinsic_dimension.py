"""TwoNN: the published formula, manifolds of known dimension, laws, coverage of the interval, and the probe."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from torch import Tensor, nn

from theorylens.core import Subject
from theorylens.representation import probe_two_nn, two_nn
from theorylens.representation._dimension_by_depth import judge
from theorylens.representation._intrinsic_dimension import from_logs, pair_variance
from theorylens.results import Estimate, Message, Statistical, Verdict


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def torus(n: int, d: int, seed: int = 0) -> Tensor:
    angle = 2 * math.pi * torch.rand(n, d, generator=rng(seed), dtype=torch.float64)
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def naive(points: Tensor) -> float:
    """n / sum log(r2/r1), written with loops."""
    total = 0.0
    rows = points.double().tolist()
    for i, a in enumerate(rows):
        r1, r2 = sorted(math.dist(a, b) for j, b in enumerate(rows) if j != i)[:2]
        total += math.log(r2 / r1)
    return len(rows) / total


def test_the_maximum_likelihood_of_ratios_two_and_four_is_the_published_value() -> None:
    logs = torch.tensor([2.0, 4.0], dtype=torch.float64).log()
    index = torch.tensor([[1], [0]])
    assert from_logs(logs, index, "mle").value == pytest.approx(0.9617966939, rel=1e-9)
    assert from_logs(logs, index, "unbiased").value == pytest.approx(0.9617966939 / 2, rel=1e-9)


def test_it_agrees_with_loops_over_pairs() -> None:
    points = torch.randn(80, 3, generator=rng())
    assert two_nn(points, "mle").value == pytest.approx(naive(points), rel=1e-10)
    assert two_nn(points).value == pytest.approx(naive(points) * 79 / 80, rel=1e-10)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_a_flat_torus_has_its_dimension(d: int) -> None:
    estimate = two_nn(torus(2000, d, seed=d))
    error = (estimate.upper - estimate.lower) / 2 / 1.96
    assert abs(estimate.value - d) < 3 * error
    assert error < 0.05 * d


def test_a_line_in_twenty_dimensions_is_a_line_even_far_from_the_origin_in_single_precision() -> None:
    t = torch.rand(400, generator=rng(), dtype=torch.float64)
    line = t[:, None] * torch.randn(1, 20, generator=rng(1), dtype=torch.float64)
    near = two_nn(line).value
    far = two_nn((line + 10).float())
    assert near == pytest.approx(1, abs=0.15)
    assert far.value == pytest.approx(near, abs=0.1)
    assert far.trouble is None


def test_distances_at_the_rounding_of_the_number_format_are_trouble() -> None:
    estimate = two_nn(torch.randn(300, 3, generator=rng()) * 2e-3 + 1000)
    assert estimate.trouble is not None
    assert "as close as the rounding of float32" in estimate.trouble.render()


def test_rotation_scale_offset_order_and_empty_directions_do_not_matter() -> None:
    points = torch.randn(300, 4, generator=rng(), dtype=torch.float64)
    before = two_nn(points)
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=rng(1), dtype=torch.float64))[0]
    order = torch.randperm(300, generator=rng(2))
    padded = torch.cat([points, torch.zeros(300, 5, dtype=torch.float64)], dim=1)
    for same in (points @ rotation, 1e-6 * points, 1e6 * points, points + 3, points[order], padded):
        after = two_nn(same)
        assert after.value == pytest.approx(before.value, rel=1e-8)
        assert after.upper == pytest.approx(before.upper, rel=1e-8)


def test_the_pair_variance_adds_each_neighbouring_pair_once() -> None:
    values = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)  # excess -2, -1, 3
    index = torch.tensor([[1], [0], [1]])  # pairs (0, 1) and (1, 2)
    assert pair_variance(values, index) == pytest.approx(4 + 1 + 9 + 2 * (2 - 3))
    assert pair_variance(torch.tensor([1.0, -1.0]), torch.tensor([[1], [0]])) == 0


def test_the_interval_says_where_it_was_not_tested() -> None:
    def method(points: Tensor) -> str:
        uncertainty = two_nn(points).uncertainty
        assert isinstance(uncertainty, Statistical)
        return uncertainty.method.id

    assert method(torus(400, 2)) == "two_nn.interval"
    assert method(torus(100, 2)) == "two_nn.interval_only"
    assert method(torch.randn(400, 12, generator=rng())) == "two_nn.interval_only"


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (torch.randn(10), r"matrix \(n, d\), got shape \(10,\)"),
        (torch.randn(3, 2), "at least 4 points, got 3"),
        (torch.tensor([[1.0], [2.0], [3.0], [math.nan], [5.0]]), "1 of 5 points have values that are not finite"),
        (torch.tensor([[1.0], [1.0], [3.0], [4.0], [6.0]]), "2 of 5 points have an exact copy; remove copies first"),
        (torch.ones(6, 2), "6 of 6 points have an exact copy; all points are equal"),
        (torch.cartesian_prod(torch.arange(3.0), torch.arange(3.0)), "equally far"),
    ],
)
def test_what_has_no_dimension_is_refused(points: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        two_nn(points)


def test_an_unknown_estimator_is_refused() -> None:
    with pytest.raises(ValueError, match="'unbiased' or 'mle', got 'best'"):
        two_nn(torch.randn(9, 2), "best")


@pytest.mark.slow
@pytest.mark.parametrize("n", [300, 2000])
@pytest.mark.parametrize("d", [1, 2, 3, 4])
def test_the_interval_covers_the_dimension_of_flat_tori_as_often_as_it_says(n: int, d: int) -> None:
    source = np.random.default_rng(10 * n + d)
    covered, values, runs = 0, [], 2000
    for _ in range(runs):
        x = source.random((n, d))
        distance, index = cKDTree(x, boxsize=1).query(x, 3)
        logs = torch.from_numpy(np.log(distance[:, 2] / distance[:, 1]))
        estimate = from_logs(logs, torch.from_numpy(index[:, 1:]), "unbiased")
        covered += estimate.lower <= d <= estimate.upper
        values.append(estimate.value)
    assert 0.92 - 0.015 < covered / runs < 0.97 + 0.015
    assert abs(np.mean(values) - d) < 4 * np.std(values) / math.sqrt(runs) + 0.01 * d


@pytest.mark.slow
@pytest.mark.parametrize("d", [1, 2])
def test_the_public_route_covers_on_tori_embedded_in_space(d: int) -> None:
    hits = sum((e := two_nn(torus(300, d, seed))).lower <= d <= e.upper for seed in range(2000))
    assert 0.905 < hits / 2000 < 0.985


def around(value: float, half: float = 0.3) -> Estimate:
    method = Message("test.method", "made up")
    return Estimate(
        value=value, uncertainty=Statistical(lower=value - half, upper=value + half, level=0.95, method=method)
    )


@pytest.mark.parametrize(
    ("value", "n", "control", "verdict", "said"),
    [
        (8.0, 255, None, Verdict.INCONCLUSIVE, "TL201.reading_unresolved"),
        (8.0, 256, None, Verdict.DESCRIPTIVE, "TL201.reading"),
        (10.5, 5000, around(5), Verdict.DESCRIPTIVE, "TL201.reading_low"),
        (5.0, 1000, around(5.5), Verdict.DESCRIPTIVE, "TL201.same"),
        (5.0, 1000, around(7), Verdict.DESCRIPTIVE, "TL201.changed"),
        (5.0, 1000, None, Verdict.DESCRIPTIVE, "TL201.alone"),
    ],
)
def test_the_reading_names_too_few_rows_the_ceiling_and_the_control(
    value: float, n: int, control: Estimate | None, verdict: Verdict, said: str
) -> None:
    found, _, reading = judge(around(value), n, 64, "relu", control)
    assert found is verdict
    assert said in {reading.id} | {m.id for m in reading.values.values() if isinstance(m, Message)}


def test_on_digits_every_layer_is_as_two_nn_finds_it(subject: Subject) -> None:
    result = probe_two_nn(subject, rows=400)
    curve, table = result.payload
    assert [line.role for line in curve.lines] == ["network", "init"]  # type: ignore[union-attr]
    names = [row[0] for row in table.rows]  # type: ignore[union-attr]
    assert names[0] == "(inputs)"
    assert result.settings["layer"] == "4"  # the activation that feeds the last linear layer
    for name, value in zip(names, curve.lines[0].y, strict=True):  # type: ignore[union-attr]
        x = subject.split("test").take(subject.split("test").subset(400))[0]
        points = x.flatten(1) if name == "(inputs)" else subject.features(str(name), "test", limit=400)
        assert value == pytest.approx(two_nn(points.unique(dim=0)).value, rel=1e-6)  # type: ignore[no-untyped-call]
    assert result.estimate.value == curve.lines[0].y[names.index("4")]  # type: ignore[union-attr]
    assert result.control("init") is not None


def test_copies_are_left_out_and_counted() -> None:
    x = torch.randn(100, 6, generator=rng())
    x = torch.cat([x, x[:30]])
    net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2))
    result = probe_two_nn(Subject(model=net, loss="cross_entropy", train=(x, torch.arange(130) % 2)))
    assert result.assumptions[0].evidence is not None
    assert result.assumptions[0].evidence.render() == "30 of 130 rows were exact copies and were left out"
    assert result.estimate.value == pytest.approx(two_nn(net[:2](x[:100]).detach()).value, rel=1e-5)


def test_dead_layers_have_no_dimension_and_say_so() -> None:
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.fill_(-1.0)
    x = torch.randn(50, 6, generator=rng())
    result = probe_two_nn(Subject(model=net, loss="cross_entropy", train=(x, torch.arange(50) % 2)))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert math.isnan(result.estimate.value)
    assert result.estimate.trouble is not None
    assert result.estimate.trouble.render() == "only 1 rows are different; give more examples"


def test_many_layers_are_thinned_but_the_last_hidden_one_stays() -> None:
    pieces: list[nn.Module] = []
    for _ in range(12):
        pieces += [nn.Linear(5, 5), nn.Tanh()]
    net = nn.Sequential(*pieces, nn.Dropout(0.1), nn.Linear(5, 3), nn.LogSoftmax(1))
    x = torch.randn(60, 5, generator=rng())
    result = probe_two_nn(Subject(model=net, loss=nn.NLLLoss(), train=(x, torch.arange(60) % 3)))
    names = str(result.settings["layers"]).split(", ")
    assert len(names) == 8
    assert names[0] == "(inputs)"
    assert result.settings["layer"] == "23"
    assert "23" in names
    assert "24" not in names
