"""Averages of weights: golden mean, torch's own averages, batch statistics, a training run, refusals."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from theorylens import core
from theorylens.landscape import average_weights, averaged_model, averaging, update_statistics
from theorylens.training import Optimisation, fit


def test_golden_mean_of_the_tutorial():
    states = ({"w": torch.tensor(float(i))} for i in range(10))  # a generator: one state in memory at a time
    assert float(average_weights(states, start=5)["w"]) == {"S3.3-2": 7.0}["S3.3-2"]


def test_dtypes_are_kept_sums_do_not_overflow_and_counters_are_the_last():
    states = [{"w": torch.full((3,), 6e4, dtype=torch.float16), "n": torch.tensor(i)} for i in range(5)]
    found = average_weights(states)
    assert found["w"].dtype is torch.float16
    assert found["w"].tolist() == [6e4] * 3
    assert int(found["n"]) == 4
    found["n"] += 1
    assert int(states[-1]["n"]) == 4  # a copy


def test_torchs_running_average_is_the_same_mean_and_ema_the_recursion():
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    swa, ema = averaged_model(net), averaged_model(net, decay=0.9)
    states, recursion = [], None
    for _ in range(6):
        with torch.no_grad():
            for p in net.parameters():
                p.add_(torch.randn_like(p))
        for average in (swa, ema):
            average.update_parameters(net)
        states.append(copy.deepcopy(net.state_dict()))
        now = net.weight.detach().clone()
        recursion = now if recursion is None else 0.9 * recursion + 0.1 * now
    mean = average_weights(states)
    assert torch.allclose(swa.module.weight, mean["weight"], atol=1e-6)
    assert torch.allclose(ema.module.weight, recursion, atol=1e-6)


def normed(seed=0):
    with core.global_randomness_kept(seed):
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2)).eval()


def test_statistics_are_torchs_for_equal_batches_and_weighted_for_ragged_ones():
    net, twin = normed(), normed()
    x, y = torch.randn(48, 3, generator=torch.Generator().manual_seed(0)), torch.zeros(48)
    assert update_statistics(net, (x, y), batch_size=16) == 1
    update_bn([x[i : i + 16] for i in range(0, 48, 16)], twin)
    assert torch.allclose(net[1].running_mean, twin[1].running_mean, atol=1e-6)
    assert torch.allclose(net[1].running_var, twin[1].running_var, atol=1e-6)
    assert (net[1].momentum, net[1].training, net[3].training) == (0.1, False, False)
    update_statistics(net, (x[:40], y[:40]), batch_size=32)
    hidden = net[0](x[:40])
    assert torch.allclose(net[1].running_mean, hidden.mean(0), atol=1e-6)  # 32 and 8 rows count as such
    assert update_statistics(nn.Linear(3, 1), (x, y)) == 0


def test_modes_come_back_after_an_error():
    net = normed()

    def failing(model, batch):
        raise ArithmeticError("in the middle")

    with pytest.raises(ArithmeticError):
        update_statistics(net, (torch.randn(4, 3), torch.zeros(4)), forward=failing)
    assert not any(m.training for m in net.modules())
    assert net[1].momentum == 0.1


def test_a_training_run_is_averaged_by_a_callback(digits):
    x, y = digits.split("train").take(range(100))
    net = copy.deepcopy(digits.net)
    net.load_state_dict(digits.init)
    average, states = averaged_model(net), []

    def keep(step, model, metrics):
        if step >= 6 and step % 2 == 0:
            states.append(copy.deepcopy(model.state_dict()))

    fit(net, (x, y), "cross_entropy", Optimisation(lr=0.3, batch_size=50, epochs=6),
        callbacks=[averaging(average, start=6, every=2), keep])  # fmt: skip
    assert int(average.n_averaged) == len(states) == 4
    wanted = average_weights(states)
    assert all(torch.allclose(average.module.state_dict()[k], v, atol=1e-6) for k, v in wanted.items())
    update_statistics(average, (x, y))
    loss = core.objective(average.eval(), (x, y), "cross_entropy").value
    assert loss < core.objective(digits.initial().subject.net.eval(), (x, y), "cross_entropy").value


def test_refusals():
    ok = {"w": torch.zeros(2)}
    with pytest.raises(ValueError, match="nothing to average: 0 states were given"):
        average_weights([])
    with pytest.raises(ValueError, match="nothing to average: 2 states were given and 2 of them are skipped"):
        average_weights([ok, ok], start=2)
    with pytest.raises(ValueError, match="start must be at least 0, got -1"):
        average_weights([ok], start=-1)
    with pytest.raises(ValueError, match=r"w has shape \(3,\) in state 1 and \(2,\) before"):
        average_weights([ok, {"w": torch.zeros(3)}])
    with pytest.raises(ValueError, match="state 1 differs from the ones before in v"):
        average_weights([ok, {"w": torch.zeros(2), "v": torch.zeros(1)}])
    with pytest.raises(ValueError, match="state 0 is empty"):
        average_weights([{}])
    with pytest.raises(ValueError, match="w is not finite in state 1"):
        average_weights([ok, {"w": torch.tensor([0.0, float("nan")])}])
    with pytest.raises(ValueError, match="decay must be at least 0 and below 1, got 1"):
        averaged_model(nn.Linear(1, 1), decay=1.0)
    with pytest.raises(ValueError, match="start must be at least 0 and every at least 1"):
        averaging(averaged_model(nn.Linear(1, 1)), every=0)
