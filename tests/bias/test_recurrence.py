"""Memory of recurrent networks against closed forms, time shifts, and causality."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from theorylens.bias import is_causal, jacobian_by_lag, memory_curve, sequence_outputs, time_shift_errors


def linear_rnn(scale: float, batch_first: bool = True) -> nn.RNN:
    """h_t = scale R h_(t-1) + x_t, R a rotation, nearly linear because inputs are tiny."""
    rnn = nn.RNN(3, 3, bias=False, batch_first=batch_first).double()
    torch.manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    with torch.no_grad():
        rnn.weight_hh_l0.copy_(scale * rotation)
        rnn.weight_ih_l0.copy_(torch.eye(3))
    return rnn


def tiny(length: int = 12) -> Tensor:
    return 1e-9 * torch.randn(2, length, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("scale", [0.5, 0.9, 1.1])
def test_norms_fall_with_the_powers_of_the_recurrent_matrix(scale: float) -> None:
    memory = jacobian_by_lag(linear_rnn(scale), tiny())
    expected = [math.sqrt(3) * scale**lag for lag in range(12)]
    assert memory.norms.tolist() == pytest.approx(expected, rel=1e-9)
    assert memory.rate == pytest.approx(math.log(scale), rel=1e-9)


def test_norms_are_those_of_the_full_jacobian() -> None:
    torch.manual_seed(0)
    lstm, x = nn.LSTM(3, 4, batch_first=True).double(), torch.randn(1, 5, 3, dtype=torch.float64)
    full = torch.autograd.functional.jacobian(lambda z: lstm(z)[0][0, -1], x)
    expected = full[:, 0].square().sum((0, 2)).sqrt().flip(0)
    torch.testing.assert_close(jacobian_by_lag(lstm, x).norms, expected)


def test_a_window_has_no_memory_beyond_it() -> None:
    def mean_of_three(x: Tensor) -> Tensor:
        return sum(nn.functional.pad(x, (0, 0, k, 0))[:, : x.shape[1]] for k in range(3)) / 3

    memory = jacobian_by_lag(mean_of_three, tiny(6))
    assert memory.norms[:3].tolist() == pytest.approx([math.sqrt(3) / 3] * 3)
    assert memory.norms[3:].tolist() == [0, 0, 0]
    assert jacobian_by_lag(lambda x: x, tiny(6)).rate is None
    assert memory_curve(memory).y_log


def test_sequence_first_modules_are_turned() -> None:
    one, other = linear_rnn(0.8), linear_rnn(0.8, batch_first=False)
    x = tiny()
    torch.testing.assert_close(sequence_outputs(one)(x), sequence_outputs(other)(x), rtol=1e-10, atol=0)
    assert jacobian_by_lag(other, x).rate == pytest.approx(math.log(0.8), rel=1e-9)


def test_a_recurrent_network_forgets_the_time_and_positions_do_not() -> None:
    torch.manual_seed(0)
    rnn = nn.RNN(3, 6, batch_first=True).double()
    with torch.no_grad():
        rnn.weight_hh_l0.mul_(0.3)
    x, prefix = torch.randn(5, 30, 3).double(), torch.randn(5, 7, 3).double()
    errors = time_shift_errors(rnn, x, prefix)
    assert float(errors[0]) > 1e-2
    assert float(errors[-1]) < 1e-8
    places = torch.randn(37, 3).double()
    positioned = time_shift_errors(lambda z: rnn(z + places[: z.shape[1]])[0], x, prefix)
    assert float(positioned[-10:].mean()) > 0.1


def test_causal_convolutions_are_exactly_time_invariant_after_their_window() -> None:
    torch.manual_seed(0)
    conv = nn.Conv1d(3, 4, 3).double()

    def causal(x: Tensor) -> Tensor:
        return conv(nn.functional.pad(x.transpose(1, 2), (2, 0))).transpose(1, 2)

    errors = time_shift_errors(causal, torch.randn(2, 9, 3).double(), torch.randn(2, 4, 3).double())
    assert float(errors[:2].min()) > 0.01
    assert float(errors[2:].max()) < 1e-12


def test_what_looks_ahead_is_not_causal() -> None:
    x = torch.randn(2, 6, 3)
    torch.manual_seed(0)
    assert is_causal(nn.GRU(3, 4, batch_first=True), x)
    assert not is_causal(nn.GRU(3, 4, batch_first=True, bidirectional=True), x)
    assert not is_causal(nn.Sequential(nn.Flatten(1), nn.Linear(18, 18), nn.Unflatten(1, (6, 3))), x)


def test_what_has_no_steps_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(n, length, width\), got \(4, 3\)"):
        jacobian_by_lag(nn.Identity(), torch.zeros(4, 3))
    with pytest.raises(ValueError, match="give a model with one output per step"):
        jacobian_by_lag(lambda x: x.sum(1), torch.zeros(2, 4, 3))
    with pytest.raises(ValueError, match="at least one step each"):
        time_shift_errors(nn.Identity(), torch.zeros(2, 4, 3), torch.zeros(2, 0, 3))
    with pytest.raises(ValueError, match="are not one per step"):
        time_shift_errors(lambda x: x.sum(1, keepdim=True), torch.zeros(2, 4, 3), torch.zeros(2, 1, 3))
