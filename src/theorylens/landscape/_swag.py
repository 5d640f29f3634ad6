"""A Gaussian around the average of weights along a run: where stochastic gradients wandered, as a posterior.

Method   running first and second moments, and the last deviations from the running mean as a low-rank covariance;
         statistics of batch normalisation are taken anew for every draw
Source   Maddox, Garipov, Izmailov, Vetrov, Wilson (2019), A simple baseline for Bayesian uncertainty in deep learning,
         NeurIPS
Assumes  weights collected while the run stays in one basin, at a learning rate that makes it wander
Breaks   it is no posterior of a stated prior; whether its probabilities are calibrated has to be measured
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from theorylens.core import Split, call_first, rng_for, studied
from theorylens.numerics.counting import count
from theorylens.numerics.memory import rows, to_device

from ._averaging import Forward, update_statistics

RANK = 20  # deviations kept, as in the source


class SWAG:
    """Collects weights along a run and draws networks from the Gaussian that they suggest.

    The covariance is half the diagonal of the collected variances and half of D D' / (rank - 1), D being the last
    ``rank`` deviations from the running mean. A callback of `averaging` as torch's `AveragedModel` is:
    ``callbacks=[averaging(swag, start=300)]``.

    Parameters
    ----------
    model
        Its trainable parameters are described; a copy is kept.
    rank
        Deviations kept, at least 2; memory is that many copies of the weights.

    Attributes
    ----------
    collected
        Weights seen.

    >>> net = nn.Linear(1, 1)
    >>> swag = SWAG(net, rank=2)
    >>> for value in (1.0, 2.0, 3.0):
    ...     _ = nn.init.constant_(net.weight, value)
    ...     swag.update_parameters(net)
    >>> round(swag.mean()["weight"].item(), 6), round(swag.variances()["weight"].item(), 6)
    (2.0, 0.666667)
    """

    def __init__(self, model: nn.Module, *, rank: int = RANK) -> None:
        if rank < 2:
            raise ValueError(f"rank must be at least 2 deviations, got {rank}")
        self.rank = rank
        self.collected = 0
        self._model = copy.deepcopy(model)
        self._names = [name for name, p in model.named_parameters() if p.requires_grad]
        if not self._names:
            raise ValueError("the model has no parameter that requires a gradient, so there is nothing to collect")
        size = sum(p.numel() for p in self._leaves(model))
        self._first = torch.zeros(size, dtype=torch.float64)
        self._spread = torch.zeros(size, dtype=torch.float64)  # sum of squared deviations from the mean
        self._deviations: list[Tensor] = []

    def update_parameters(self, model: nn.Module) -> None:
        """Count the weights of ``model``; its buffers are kept as they are last."""
        leaves = self._leaves(model)
        now = torch.cat([p.detach().double().cpu().reshape(-1) for p in leaves])
        if now.shape != self._first.shape:
            raise ValueError(f"{len(now)} weights were given and {len(self._first)} before; collect one network")
        if not bool(torch.isfinite(now).all()):
            raise ValueError("the weights are not finite; leave out what comes after the run diverged")
        self.collected += 1
        change = now - self._first
        self._first += change / self.collected
        self._spread += change * (now - self._first)  # Welford: a difference of mean squares would cancel
        self._deviations = [*self._deviations, now - self._first][-self.rank :]
        self._model.load_state_dict(model.state_dict())

    def mean(self) -> dict[str, Tensor]:
        """The average weights by parameter name: that of stochastic weight averaging."""
        self._needs(1)
        return self._by_name(self._first)

    def variances(self) -> dict[str, Tensor]:
        """The variance of each weight over the run, by parameter name."""
        self._needs(2)
        return self._by_name(self._spread / self.collected)

    def covariance(self) -> tuple[Float[Tensor, " p"], Float[Tensor, "p k"]]:
        """(d, F) with covariance diag(d) + F F' of what `sample` draws at scale 1."""
        self._needs(2)
        kept = torch.stack(self._deviations, dim=1)
        return self._spread / self.collected / 2, kept / math.sqrt(2 * max(1, kept.shape[1] - 1))

    def sample(
        self, *, seed: int = 0, number: int = 0, scale: float = 1.0, low_rank: bool = True, data: Any = None,
        batch_size: int = 256, limit: int | None = None,
    ) -> nn.Module:  # fmt: skip
        """A network drawn from the posterior, in evaluation mode.

        Parameters
        ----------
        seed, number
            Of the draw: the same pair gives the same network.
        scale
            Of the covariance; 0 is the mean.
        low_rank
            Without the low-rank part the diagonal counts whole (SWAG-diagonal).
        data, batch_size, limit
            Where statistics of batch normalisation are taken anew, as in `update_statistics`; needed for networks that
            have them.
        """
        if not (math.isfinite(scale) and scale >= 0):
            raise ValueError(f"scale must be at least 0, got {scale}")
        diagonal, factors = self.covariance()
        rng = rng_for(seed, "landscape.swag", number)
        share = 1.0 if low_rank else 2.0
        drawn = (share * scale * diagonal).sqrt() * torch.randn(len(diagonal), generator=rng, dtype=torch.float64)
        if low_rank:
            drawn += math.sqrt(scale) * factors @ torch.randn(factors.shape[1], generator=rng, dtype=torch.float64)
        return self._network(self._first + drawn, data, batch_size, limit)

    def averaged(self, *, data: Any = None, batch_size: int = 256, limit: int | None = None) -> nn.Module:
        """The network with the average weights, statistics of batch normalisation taken anew from ``data``."""
        self._needs(1)
        return self._network(self._first, data, batch_size, limit)

    def predict(
        self, inputs: Any, *, draws: int = 30, seed: int = 0, scale: float = 1.0, data: Any = None,
        probabilities: bool = True, forward: Forward = call_first, batch_size: int = 256,
    ) -> Float[Tensor, "n ..."]:  # fmt: skip
        """Mean over ``draws`` networks of their predictions for the rows of ``inputs``, anything `Split` takes.

        Parameters
        ----------
        draws, seed, scale
            Networks ``number`` 0 to ``draws`` - 1 of `sample`.
        data
            For statistics of batch normalisation, as in `sample`.
        probabilities
            Average the softmax over the last axis (classifiers); False: the outputs themselves.
        forward
            ``forward(model, batch) -> (outputs, ...)``, by default for batches (inputs, targets).
        """
        if draws < 1:
            raise ValueError(f"draws must be at least 1, got {draws}")
        split, total = Split.of(inputs), torch.zeros(())
        for number in range(draws):
            network = self.sample(seed=seed, number=number, scale=scale, data=data, batch_size=batch_size)
            found = torch.cat(list(_outputs(network, split, forward, batch_size)))
            found = found.softmax(-1) if probabilities else found
            total = total.to(found) + found / draws
        return total

    def state_dict(self) -> dict[str, Any]:
        """Everything collected, as tensors and numbers."""
        return {
            "collected": self.collected, "first": self._first, "spread": self._spread, "rank": self.rank,
            "deviations": self._deviations, "model": self._model.state_dict(),
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what another one collected of a network of the same shapes."""
        if state["first"].shape != self._first.shape:
            raise ValueError(f"the state is of {len(state['first'])} weights, the model has {len(self._first)}")
        self.collected, self.rank = state["collected"], state["rank"]
        self._first, self._spread = state["first"].clone(), state["spread"].clone()
        self._deviations = [d.clone() for d in state["deviations"]]
        self._model.load_state_dict(state["model"])

    def _leaves(self, model: nn.Module) -> list[nn.Parameter]:
        known = dict(model.named_parameters())
        if missing := [name for name in self._names if name not in known]:
            raise ValueError(f"the model has no parameter {missing[0]}; collect one network")
        return [known[name] for name in self._names]

    def _by_name(self, flat: Tensor) -> dict[str, Tensor]:
        leaves = self._leaves(self._model)
        pieces = torch.split(flat, [p.numel() for p in leaves])
        return {n: v.reshape(p.shape).to(p) for n, v, p in zip(self._names, pieces, leaves, strict=True)}

    def _network(self, flat: Tensor, data: Any, batch_size: int, limit: int | None) -> nn.Module:
        network = copy.deepcopy(self._model).eval()
        values = self._by_name(flat)
        with torch.no_grad():
            for name, p in network.named_parameters():
                if name in values:
                    p.copy_(values[name])
        if data is not None:
            update_statistics(network, data, batch_size=batch_size, limit=limit)
        elif any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats for m in network.modules()):
            raise ValueError("this network has batch normalisation, whose statistics fit no draw; give data=")
        return network

    def _needs(self, least: int) -> None:
        if self.collected < least:
            raise ValueError(f"{self.collected} weights were collected, needed are at least {least}")


def _outputs(network: nn.Module, split: Split, forward: Forward, batch_size: int) -> Iterator[Tensor]:
    device = next(network.parameters()).device
    with studied(network), torch.no_grad():
        for batch in split.batches(batch_size):
            yield forward(network, to_device(batch, device))[0]
            count(forwards=rows(batch))
