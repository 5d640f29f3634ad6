"""Averages of weights: of a stretch of training (SWA), exponentially forgetting (EMA), of any state dicts.

Method   torch.optim.swa_utils.AveragedModel for running averages; batch statistics taken anew afterwards
Source   Izmailov, Podoprikhin, Garipov, Vetrov, Wilson (2018), Averaging weights leads to wider optima, UAI; Polyak,
         Juditsky (1992), SIAM J. Control Optim. 30:838
Assumes  weights of one run, close enough to lie in one basin: `barrier` between them tells
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from theorylens.core import Split, call_first, global_randomness_kept
from theorylens.numerics.counting import count
from theorylens.numerics.memory import Batch, rows, to_device

Forward = Callable[[nn.Module, Any], Any]


@runtime_checkable
class RunningAverage(Protocol):
    """What `averaging` feeds: torch's `AveragedModel`, `SWAG`, `LatestWeights`, or anything like them."""

    def update_parameters(self, model: nn.Module, /) -> None: ...


def average_weights(states: Iterable[Mapping[str, Tensor]], *, start: int = 0) -> dict[str, Tensor]:
    """The arithmetic mean of state dicts from number ``start`` on, one in memory at a time.

    Floating-point entries are averaged in float64 and given back in their dtype; integers (counters of batch
    normalisation) are those of the last. Running statistics of batch normalisation are averaged too and fit no
    network: call `update_statistics` on the model afterwards.

    Raises
    ------
    ValueError
        Nothing left to average, entries or shapes that differ, values that are not finite.

    >>> float(average_weights([{"w": torch.tensor(float(i))} for i in range(10)], start=5)["w"])
    7.0
    """
    if start < 0:
        raise ValueError(f"start must be at least 0, got {start}")
    total: dict[str, Tensor] = {}
    like: dict[str, Tensor] = {}
    seen = n = 0
    for seen, state in enumerate(states, start=1):
        if seen <= start:
            continue
        n += 1
        _check_same(like, state, seen - 1)
        like = dict(state)
        for name, value in state.items():
            if value.is_floating_point():
                # A running mean: adding up and dividing at the end would lose digits of long runs.
                wide = value.detach().double()
                total[name] = wide.clone() if n == 1 else total[name] + (wide - total[name]) / n
    if not n:
        raise ValueError(f"there is nothing to average: {seen} states were given and {start} of them are skipped")
    return {name: total[name].to(value.dtype) if name in total else value.clone() for name, value in like.items()}


def averaged_model(model: nn.Module, *, decay: float | None = None) -> AveragedModel:
    """A running average of ``model``'s parameters: equal weights (SWA), or with ``decay`` exponential (EMA).

    Call ``average.update_parameters(model)`` when a state is to count, ``update_statistics(average, data)`` at the
    end; it is torch's `AveragedModel`, so checkpoints and schedulers written for that work.

    >>> net = nn.Linear(1, 1)
    >>> average = averaged_model(net, decay=0.99)
    """
    if decay is None:
        return AveragedModel(model)
    if not 0 <= decay < 1:
        raise ValueError(f"decay must be at least 0 and below 1, got {decay}")
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]


def averaging(average: RunningAverage, *, start: int = 0, every: int = 1) -> Callable[..., None]:
    """A callback of `training.fit` that adds the weights of steps ``start``, ``start + every``, ... to ``average``."""
    if start < 0 or every < 1:
        raise ValueError(f"start must be at least 0 and every at least 1, got {start} and {every}")

    def add(step: int, model: nn.Module, metrics: Mapping[str, float]) -> None:
        del metrics
        if step >= start and (step - start) % every == 0:
            average.update_parameters(model)

    return add


def update_statistics(
    model: nn.Module, data: Any, *, batch_size: int = 256, limit: int | None = None, forward: Forward = call_first
) -> int:
    """Take the running statistics of all batch normalisation of ``model`` anew from ``data``; returns how many.

    Each statistic becomes the mean over batches of the batch's own, weighted by its examples, which is what averaged
    weights need: their activations are those of no network that was trained. Modes come back as they were.

    Parameters
    ----------
    limit
        Rows to use at most, chosen by content; all when None.
    forward
        ``forward(model, batch)``, by default for batches (inputs, targets).
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    if not norms:
        return 0
    split = Split.of(data)
    modes = {module: module.training for module in model.modules()}
    momenta = {norm: norm.momentum for norm in norms}
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    try:
        with global_randomness_kept(), torch.no_grad():
            model.eval()
            for norm in norms:
                norm.reset_running_stats()
                norm.train()
            seen = 0
            for batch in _batches(split, batch_size, limit):
                n = rows(batch)
                seen += n
                for norm in norms:
                    norm.momentum = n / seen
                forward(model, to_device(batch, device))
                count(forwards=n)
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum
        for module, mode in modes.items():
            module.training = mode
    return len(norms)


def _batches(split: Split, size: int, limit: int | None) -> Iterable[Batch]:
    if limit is None or limit >= len(split):
        return split.batches(_without_single(len(split), size))
    return (split.take(index) for index in torch.split(split.subset(limit), _without_single(limit, size)))


def _without_single(n: int, size: int) -> int:
    """A batch size at least ``size`` that leaves no last batch of one row, whose variance torch refuses to take."""
    while n > 1 and n % size == 1:
        size += 1
    return size


def _check_same(known: Mapping[str, Tensor], state: Mapping[str, Tensor], number: int) -> None:
    if not state:
        raise ValueError(f"state {number} is empty; give model.state_dict()")
    if known and (names := sorted(set(known) ^ set(state))):
        raise ValueError(f"state {number} differs from the ones before in {', '.join(names[:3])}; average one network")
    for name, value in state.items():
        if known and value.shape != known[name].shape:
            raise ValueError(
                f"{name} has shape {tuple(value.shape)} in state {number} and {tuple(known[name].shape)} before; "
                "average states of one network"
            )
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} is not finite in state {number}; leave out what comes after the run diverged")
