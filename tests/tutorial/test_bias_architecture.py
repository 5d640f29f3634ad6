"""Section 5.1 of the tutorial (and 7.3, choosing an architecture): its defects, each with a test that would be red."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from theorylens import bias
from theorylens.training import Optimisation

FAST = Optimisation(optimizer="adam", lr=1e-2, batch_size=32, epochs=8)


def images(n: int = 8, channels: int = 1, side: int = 8) -> Tensor:
    return torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(0)).double()


def gnn(aggregate: str):
    """One layer of message passing over equal features, node outputs."""

    def model(features: Tensor, adjacency: Tensor) -> Tensor:
        total = adjacency @ features
        degrees = adjacency.sum(1, keepdim=True).clamp(min=1)
        if aggregate == "max":
            seen = torch.where(adjacency[:, :, None] > 0, features[None], -torch.inf)
            total = torch.where(seen.isfinite().any(1), seen.amax(1), 0.0)
        return torch.tanh(features + (total / degrees if aggregate == "mean" else total))

    return model


def test_channels_are_not_space() -> None:
    """The tutorial gives a 3x3 kernel on 3 channels 27/3072 of the input, a 7x7 one 343/3072."""
    for side in (3, 7):
        model = nn.Sequential(nn.Conv2d(3, 8, side, padding=side // 2))
        (row,) = bias.convolution_counts(model, (3, 32, 32))
        assert row.connections == pytest.approx(side**2 / 1024, rel=1e-12)
        assert bias.receptive_field(model, (3, 32, 32)).size == (side, side)


def test_sharing_counts_output_positions_and_is_no_inverse_ratio() -> None:
    (row,) = bias.convolution_counts(nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1)), (3, 32, 32))
    assert row.sharing == 16 * 16
    assert row.sharing != pytest.approx(1 / row.connections)


def test_equivariance_is_measured_and_fails_for_stride_padding_and_flattening() -> None:
    """The tutorial prints True for every convolutional network."""
    torch.manual_seed(0)
    exact = nn.Conv2d(1, 3, 3, padding=1, padding_mode="circular").double()
    padded = nn.Conv2d(1, 3, 3, padding=1).double()
    strided = nn.Conv2d(1, 3, 3, stride=2, padding=1, padding_mode="circular").double()
    flat = nn.Sequential(exact, nn.Flatten(), nn.Linear(3 * 64, 4).double())
    found = {
        name: bias.equivariance_curve(net, images(), shifts=[1]).lines[0].y[0]
        for name, net in {"exact": exact, "padded": padded, "flat": flat}.items()
    }
    assert found["exact"] < 1e-12
    assert found["padded"] > 0.05
    assert found["flat"] > 0.05
    (layer,) = bias.equivariance_error(nn.Sequential(strided), images())
    assert layer.one_pixel > 0.05


def test_attention_is_only_equivariant_without_positions_and_mask() -> None:
    """The tutorial prints True whatever the positions."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).double().eval()
    x = torch.randn(3, 6, 8).double()
    mask = nn.Transformer.generate_square_subsequent_mask(6, dtype=torch.float64)
    places = torch.randn(6, 8).double()
    assert bias.permutation_test(layer, x).equivariant
    assert not bias.permutation_test(lambda z: layer(z + places), x).equivariant
    assert not bias.permutation_test(lambda z: layer(z, src_mask=mask), x).equivariant


def test_the_cost_of_attention_depends_on_its_width(golden) -> None:
    assert bias.attention_macs(100, 512, 8) == golden("G5.1-3") != 100**2
    assert bias.attention_macs(100, 1024, 8) > 2 * bias.attention_macs(100, 512, 8)


def test_heads_must_divide_the_width() -> None:
    """The tutorial gives each of 7 heads 512 // 7 = 73 of 512 dimensions and loses one."""
    with pytest.raises(ValueError, match="7 heads cannot share a width of 512"):
        bias.attention_macs(100, 512, 7)


def test_mean_and_max_do_not_get_the_good_word_of_sums() -> None:
    """The tutorial calls all three the same; only the sum tells all multisets apart."""
    assert bias.aggregator_collisions(lambda x: x.sum(0)) == ()
    assert bias.aggregator_collisions(lambda x: x.mean(0))
    assert bias.aggregator_collisions(lambda x: x.amax(0))
    told = {kind: sum(s.model for s in bias.separations(gnn(kind), 2)) for kind in ("sum", "mean", "max")}
    assert told == {"sum": 3, "mean": 1, "max": 1}  # the last two only count nodes: rings of 4 and of 5


def test_equivariance_of_a_graph_network_is_tested_on_the_network() -> None:
    """A network that reads the order of its nodes is caught, whatever its aggregation is called."""
    graph = torch.tensor([[0.0, 1, 1, 0], [1, 0, 1, 1], [1, 1, 0, 1], [0, 1, 1, 0]])
    x = torch.randn(4, 2)
    order = torch.arange(4.0)[:, None]
    assert bias.graph_permutation_test(gnn("sum"), x, graph).equivariant
    assert not bias.graph_permutation_test(lambda h, a: gnn("sum")(h + order, a), x, graph).equivariant


def test_isomorphism_is_not_decided_by_message_passing(golden) -> None:
    """The tutorial claims invariance under isomorphism as if it were a test of it."""
    found = {s.pair: s for s in bias.separations(gnn("sum"), 2)}
    pair = found["ring of 6 and two of 3"]
    assert pair.model == pair.colours == golden("G5.1-4")


def test_degrees_are_the_tutorials_where_it_is_right(golden) -> None:
    """S5.1-1: mean 2.50, maximum 3, the one thing its code computes."""
    legitimate = {"S5.1-1": (2.50, 3)}
    graph = torch.tensor([[0.0, 1, 1, 0], [1, 0, 1, 1], [1, 1, 0, 1], [0, 1, 1, 0]])
    facts = bias.graph_facts(graph)
    assert (facts.mean_degree, facts.max_degree) == legitimate["S5.1-1"]
    assert [facts.mean_degree, facts.max_degree, facts.spectral_gap] == pytest.approx(golden("G5.1-5"), rel=1e-9)


def test_an_asymmetric_adjacency_is_refused() -> None:
    with pytest.raises(ValueError, match="not symmetric"):
        bias.graph_facts(torch.tensor([[0.0, 1], [0, 0]]))
    with pytest.raises(ValueError, match="is square"):
        bias.graph_facts(torch.zeros(2, 3))


def test_recurrence_is_measured() -> None:
    """The tutorial names recurrent networks and has no code: memory and time shifts of a real one."""
    torch.manual_seed(0)
    rnn = nn.RNN(2, 5, batch_first=True).double()
    with torch.no_grad():
        rnn.weight_hh_l0.mul_(0.5)
    x, prefix = torch.randn(4, 20, 2).double(), torch.randn(4, 5, 2).double()
    memory = bias.jacobian_by_lag(rnn, x)
    assert memory.rate is not None
    assert memory.rate < math.log(0.9)
    assert float(bias.time_shift_errors(rnn, x, prefix)[-1]) < 1e-3 * float(bias.time_shift_errors(rnn, x, prefix)[0])


def test_a_comparison_trains_every_kind_of_network_on_the_data() -> None:
    """The tutorial compares two dictionaries of constants; a recurrent and a graph network are not in it."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(90, 1, 6, 6, generator=rng)
    y = (x[:, 0, 2, 2] > 0).long()
    found = bias.compare_architectures(
        (x[:60], y[:60]), (x[60:], y[60:]), parameters=500,
        budget=bias.Budget(sizes=(30, 60), seeds=2, optimisation=FAST),
    )  # fmt: skip
    assert set(found.names) == {"mlp", "cnn", "rnn", "transformer", "graph"}
    assert found.errors.shape == (5, 2, 2, 30)
    assert max(found.parameters) < 1.5 * min(found.parameters)
    assert len({tuple(found.errors[k].flatten()) for k in range(5)}) > 1
    assert found.moved.shape == (5, 4)


def test_the_choice_of_an_architecture_reads_the_data_and_no_flags() -> None:
    """The tutorial answers by if/elif on declared flags: the same shape of data must be able to give both answers."""
    rng = torch.Generator().manual_seed(0)
    how = bias.Budget(seeds=3, optimisation=FAST)
    x = torch.randn(400, 1, 8, 8, generator=rng) * 0.1
    y = torch.arange(400) % 2
    for i in range(400):  # two bright pixels anywhere: side by side, or apart
        down, right = (int(v) for v in torch.randint(0, 6, (2,), generator=rng))
        x[i, 0, down, right] += 1.5
        x[i, 0, (down + 3 * int(y[i] == 0)) % 8, right + 1] += 1.5
    shapes = bias.data_structure((x[:240], y[:240]), (x[240:], y[240:]), symmetries=(), parameters=800, budget=how)
    rule = torch.randn(64, generator=rng)
    z = torch.randn(320, 1, 8, 8, generator=rng)
    t = (z.flatten(1) @ rule > 0).long()
    flat = bias.data_structure((z[:160], t[:160]), (z[160:], t[160:]), symmetries=(), parameters=800, budget=how)
    assert shapes.local
    assert not flat.local


def test_a_choice_between_equals_says_that_they_are_equal() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(120, 5, generator=rng)
    y = (x[:, 0] > 0).long()
    twin = bias.candidates((5,), 2, 150)["mlp"]
    found = bias.select_architecture(
        (x[:60], y[:60]), (x[60:], y[60:]), factories={"twin": twin}, parameters=150,
        budget=bias.Budget(sizes=(60,), seeds=3, optimisation=FAST),
    )  # fmt: skip
    assert len(found.best) == 2
