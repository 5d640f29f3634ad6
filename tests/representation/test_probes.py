"""The probes of collapse, similarity, pieces and information: judges on bare numbers, digits against the measures."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from theorylens.core import RefusedError, Subject, UnsuitableError
from theorylens.representation import _collapse_probe as collapse
from theorylens.representation import _information_probe as information
from theorylens.representation import _pieces_probe as pieces
from theorylens.representation import _similarity_probe as similarity
from theorylens.representation import (
    cka,
    layer_profile,
    linear_pieces,
    neural_collapse,
    probe_cka,
    probe_label_information,
    probe_linear_pieces,
    probe_neural_collapse,
    two_nn,
)
from theorylens.representation._label_information import label_entropy, label_information
from theorylens.results import Estimate, Message, Statistical, Status, Unknown, Verdict


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def around(value: float, half: float = 0.1) -> Estimate:
    return Estimate(
        value=value,
        uncertainty=Statistical(
            lower=value - half, upper=value + half, level=0.95, method=Message("test.method", "made up")
        ),
    )


NOWHERE = Estimate(
    value=math.nan, uncertainty=Unknown(why=Message("test.why", "none")), trouble=Message("test.trouble", "none")
)


def said(reading: Message) -> set[str]:
    return {reading.id} | {m.id for m in reading.values.values() if isinstance(m, Message)}


@pytest.mark.parametrize(
    ("within", "init", "verdict", "ids"),
    [
        (around(0.02, 0.01), around(1.0), Verdict.DESCRIPTIVE, {"TL203.collapsed", "TL203.less"}),
        (around(0.045, 0.01), None, Verdict.DESCRIPTIVE, {"TL203.reading", "TL203.alone"}),
        (around(0.9), around(1.0), Verdict.DESCRIPTIVE, {"TL203.reading", "TL203.same"}),
        (around(1.5), around(1.0), Verdict.DESCRIPTIVE, {"TL203.reading", "TL203.more"}),
        (NOWHERE, around(1.0), Verdict.INCONCLUSIVE, {"TL203.none"}),
    ],
)
def test_collapse_is_judged_by_its_upper_end_and_its_start(within, init, verdict, ids) -> None:
    found, _, reading = collapse.judge(within, "relu", init)
    assert found is verdict
    assert said(reading) == ids


@pytest.mark.parametrize(
    ("own", "shuffled", "ids"),
    [
        (True, None, {"TL204.alone"}),
        (False, around(0.55), {"TL204.same"}),
        (True, around(0.9), {"TL204.differs"}),
    ],
)
def test_similarity_names_its_start_and_the_shuffled_control(own, shuffled, ids) -> None:
    verdict, _, reading = similarity.judge(around(0.5), "relu", own, shuffled)
    assert verdict is Verdict.DESCRIPTIVE
    assert ids < said(reading)
    assert ("fresh initialisation" in reading.render()) is not own
    assert similarity.judge(NOWHERE, "relu", own, shuffled)[0] is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("init", "part"),
    [
        (None, "TL205.alone"),
        (around(10.1), "TL205.same"),
        (around(5), "TL205.more"),
        (around(20), "TL205.fewer"),
    ],
)
def test_pieces_are_compared_with_the_start(init, part) -> None:
    verdict, _, reading = pieces.judge(around(10), init)
    assert verdict is Verdict.DESCRIPTIVE
    assert part in said(reading)


@pytest.mark.parametrize(
    ("known", "init", "verdict", "part"),
    [
        (around(0.05), around(0.5), Verdict.INCONCLUSIVE, "TL206.nothing"),
        (around(1), None, Verdict.DESCRIPTIVE, "TL206.alone"),
        (around(1), around(1.15), Verdict.INCONCLUSIVE, "TL206.same"),
        (around(1), around(1.5), Verdict.DESCRIPTIVE, "TL206.less"),
        (around(1), around(0.5), Verdict.DESCRIPTIVE, "TL206.more"),
        (NOWHERE, around(0.5), Verdict.INCONCLUSIVE, "TL206.none"),
    ],
)
def test_information_no_larger_than_that_of_random_features_explains_nothing(known, init, verdict, part) -> None:
    found, _, reading = information.judge(known, "relu", 2.3, init)
    assert found is verdict
    assert part in said(reading)


def test_on_digits_collapse_is_that_of_the_measure(subject: Subject) -> None:
    result = probe_neural_collapse(subject, rows=500)
    index = subject.split("train").subset(500)
    features, labels = subject.features("4", "train", limit=500), subject.split("train").take(index)[1]
    head = subject.net[6]
    expected = neural_collapse(features, labels, head.weight, head.bias)
    assert result.estimate.value == pytest.approx(expected.within.value, rel=1e-9)
    assert result.estimate.upper == pytest.approx(expected.within.upper, rel=1e-9)
    rows = result.payload[1].rows  # type: ignore[union-attr]
    assert [row[1] for row in rows[1:6]] == pytest.approx(
        [expected.norms, expected.angles, expected.duality, expected.disagreement, expected.fisher], rel=1e-9
    )
    assert [line.role for line in result.payload[0].lines] == ["network", "init"]  # type: ignore[union-attr]
    assert result.assumptions[0].status is Status.BROKEN  # 256 units, 50 rows a class


def test_on_digits_similarity_is_that_of_the_measure(subject: Subject) -> None:
    result = probe_cka(subject, rows=300)
    start = subject.initial()
    assert start is not None
    own, before = (s.features("4", "test", limit=300) for s in (subject, start.subject))
    expected = cka(own, before)
    assert (result.estimate.value, result.estimate.upper) == pytest.approx((expected.value, expected.upper), rel=1e-6)
    curve, matrix = result.payload[:2]
    assert curve.lines[0].y[0] == pytest.approx(1)  # type: ignore[union-attr]
    assert np.allclose(np.diag(matrix.values), 1)  # type: ignore[union-attr]


def test_an_untrained_network_is_its_own_start(subject: Subject) -> None:
    start = subject.initial()
    assert start is not None
    same = Subject(
        model=start.subject.model, loss="cross_entropy", test=subject.test, init=start.subject.net.state_dict()
    )
    assert probe_cka(same, rows=200).estimate.value == pytest.approx(1, abs=1e-9)


def test_on_digits_pieces_are_those_of_the_segments(subject: Subject) -> None:
    result = probe_linear_pieces(subject, rung=16, seed=5)
    rows = subject.split("test").subset(32)
    from theorylens.core import rng_for

    rows = rows[torch.randperm(32, generator=rng_for(5, "TL205", 16))]
    x = subject.split("test").take(rows)[0]
    found = [p.pieces for p in linear_pieces(subject.net, x[:16], x[16:])]
    assert result.estimate.value == pytest.approx(np.mean(found))
    curve = result.payload[0]
    assert curve.lines[0].y.sum() == pytest.approx(np.mean(found) - 1)  # type: ignore[union-attr]


def test_a_linear_network_has_one_piece_for_certain() -> None:
    subject = Subject(model=nn.Linear(4, 3), loss="cross_entropy", train=(torch.randn(40, 4), torch.arange(40) % 3))
    result = probe_linear_pieces(subject)
    assert (result.estimate.value, result.estimate.lower, result.estimate.upper) == (1, 1, 1)


class Named(nn.Module):
    """Takes a mask beside its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.out(torch.relu(self.first(x)) * mask)


def test_other_parts_of_an_example_stay_as_they_are_on_the_way() -> None:
    from theorylens.core import Task

    task = Task(forward=lambda model, batch: (model(batch["x"], batch["mask"]), batch["y"]))
    x, mask = torch.randn(40, 4, generator=rng()), (torch.rand(40, 6, generator=rng(1)) > 0.5).float()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Named()
    result = probe_linear_pieces(Subject(model=net, task=task, train={"x": x, "mask": mask, "y": torch.arange(40) % 3}))
    assert 1 <= result.estimate.value <= 7


@pytest.mark.parametrize(
    ("net", "x", "message"),
    [
        (nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 3)), torch.randn(40, 4), "not piecewise linear"),
        (nn.Sequential(nn.Embedding(9, 2), nn.Flatten(), nn.Linear(8, 3)), torch.ones(40, 4).long(), "whole numbers"),
        (nn.Sequential(nn.Linear(4, 41_000), nn.ReLU(), nn.Linear(41_000, 3)), torch.randn(40, 4), "too many kinks"),
        (nn.Linear(4, 3), torch.randn(1, 4), "at least two"),
    ],
)
def test_networks_without_pieces_are_unsuitable(net: nn.Module, x: torch.Tensor, message: str) -> None:
    with pytest.raises(UnsuitableError, match=message):
        probe_linear_pieces(Subject(model=net, loss="cross_entropy", train=(x, torch.arange(len(x)) % 3)))


def test_on_digits_the_class_is_known_and_shuffled_labels_are_not(subject: Subject) -> None:
    result = probe_label_information(subject, rows=400, layers=3)
    shuffled = result.control("shuffled")
    assert shuffled is not None
    assert shuffled.estimate.upper < 0.3 < 1 < result.estimate.lower
    wall = result.payload[0].walls[0].at  # type: ignore[union-attr]
    assert 2.2 < wall <= math.log(10)
    assert result.estimate.value < wall


def test_discriminant_directions_know_what_a_gaussian_pair_of_classes_knows() -> None:
    y = torch.arange(4000) % 2
    x = torch.randn(4000, 12, generator=rng(), dtype=torch.float64)
    x[:, 3] += 1.5 * y
    fitted = torch.arange(4000) < 2000
    grid = torch.linspace(-8, 9, 20_001, dtype=torch.float64)
    p = torch.stack([(-((grid - m) ** 2) / 2).exp() for m in (0.0, 1.5)]) / math.sqrt(2 * math.pi)
    truth = float(torch.trapezoid((p * (p / p.mean(0)).clamp(min=1e-300).log()).mean(0), grid))
    found = label_information(x, y, fitted)
    assert found.lower < truth < found.upper + 0.01
    rotation = torch.linalg.qr(torch.randn(12, 12, generator=rng(1), dtype=torch.float64))[0]
    assert label_information(5 * x @ rotation, y, fitted).value == pytest.approx(found.value, abs=1e-6)
    assert label_entropy(y) == pytest.approx(math.log(2), rel=1e-12)


def test_directions_are_not_found_by_chance() -> None:
    y = torch.arange(400) % 4
    noise = torch.randn(400, 300, generator=rng())
    found = label_information(noise, y, torch.arange(400) < 200)
    assert found.lower < 0 < found.upper


@pytest.mark.parametrize(
    ("x", "y", "fitted", "message"),
    [
        (torch.randn(20, 2), torch.arange(20) % 2, torch.ones(20), r"bool of shape \(20,\), got torch.float32"),
        (torch.randn(20, 2), torch.arange(20) % 2, torch.arange(20) < 20, "a fitted row and two scored ones"),
        (torch.ones(20, 2), torch.arange(20) % 2, torch.arange(20) < 10, "the same on all 10 fitted rows"),
    ],
)
def test_rows_that_cannot_be_divided_are_refused(x, y, fitted, message) -> None:
    with pytest.raises(ValueError, match=message):
        label_information(x, y, fitted)


@pytest.mark.parametrize("probe", [probe_neural_collapse, probe_label_information])
def test_without_classes_there_is_nothing_to_know(probe) -> None:
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 1))
    with pytest.raises(UnsuitableError, match="not one class per example"):
        probe(Subject(model=net, loss="mse", train=(torch.randn(30, 4), torch.randn(30, 1))))
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    with pytest.raises(UnsuitableError, match="fewer than two classes"):
        probe(Subject(model=net, loss="cross_entropy", train=(torch.randn(30, 4), torch.zeros(30).long())))


def test_a_network_without_a_hidden_layer_has_nothing_to_compare() -> None:
    data = torch.randn(40, 4), torch.arange(40) % 3
    with pytest.raises(UnsuitableError, match="no hidden layer"):
        probe_cka(Subject(model=nn.Linear(4, 3), loss="cross_entropy", train=data))
    with pytest.raises(UnsuitableError, match="give init= to Subject"):
        probe_cka(Subject(model=Scaled(), loss="cross_entropy", train=data))


class Scaled(nn.Module):
    """Has a parameter of its own, so that it cannot be initialised again."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out, self.scale = nn.Linear(4, 6), nn.Linear(6, 3), nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.scale * torch.relu(self.first(x)))


def test_dead_layers_have_no_value_and_say_so(subject: Subject) -> None:
    net = copy.deepcopy(subject.net)
    with torch.no_grad():
        net[3].weight.zero_()
        net[3].bias.fill_(-1.0)
    dead = Subject(model=net, loss="cross_entropy", train=subject.train, init=net.state_dict())
    for probe in (probe_neural_collapse, probe_cka, probe_label_information):
        result = probe(dead, rows=200, layers=3)
        assert result.verdict is Verdict.INCONCLUSIVE
        assert math.isnan(result.estimate.value)
        assert result.estimate.trouble is not None


def test_a_profile_holds_every_measure_of_every_layer(subject: Subject) -> None:
    profile = layer_profile(subject, ("(inputs)", "1", "4", "6"), rng=rng(), rows=400)
    names = [row.name for row in profile.layers]
    assert names == ["(inputs)", "1", "4", "6"]
    x = subject.features("4", "train", limit=400)
    assert profile.layers[2].dimension.value == pytest.approx(two_nn(x.double()).value, rel=1e-9)
    assert profile.layers[3].accuracy.value > 0.85
    assert profile.similarity.shape == (4, 4)
    assert [row[0] for row in profile.table.rows] == names
    assert float(profile.table.rows[2][6]) == pytest.approx(float(profile.similarity[2, 1]))  # type: ignore[arg-type]


def test_a_profile_of_an_unknown_layer_is_refused(subject: Subject) -> None:
    with pytest.raises(RefusedError, match=r"no layer 'conv9'; it has \(inputs\), 0, 1"):
        layer_profile(subject, ("conv9",), rng=rng())
    regression = Subject(model=nn.Linear(3, 1), loss="mse", train=(torch.randn(9, 3), torch.randn(9, 1)))
    with pytest.raises(RefusedError, match="needs a classifier"):
        layer_profile(regression, rng=rng())
