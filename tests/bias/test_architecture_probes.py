"""What the probes of order, attention and data structure say: branches on bare numbers, refusals, real networks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from theorylens.bias import (
    DataStructure,
    attention_distance,
    attention_weights,
    entropy_share,
    probe_attention,
    probe_data_structure,
    probe_permutation,
)
from theorylens.bias._attention_probe import judge as judge_attention
from theorylens.bias._rearrangement import judge as judge_order
from theorylens.bias._structure_probe import judge as judge_structure
from theorylens.core import Subject, UnsuitableError
from theorylens.results import Estimate, Message, Statistical, Verdict


def estimated(value: float, lower: float, upper: float) -> Estimate:
    method = Message("test.method", "made up")
    return Estimate(value=value, uncertainty=Statistical(lower=lower, upper=upper, level=0.95, method=method))


NOTHING = estimated(0.0, -0.02, 0.02)


def said(message: Message) -> set[str]:
    return {message.id, *(m.id for m in message.values.values() if isinstance(m, Message))}


class Tagger(nn.Module):
    """Attention over tokens, with or without positions, averaged."""

    def __init__(self, positions: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(12, 8)
        self.places = nn.Parameter(torch.randn(7, 8)) if positions else None
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.1)
        self.second = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.1)
        self.out = nn.Linear(8, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        x = x if self.places is None else x + self.places
        return self.out(self.second(self.layer(x)).mean(1))


TOKENS = torch.randint(0, 12, (60, 7), generator=torch.Generator().manual_seed(0))


def texts(positions: bool) -> Subject:
    return Subject(model=Tagger(positions), loss="cross_entropy", train=(TOKENS, TOKENS[:, 0] % 3))


# ---- order of the units ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("control", "distance", "decided", "verdict", "ids"),
    [
        (None, 0.5, 3, Verdict.DESCRIPTIVE, {"TL507.reading", "TL507.alone"}),
        (estimated(0.22, 0.15, 0.3), 0.5, 3, Verdict.DESCRIPTIVE, {"TL507.reading", "TL507.same"}),
        (estimated(0.6, 0.5, 0.7), 0.5, 3, Verdict.DESCRIPTIVE, {"TL507.reading", "TL507.changed"}),
        (None, 1e-9, 3, Verdict.DESCRIPTIVE, {"TL507.set"}),
        (None, 0.5, 1, Verdict.INCONCLUSIVE, {"TL507.one_class"}),
    ],
)
def test_order_is_judged(control, distance, decided, verdict, ids) -> None:
    found, _, reading = judge_order(estimated(0.2, 0.1, 0.3), control, distance, 1e-4, decided)
    assert found is verdict
    assert said(reading) == ids


def test_attention_without_positions_sees_a_set_and_with_positions_an_order() -> None:
    assert probe_permutation(texts(False)).reading.id == "TL507.set"
    assert probe_permutation(texts(False)).estimate.value == 0
    found = probe_permutation(texts(True))
    assert found.settings["relative change of the outputs"] > 0.01
    assert found.settings["units"] == 7


def test_the_share_for_a_fixed_rearrangement_is_that_of_a_loop(subject: Subject) -> None:
    result = probe_permutation(subject, rows=50)
    split = subject.split("test")
    x, y = split.take(split.subset(50))
    forest, table = result.payload
    with torch.no_grad():
        before = subject.net(x).argmax(1)
        after = subject.net(x.flip(-1)).argmax(1)
    row = next(r for r in table.rows if isinstance(r[0], Message) and r[0].id == "TL507.flip")
    assert row[1] == pytest.approx(float((after != before).double().mean()), abs=1e-12)
    assert row[2] == pytest.approx(float((after != y).double().mean()), abs=1e-12)
    assert len(forest.names) == 2 * 7  # the random order and six turns, the network and before training
    assert result.estimate.value > 0.3


def test_every_row_gets_an_order_of_its_own_and_units_move_whole() -> None:
    from theorylens.bias._rearrangement import _changes

    x = torch.arange(2 * 3 * 4.0).reshape(1, 2, 3, 4).expand(40, 2, 3, 4)
    moved = _changes(x, (2, 3), torch.Generator().manual_seed(0))["random order"](x)
    assert len({tuple(row.flatten().tolist()) for row in moved}) == 40
    torch.testing.assert_close(moved[:, 1] - moved[:, 0], torch.full((40, 3, 4), 12.0))  # channels stay together
    steps = torch.arange(5.0)[None, :, None] + torch.tensor([0.0, 100.0])
    mixed = _changes(steps, (1,), torch.Generator().manual_seed(1))["random order"](steps)
    assert sorted(mixed[0, :, 0].tolist()) == [0, 1, 2, 3, 4]
    torch.testing.assert_close(mixed[..., 1] - mixed[..., 0], torch.full((1, 5), 100.0))


def test_one_dimensional_convolutions_move_along_their_last_axis() -> None:
    x = torch.randn(30, 2, 12)
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 3))
    found = probe_permutation(Subject(model=model, loss="cross_entropy", train=(x, torch.arange(30) % 3)))
    assert found.settings["units"] == 12


def test_inputs_without_an_order_are_unsuitable() -> None:
    flat = Subject(model=nn.Linear(4, 3), loss="cross_entropy", train=(torch.randn(20, 4), torch.arange(20) % 3))
    with pytest.raises(UnsuitableError, match="features of a vector have no order"):
        probe_permutation(flat)
    line = Subject(model=nn.Linear(4, 1), loss="mse", train=(torch.randn(20, 4), torch.randn(20, 1)))
    with pytest.raises(UnsuitableError, match="does not choose between classes"):
        probe_permutation(line)
    with pytest.raises(UnsuitableError, match="give train= or test="):
        probe_permutation(Subject(model=nn.Linear(4, 3), loss="cross_entropy"))


# ---- attention ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "control", "ids"),
    [
        (0.3, None, {"TL506.narrow", "TL506.alone", "TL506.far"}),
        (0.7, estimated(0.7, 0.6, 0.8), {"TL506.partly", "TL506.same", "TL506.far"}),
        (0.95, estimated(0.5, 0.4, 0.6), {"TL506.everywhere", "TL506.changed", "TL506.far"}),
    ],
)
def test_attention_is_judged(value: float, control: Estimate | None, ids: set[str]) -> None:
    verdict, _, reading = judge_attention(estimated(value, value - 0.02, value + 0.02), control, 1.5, 2.0)
    assert verdict is Verdict.DESCRIPTIVE
    assert said(reading) == ids


def test_the_probe_is_the_mean_over_layers_heads_and_rows() -> None:
    one = texts(True)
    found = probe_attention(one, rows=40)
    x = one.split("train").take(one.split("train").subset(40))[0]
    one.net.eval()
    layers = attention_weights(one.net, lambda: one.net(x))
    assert [w.name for w in layers] == ["layer.self_attn", "second.self_attn"]
    rows = torch.stack([entropy_share(w.weights).mean(1) for w in layers]).mean(0)
    assert found.estimate.value == pytest.approx(float(rows.mean()), rel=1e-9)
    far = sum(float(attention_distance(w.weights).mean()) for w in layers) / 2
    assert found.settings["distance"] == pytest.approx(far, rel=1e-9)
    assert found.settings["uniform distance"] == pytest.approx((49 - 1) / 21, rel=1e-12)
    kinds = [type(p).__name__ for p in found.payload]
    assert kinds == ["Curve", "Curve", "Curve", "Matrix", "Table"]
    assert len(found.payload[-1].rows) == 4


def test_networks_without_attention_or_with_nothing_to_look_at_are_unsuitable(subject: Subject) -> None:
    with pytest.raises(UnsuitableError, match="was not seen to attend"):
        probe_attention(subject)
    with pytest.raises(UnsuitableError, match="give train= or test="):
        probe_attention(Subject(model=nn.Linear(4, 3), loss="cross_entropy"))

    class Blind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            closed = torch.full((x.shape[1], x.shape[1]), -torch.inf)
            seen = nn.functional.scaled_dot_product_attention(x, x, x, closed)
            return self.out(torch.nan_to_num(seen).mean(1))

    blind = Subject(model=Blind(), loss="cross_entropy", train=(torch.randn(20, 5, 4), torch.arange(20) % 3))
    with pytest.raises(UnsuitableError, match="no key to look at"):
        probe_attention(blind)


# ---- structure of the data ---------------------------------------------------------------------------------------


def structure(change: Estimate, dense: Estimate, error: float, shift: Estimate | None = None) -> DataStructure:
    return DataStructure(
        kind="image", dense_error=NOTHING,
        scrambled=change, dense_scrambled=dense, error=estimated(error, error - 0.02, error + 0.02),
        transformed={} if shift is None else {"shift": shift},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "dense", "error", "shift", "verdict", "ids"),
    [
        (estimated(0.2, 0.1, 0.3), NOTHING, 0.1, None, Verdict.DESCRIPTIVE, {"TL508.local", "TL508.no_shift"}),
        (NOTHING, NOTHING, 0.1, estimated(-0.1, -0.2, -0.05), Verdict.INCONCLUSIVE,
         {"TL508.not_shown", "TL508.shift_helps"}),
        (estimated(0.1, 0.01, 0.2), estimated(0.05, 0.0, 0.1), 0.1, estimated(0.1, 0.05, 0.2), Verdict.INCONCLUSIVE,
         {"TL508.unclear", "TL508.shift_hurts"}),
        (estimated(0.2, 0.1, 0.3), NOTHING, 0.1, NOTHING, Verdict.DESCRIPTIVE, {"TL508.local", "TL508.shift_nothing"}),
        (estimated(0.2, 0.1, 0.3), NOTHING, 0.5, None, Verdict.INCONCLUSIVE, {"TL508.chance"}),
    ],
)  # fmt: skip
def test_structure_is_judged(change, dense, error, shift, verdict, ids) -> None:
    found, _, reading = judge_structure(structure(change, dense, error, shift), 0.5)
    assert found is verdict
    assert said(reading) == ids


def test_bars_of_two_pixels_have_neighbourhoods() -> None:
    from .test_comparison import edges

    x, y = edges(270, 0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    found = probe_data_structure(Subject(model=model, loss="cross_entropy", train=(x, y)))
    assert found.reading is not None
    assert found.reading.id == "TL508.local"
    assert found.estimate.lower > 0
    assert found.controls[0].estimate.lower <= 0


def test_data_without_order_or_classes_or_enough_rows_are_unsuitable() -> None:
    def subject(x: Tensor, y: Tensor, loss: str = "cross_entropy", outputs: int = 3) -> Subject:
        width = x[0].numel()
        return Subject(model=nn.Sequential(nn.Flatten(), nn.Linear(width, outputs)), loss=loss, train=(x, y))

    labels = torch.arange(200) % 3
    with pytest.raises(UnsuitableError, match="not images or sequences"):
        probe_data_structure(subject(torch.randn(200, 9), labels))
    with pytest.raises(UnsuitableError, match="not one class per example"):
        probe_data_structure(subject(torch.randn(200, 1, 3, 3), torch.randn(200, 1), "mse", 1))
    with pytest.raises(UnsuitableError, match="60 training examples are too few"):
        probe_data_structure(subject(torch.randn(60, 1, 3, 3), labels[:60]))
    copies = torch.randn(60, 1, 3, 3).repeat(4, 1, 1, 1)
    with pytest.raises(UnsuitableError, match="60 training examples are too few"):
        probe_data_structure(subject(copies, labels[:60].repeat(4)))
