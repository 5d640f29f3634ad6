"""Order of the units: attention with and without positions, causal masks, deep sets, recurrence."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from theorylens.bias import permutation_test
from theorylens.bias._permutation import reorderings


def encoder(dtype: torch.dtype = torch.float64) -> nn.TransformerEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.1)
        return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).to(dtype).eval()


def tokens(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(4, 6, 8, dtype=dtype, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_attention_without_positions_is_equivariant(dtype: torch.dtype) -> None:
    found = permutation_test(encoder(dtype), tokens(dtype))
    assert found.equivariant
    assert not found.invariant


def test_positions_break_the_symmetry() -> None:
    places = torch.randn(6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    model = encoder()
    found = permutation_test(lambda x: model(x + places), tokens())
    assert not found.equivariant
    assert found.equivariance is not None
    assert found.equivariance > 0.01


def test_a_causal_mask_breaks_the_symmetry() -> None:
    model, mask = encoder(), nn.Transformer.generate_square_subsequent_mask(6, dtype=torch.float64)
    assert not permutation_test(lambda x: model(x, mask=mask), tokens()).equivariant


def test_a_mean_over_tokens_is_invariant() -> None:
    model = encoder()
    found = permutation_test(lambda x: model(x).mean(1), tokens())
    assert found.invariant
    assert found.equivariance is None


def test_a_recurrent_network_and_token_numbers() -> None:
    torch.manual_seed(0)
    rnn, embed = nn.GRU(8, 5, batch_first=True).double(), nn.Embedding(9, 8).double()
    numbers = torch.randint(0, 9, (4, 6), generator=torch.Generator().manual_seed(0))
    assert not permutation_test(lambda t: rnn(embed(t))[0][:, -1], numbers).invariant
    assert permutation_test(lambda t: embed(t).sum(1), numbers).invariant


def test_one_exchange_of_neighbours_is_enough_to_refute() -> None:
    found = permutation_test(lambda x: x.cumsum(1), tokens(), draws=1)
    assert found.draws == 1
    assert not found.equivariant


def test_units_on_the_first_axis() -> None:
    assert permutation_test(lambda x: x * 2, tokens().transpose(0, 1), axis=0).equivariant


def test_reorderings_are_permutations_of_the_given_number() -> None:
    orders = reorderings(5, 6, torch.Generator().manual_seed(0))
    assert len(orders) == 6
    assert orders[0].tolist() == [1, 0, 2, 3, 4]
    assert orders[1].tolist() == [4, 3, 2, 1, 0]
    assert all(sorted(o.tolist()) == [0, 1, 2, 3, 4] for o in orders)


def test_what_has_no_order_is_refused() -> None:
    with pytest.raises(ValueError, match="fewer than two units along axis 1"):
        permutation_test(nn.Identity(), torch.zeros(3, 1, 4))
    with pytest.raises(ValueError, match="draws must be at least 1, got 0"):
        permutation_test(nn.Identity(), torch.zeros(3, 2), draws=0)
