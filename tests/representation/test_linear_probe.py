"""Linear probes: closed forms, scikit-learn as the other library, laws, and the probe on digits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from theorylens.core import Subject, UnsuitableError
from theorylens.representation._linear_probe import linear_probe
from theorylens.representation._readout_by_depth import judge, probe_linear_probe
from theorylens.results import Estimate, Message, Statistical, Status, Verdict


def blobs(n: int, units: int, seed: int = 0, gap: float = 2.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    centres = gap * torch.randn(3, units, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    return centres[y] + torch.randn(n, units, generator=generator, dtype=torch.float64), y


def test_separated_classes_are_read_without_error() -> None:
    read = linear_probe(*blobs(90, 5, 0, gap=20), *blobs(60, 5, 1, gap=20))
    assert read.accuracy.value == 1
    assert read.accuracy.upper == 1
    assert read.accuracy.lower == pytest.approx(0.025 ** (1 / 60), rel=1e-9)


def test_a_circle_inside_a_circle_is_not_linearly_readable() -> None:
    angle = torch.linspace(0, 2 * np.pi, 401, dtype=torch.float64)[:-1]
    y = torch.arange(400) % 2
    x = torch.stack([angle.cos(), angle.sin()], 1) * (1 + y[:, None])
    assert linear_probe(x, y, x, y).accuracy.value < 0.65
    radius = (x**2).sum(1, keepdim=True)
    assert linear_probe(radius, y, radius, y).accuracy.value == 1


@pytest.mark.parametrize(("units", "gap"), [(4, 0.5), (300, 0.1)])
def test_predictions_are_those_of_scikit_learn_without_the_rotation(units: int, gap: float) -> None:
    x, y = blobs(120, units, 0, gap)
    z, w = blobs(200, units, 1, gap)
    scaler = StandardScaler().fit(x.numpy())
    model = LogisticRegression(C=1.0, max_iter=5000, tol=1e-8).fit(scaler.transform(x.numpy()), y.numpy())
    expected = model.predict(scaler.transform(z.numpy())) == w.numpy()
    read = linear_probe(x, y, z, w)
    assert (read.correct.numpy() == expected).mean() >= 0.99
    assert 0.4 < expected.mean() < 1


def test_scale_offset_order_of_units_and_orthogonal_twins_do_not_matter() -> None:
    (x, y), (z, w) = blobs(120, 6, 0, gap=0.7), blobs(200, 6, 1, gap=0.7)
    before = linear_probe(x, y, z, w).correct
    assert torch.equal(linear_probe(1000 * x + 5, y, 1000 * z + 5, w).correct, before)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(linear_probe(x[:, order], y, z[:, order], w).correct, before)
    dead = torch.full((120, 1), 3.0, dtype=torch.float64), torch.full((200, 1), 4.0, dtype=torch.float64)
    assert torch.equal(linear_probe(torch.cat([x, dead[0]], 1), y, torch.cat([z, dead[1]], 1), w).correct, before)


def test_constant_features_give_the_largest_class() -> None:
    y = torch.tensor([0, 0, 0, 1, 2])
    read = linear_probe(torch.ones(5, 3), y, torch.ones(4, 3), torch.tensor([0, 0, 1, 2]))
    assert read.accuracy.value == 0.5


def test_the_interval_is_the_exact_binomial_one() -> None:
    read = linear_probe(*blobs(90, 5, 0, gap=0.5), *blobs(150, 5, 1, gap=0.5))
    k = int(read.correct.sum())
    assert 75 < k < 150
    assert read.accuracy.value == k / 150
    assert read.accuracy.lower == pytest.approx(stats.beta.ppf(0.025, k, 151 - k), rel=1e-8)
    assert read.accuracy.upper == pytest.approx(stats.beta.ppf(0.975, k + 1, 150 - k), rel=1e-8)


def test_not_converged_is_trouble_and_no_warning() -> None:
    read = linear_probe(*blobs(90, 5, 0), *blobs(60, 5, 1), steps=1)
    assert read.accuracy.trouble is not None
    assert read.accuracy.trouble.render() == "the probe did not converge in 1 steps; raise steps"
    assert linear_probe(*blobs(90, 5, 0), *blobs(60, 5, 1)).accuracy.trouble is None


def test_bad_input_is_refused() -> None:
    x, y = blobs(30, 4)
    with pytest.raises(
        ValueError, match=r"fitted rows need features \(n, units\) and labels \(n,\), got \(30, 4\) and"
    ):
        linear_probe(x, y[:-1], x, y)
    with pytest.raises(ValueError, match="scored rows have features that are not finite"):
        linear_probe(x, y, x * torch.nan, y)
    with pytest.raises(ValueError, match="30 fitted rows have one class"):
        linear_probe(x, torch.zeros(30, dtype=torch.long), x, y)
    with pytest.raises(ValueError, match="fitted rows have 4 units, scored rows 3; take one layer"):
        linear_probe(x, y, x[:, :3], y)


def around(value: float, half: float = 0.05) -> Estimate:
    method = Message("test.method", "made up")
    return Estimate(
        value=value, uncertainty=Statistical(lower=value - half, upper=value + half, level=0.95, method=method)
    )


@pytest.mark.parametrize(
    ("value", "init", "verdict", "said"),
    [
        (0.12, None, Verdict.INCONCLUSIVE, "TL202.chance"),
        (0.9, None, Verdict.DESCRIPTIVE, "TL202.alone"),
        (0.9, around(0.85), Verdict.INCONCLUSIVE, "TL202.same"),
        (0.7, around(0.9), Verdict.DESCRIPTIVE, "TL202.less"),
        (0.9, around(0.6), Verdict.DESCRIPTIVE, "TL202.more"),
    ],
)
def test_the_verdict_depends_on_chance_and_the_untrained_layer(
    value: float, init: Estimate | None, verdict: Verdict, said: str
) -> None:
    found, reason, reading = judge(around(value), "relu", 0.1, init, around(0.5))
    assert found is verdict
    assert said in {reason.id} | {m.id for m in reading.values.values() if isinstance(m, Message)}


def test_without_inputs_the_reading_compares_with_a_constant_answer() -> None:
    _, _, reading = judge(around(0.9), "relu", 0.1, around(0.6), None)
    assert "where a constant answer gets 10.0\N{NO-BREAK SPACE}%." in reading.render()


def test_on_digits_the_trained_layer_is_read_better_than_shuffled_labels_allow(subject: Subject) -> None:
    result = probe_linear_probe(subject, rows=600)
    noise = result.control("shuffled")
    assert noise is not None
    assert result.estimate.value > 0.9
    assert noise.estimate.value < 0.2
    assert result.control("init") is not None
    assert result.settings["scored on"] == "validation"
    assert result.estimate.trouble is None
    (curve,) = [p for p in result.payload if type(p).__name__ == "Curve"]
    y = subject.split("validation").take(subject.split("validation").subset(300))[1]
    assert curve.walls[0].at == pytest.approx(float(y.bincount().max()) / len(y))  # type: ignore[union-attr]
    assert curve.lines[0].x[0] == 0  # type: ignore[union-attr]
    assert probe_linear_probe(subject, rows=600).estimate == result.estimate


def test_without_validation_data_the_other_half_scores_and_that_is_said(subject: Subject) -> None:
    bare = Subject(model=subject.net, loss="cross_entropy", train=subject.train, test=subject.test)
    result = probe_linear_probe(bare, rows=400)
    assert result.settings["scored on"] == "train"
    assert result.assumptions[0].status is Status.BROKEN
    assert (result.settings["rows fitted"], result.settings["rows scored"]) == (200, 200)


def test_the_test_split_is_never_read(subject: Subject) -> None:
    class Forbidden(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
        def __len__(self) -> int:
            return 5

        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
            raise AssertionError("the test split is kept for certificates")

    guarded = Subject(model=subject.net, loss="cross_entropy", train=subject.train, test=Forbidden())
    assert probe_linear_probe(guarded, rows=200).estimate.value > 0.8


def test_regression_and_single_classes_are_unsuitable() -> None:
    x = torch.randn(20, 4)
    line = Subject(model=nn.Linear(4, 1), loss="mse", train=(x, torch.randn(20, 1)))
    with pytest.raises(UnsuitableError, match="not one class per example"):
        probe_linear_probe(line)
    one = Subject(model=nn.Linear(4, 2), loss="cross_entropy", train=(x, torch.zeros(20, dtype=torch.long)))
    with pytest.raises(UnsuitableError, match="holds a single class"):
        probe_linear_probe(one)


def test_one_logit_and_ignored_rows_are_understood() -> None:
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).float()[:, None]
    single = Subject(model=nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1)), loss="binary_cross_entropy",
                     train=(x, y))  # fmt: skip
    assert probe_linear_probe(single).settings["rows scored"] == 100
    labels = (x[:, 0] > 0).long()
    labels[:50] = -100
    holes = Subject(model=nn.Linear(4, 2), loss="cross_entropy", train=(x, labels))
    assert probe_linear_probe(holes).settings["rows scored"] == 75
