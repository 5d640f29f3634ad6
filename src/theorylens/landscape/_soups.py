"""Averages of whole networks: the latest weights of a run, and soups of several runs with a held-out choice.

Source   Kaddour (2022), Stop wasting my time! Saving days of ImageNet and BERT training with latest weight averaging
         (LAWA); Wortsman et al. (2022), Model soups, ICML
Assumes  ingredients of one basin: of one run, or fine-tuned from one set of weights; `barrier` between them tells
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from theorylens.core import studied

from ._averaging import average_weights, update_statistics


class LatestWeights:
    """The mean of the latest ``window`` weights of a run (LAWA), at any time during it.

    A callback of `averaging` as torch's `AveragedModel` is: ``callbacks=[averaging(latest, every=100)]``; the source
    takes one state an epoch. Memory is ``window`` states on the CPU.

    Attributes
    ----------
    collected
        States seen, of which the last ``window`` are kept.

    >>> import torch
    >>> net, latest = nn.Linear(1, 1), LatestWeights(2)
    >>> for value in (1.0, 2.0, 4.0):
    ...     _ = nn.init.constant_(net.weight, value)
    ...     latest.update_parameters(net)
    >>> latest.mean()["weight"].item()
    3.0
    """

    def __init__(self, window: int) -> None:
        if window < 1:
            raise ValueError(f"window must be at least 1 state, got {window}")
        self.collected = 0
        self._kept: deque[dict[str, Tensor]] = deque(maxlen=window)

    def update_parameters(self, model: nn.Module) -> None:
        """Count the weights of ``model``, and forget the oldest beyond the window."""
        self._kept.append({name: t.detach().to("cpu", copy=True) for name, t in model.state_dict().items()})
        self.collected += 1

    def mean(self) -> dict[str, Tensor]:
        """The mean state; refresh batch normalisation with `update_statistics` once it is loaded."""
        if not self._kept:
            raise ValueError("no weights were collected; call update_parameters(model) during training")
        return average_weights(self._kept)

    def state_dict(self) -> dict[str, Any]:
        return {"collected": self.collected, "kept": list(self._kept)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.collected = state["collected"]
        self._kept.clear()
        self._kept.extend(state["kept"])


@dataclass(frozen=True, kw_only=True, eq=False)
class Soup:
    """A mean of several networks, and how it was chosen.

    Attributes
    ----------
    model
        The network with the mean weights, in evaluation mode.
    used
        Which of the states it is the mean of, in the order in which they were added.
    value
        The measure of ``model``: seen by the choice when ``looks`` > 0, and then too good.
    single
        The measure of each state alone.
    looks
        How often networks were compared on the held-out data; 0 for a uniform soup, whose number is honest.
    """

    model: nn.Module
    used: tuple[int, ...]
    value: float
    single: tuple[float, ...]
    looks: int


def uniform_soup(
    model: nn.Module, states: Sequence[Mapping[str, Tensor]], measure: Callable[[nn.Module], float], *, data: Any = None
) -> Soup:
    """The mean of all ``states``; ``measure`` chooses nothing. Arguments and errors as in `greedy_soup`."""
    found = [_measured(model, state, measure, data) for state in _checked(states)]
    mean = average_weights(states)
    network, value = _measured(model, mean, measure, data)
    return Soup(model=network, used=tuple(range(len(states))), value=value, single=tuple(v for _, v in found), looks=0)


def greedy_soup(
    model: nn.Module, states: Sequence[Mapping[str, Tensor]], measure: Callable[[nn.Module], float], *, data: Any = None
) -> Soup:
    """Start from the best state and add each next best one if the mean does not get worse on held-out data.

    Parameters
    ----------
    model
        A network that the states fit; it is copied.
    states
        State dicts, at least one.
    measure
        From a network to a number, less is better: the error on held-out rows that no state was trained on. It is used
        ``looks`` times to choose, so an unbiased number for the soup needs other rows.
    data
        Given, statistics of batch normalisation are taken anew from it for every mean before it is measured.

    Raises
    ------
    ValueError
        No states, states that differ in names or shapes, a measure that is NaN.

    >>> import torch
    >>> net = nn.Linear(1, 1, bias=False)
    >>> states = [{"weight": torch.tensor([[v]])} for v in (0.0, 3.0, 9.0)]
    >>> soup = greedy_soup(net, states, lambda m: abs(m.weight.item() - 1.4))
    >>> soup.used, soup.looks
    ((0, 1), 5)
    """
    single = [_measured(model, state, measure, data)[1] for state in _checked(states)]
    order = sorted(range(len(states)), key=lambda i: single[i])
    used, best, looks = [order[0]], single[order[0]], len(states)
    for candidate in order[1:]:
        value = _measured(model, average_weights([states[i] for i in (*used, candidate)]), measure, data)[1]
        looks += 1
        if value <= best:
            used, best = [*used, candidate], value
    network, best = _measured(model, average_weights([states[i] for i in used]), measure, data)
    return Soup(model=network, used=tuple(used), value=best, single=tuple(single), looks=looks)


def _checked(states: Sequence[Mapping[str, Tensor]]) -> Sequence[Mapping[str, Tensor]]:
    if not states:
        raise ValueError("there are no states to make a soup of; give at least one")
    average_weights(states)  # refuses states that differ
    return states


def _measured(
    model: nn.Module, state: Mapping[str, Tensor], measure: Callable[[nn.Module], float], data: Any
) -> tuple[nn.Module, float]:
    network = copy.deepcopy(model)
    network.load_state_dict(dict(state))
    if data is not None:
        update_statistics(network, data)
    network.eval()
    with studied(network):
        value = float(measure(network))
    if math.isnan(value):
        raise ValueError("the measure of a state is NaN; leave out states that diverged")
    return network, value
