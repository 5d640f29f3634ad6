"""Attention weights by three routes, entropies and distances in closed form, and the collapse of pure attention."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from theorylens.bias import (
    attention_distance,
    attention_entropy,
    attention_macs,
    attention_weights,
    collapsing_path,
    entropy_share,
    rank_one_residual,
    uniform_distance,
)


class Fused(nn.Module):
    """Causal attention through torch's fused function, as language models write it."""

    def __init__(self) -> None:
        super().__init__()
        self.joint = nn.Linear(8, 24)

    def queries(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.joint(x).reshape(len(x), -1, 3, 2, 4).permute(2, 0, 3, 1, 4)
        return q, k, v

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(*self.queries(x), is_causal=True)


class Eager(Fused):
    """The same with its softmax written out."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.queries(x)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        closed = ~torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        return torch.softmax(scores.masked_fill(closed, -torch.inf), dim=-1) @ v


def tokens(n: int = 3, length: int = 5) -> Tensor:
    return torch.randn(n, length, 8, generator=torch.Generator().manual_seed(0))


def test_macs_are_the_contracts_and_torchs(golden) -> None:
    assert attention_macs(100, 512, 8) == golden("G5.1-3")
    layer = nn.MultiheadAttention(32, 4, batch_first=True, bias=False)
    with FlopCounterMode(display=False) as counter:
        layer(torch.zeros(1, 7, 32), torch.zeros(1, 7, 32), torch.zeros(1, 7, 32), need_weights=True)
    assert 2 * attention_macs(7, 32, 4) == counter.get_total_flops()


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="7 heads cannot share a width of 512"):
        attention_macs(100, 512, 7)
    with pytest.raises(ValueError, match="must be at least 1, got 0, 512, 8"):
        attention_macs(0, 512, 8)


def test_fused_and_written_out_attention_have_the_same_weights() -> None:
    fused, eager = Fused().eval(), Eager().eval()
    eager.load_state_dict(fused.state_dict())
    x = tokens()
    (one,) = attention_weights(fused, lambda: fused(x))
    (two,) = attention_weights(eager, lambda: eager(x))
    torch.testing.assert_close(one.weights, two.weights, rtol=0, atol=1e-6)
    assert float(one.weights.triu(1).abs().max()) == 0


def test_masks_and_scales_are_those_of_the_call() -> None:
    q, k = torch.randn(2, 2, 3, 4, 5, generator=torch.Generator().manual_seed(0)).double()
    allowed = torch.rand(4, 4, generator=torch.Generator().manual_seed(1)) > 0.4
    allowed |= torch.eye(4, dtype=torch.bool)
    for mask in (allowed, torch.where(allowed, 0.3, -2.0).double()):
        (found,) = attention_weights(
            nn.Identity(), lambda m=mask: nn.functional.scaled_dot_product_attention(q, k, k, m, scale=0.7)
        )
        extra = torch.where(allowed, 0.0, -torch.inf) if mask.dtype == torch.bool else mask
        torch.testing.assert_close(found.weights, torch.softmax(0.7 * q @ k.transpose(-1, -2) + extra, -1))


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("average", [True, False])
def test_the_answer_of_a_multihead_module_is_left_alone(need_weights: bool, average: bool) -> None:
    layer = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x = tokens()

    def call() -> tuple[Tensor, Tensor | None]:
        return layer(x, x, x, need_weights=need_weights, average_attn_weights=average)

    kept: list[tuple[Tensor, Tensor | None]] = []
    (found,) = attention_weights(layer, lambda: kept.append(call()))
    expected = call()
    torch.testing.assert_close(kept[0][0], expected[0], rtol=0, atol=1e-6)
    if need_weights:
        torch.testing.assert_close(kept[0][1], expected[1], rtol=0, atol=1e-6)
    else:
        assert kept[0][1] is expected[1] is None
    assert tuple(found.weights.shape) == (3, 2, 5, 5)
    assert not layer._forward_hooks
    assert not layer._forward_pre_hooks


def test_weights_may_be_asked_for_by_position() -> None:
    layer = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x = tokens()
    hidden = torch.zeros(3, 5, dtype=torch.bool)
    hidden[:, -1] = True
    (found,) = attention_weights(layer, lambda: layer(x, x, x, hidden, False))
    assert float(found.weights[..., -1].max()) == 0


def test_hooks_and_settings_come_back_after_an_error() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    before = torch.backends.mha.get_fastpath_enabled()
    with pytest.raises(AssertionError):
        attention_weights(layer, lambda: layer(torch.zeros(2, 3, 9)))
    assert torch.backends.mha.get_fastpath_enabled() == before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in layer.modules())


def test_networks_without_attention_give_nothing() -> None:
    model = nn.Sequential(nn.Linear(8, 3), nn.Softmax(-1))
    assert attention_weights(model, lambda: model(tokens())) == ()


def test_entropies_and_distances_in_closed_form() -> None:
    uniform = torch.full((1, 1, 6, 6), 1 / 6)
    assert attention_entropy(uniform).unique().item() == pytest.approx(math.log(6), rel=1e-6)
    assert float(attention_distance(uniform).mean()) == pytest.approx(uniform_distance(6, 6), rel=1e-6)
    assert uniform_distance(6, 6) == pytest.approx((36 - 1) / 18, rel=1e-12)  # (n² - 1) / (3n)
    previous = torch.zeros(1, 1, 6, 6)
    previous[..., torch.arange(6), (torch.arange(6) - 1).clamp(min=0)] = 1.0
    assert float(attention_entropy(previous).max()) == 0
    assert attention_distance(previous)[0, 0].tolist() == [0, 1, 1, 1, 1, 1]


def test_distances_of_patches_use_their_places() -> None:
    places = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    opposite = torch.eye(4).flip(1)[None, None]
    assert attention_distance(opposite, places).flatten().tolist() == pytest.approx([math.sqrt(2)] * 4)
    with pytest.raises(ValueError, match="3 positions for 4 queries and 4 keys"):
        attention_distance(opposite, places[:3])


def test_masked_keys_do_not_count_towards_the_largest_entropy() -> None:
    causal = torch.ones(5, 5).tril()
    uniform = (causal / causal.sum(1, keepdim=True))[None, None]
    assert float(entropy_share(uniform)) == pytest.approx(1, rel=1e-6)
    assert float(entropy_share(torch.eye(5)[None, None])) == 0


def test_what_is_no_attention_is_refused() -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        attention_entropy(torch.ones(1, 1, 3, 3))
    with pytest.raises(ValueError, match="not finite"):
        attention_entropy(torch.full((1, 1, 3, 3), torch.nan))
    with pytest.raises(ValueError, match="at least two rows, got 1"):
        rank_one_residual(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="cross-attention has no product"):
        collapsing_path([torch.full((1, 1, 2, 3), 1 / 3)])


def test_rank_one_residual_is_zero_for_equal_rows_and_one_for_rows_that_cancel() -> None:
    assert float(rank_one_residual(torch.ones(4, 3))) == 0
    assert float(rank_one_residual(torch.tensor([[1.0, 2], [-1, -2]]))) == pytest.approx(1)
    x = torch.randn(5, 3, dtype=torch.float64)
    assert float(rank_one_residual(7 * x)) == pytest.approx(float(rank_one_residual(x)), rel=1e-12)


def test_the_product_of_uniform_attention_collapses_at_once_and_of_identities_never() -> None:
    uniform, keep = torch.full((2, 2, 4, 4), 0.25), torch.eye(4).expand(2, 2, 4, 4)
    assert max(collapsing_path([uniform, uniform])) < 1e-7
    assert collapsing_path([keep, keep, keep]) == pytest.approx([math.sqrt(3) / 2] * 3)
    mixed = 0.5 * keep + 0.5 * uniform
    # every layer halves what is apart: ||(M - J)|| of the k-th power is 2^-k sqrt(3)
    expected = [math.sqrt(3) * 2.0**-k / math.sqrt(1 + 3 * 4.0**-k) for k in (1, 2, 3)]
    assert collapsing_path([mixed, mixed, mixed]) == pytest.approx(expected, rel=1e-6)


def test_pure_attention_makes_tokens_alike_and_skip_connections_keep_them_apart() -> None:
    torch.manual_seed(0)
    layers = [nn.MultiheadAttention(16, 1, batch_first=True, bias=False).double().eval() for _ in range(6)]
    x = torch.randn(4, 8, 16, dtype=torch.float64)
    pure, skipping = x, x
    apart: list[tuple[float, float]] = []
    with torch.no_grad():
        for layer in layers:
            pure = layer(pure, pure, pure)[0]
            skipping = skipping + layer(skipping, skipping, skipping)[0]
            apart.append((float(rank_one_residual(pure).mean()), float(rank_one_residual(skipping).mean())))
    assert apart[-1][0] < 1e-3 * apart[0][0]
    assert apart[-1][1] > 0.5


def test_the_product_is_that_of_the_layers_in_order() -> None:
    raw = torch.rand(2, 1, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) ** 4
    first, second = raw / raw.sum(-1, keepdim=True)
    product = second.mean(1) @ first.mean(1)  # what the second layer makes of what the first made of the tokens
    apart = product - product.mean(-2, keepdim=True)
    expected = float((apart.norm(dim=(-2, -1)) / product.norm(dim=(-2, -1))).mean())
    assert collapsing_path([first, second])[1] == pytest.approx(expected, rel=1e-12)
