"""Measures that are said to go with generalisation, on one network; whether they do, `rank_study` says over many.

Source   Jiang, Neyshabur, Mobahi, Krishnan, Bengio (2020), ICLR; Dziugaite et al. (2020), NeurIPS; for sharpness that
         rescaling does not move: Dinh, Pascanu, Bengio, Bengio (2017), ICML; Kwon, Kim, Park, Choi (2021), ICML
Assumes  networks that differ in something the measure may answer for, trained to comparable training loss
Breaks   no measure went with generalisation in every setting tried by Dziugaite et al.: a correlation speaks about the
         networks it was taken over
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from theorylens.bias import gradient_noise
from theorylens.core import RefusedError, Split, Task, objective
from theorylens.landscape import expected_sharpness
from theorylens.numerics import to_device
from theorylens.numerics.label_margins import margins

from ._effective_parameters import effective_parameters
from ._measure_names import NAMES
from ._norms import SpectralComplexity, spectral_complexity, squared_path_norm
from ._tolerated_noise import tolerated_noise_value, tolerated_perturbation
from ._weight_matrices import stable_rank, weight_matrices
from ._weight_spectrum import mean_alpha, weight_spectrum

T = TypeVar("T")
ROWS = 100  # training rows of the effective parameters
NOISE_ROWS = 200  # of the variance of the gradients, which takes a backward pass for each
HARD = 0.1  # quantile of the margins that stands for them
IGNORED = -100


def generalization_measures(
    model: nn.Module,
    data: Any,
    loss: Any,
    *,
    reference: Mapping[str, Tensor] | None = None,
    names: Collection[str] | None = None,
    radius: float = 0.1,
    draws: int = 32,
    seed: int = 0,
) -> dict[str, float]:
    """Measures of one trained network on its training data, by name; NaN where one is not defined for it.

    Each is signed so that theory expects a larger gap where it is larger. Margins are the raw tenth percentile; where
    it is not positive, what is divided by it is infinite. PAC-Bayes flatness is 1 / s² of `tolerated_noise`, with a
    prior the expression (|w|² or |w - w0|²) / 4s² + ln(n / s) of Jiang et al.; worst-case sharpness is 1 / a² of
    `tolerated_perturbation`.

    Parameters
    ----------
    model, data, loss
        As in `landscape.expected_sharpness`; the model in evaluation mode.
    reference
        State dict before training: for distances from initialisation.
    names
        Which of `NAMES`; by default all.
    radius
        Of the noise behind the two expected sharpnesses: in proportion to each weight for the adaptive one, in
        proportion to the root mean square of all weights for the other.
    draws, seed
        Of all noise; a quarter of ``draws`` for the tolerated noise, whose search repeats them.

    Raises
    ------
    ValueError
        A name that is not in `NAMES`, a reference that lacks a weight.

    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> data = torch.randn(30, 4), torch.randint(0, 3, (30,))
    >>> generalization_measures(net, data, "cross_entropy", names=["parameters", "layers"])
    {'parameters': 67.0, 'layers': 2.0}
    """
    wanted = list(NAMES) if names is None else list(names)
    if unknown := sorted(set(wanted) - set(NAMES)):
        raise ValueError(f"unknown measures {unknown}; there are {', '.join(NAMES)}")
    network = _Network(model, Split.of(data), loss, reference, radius, draws, seed)
    return {name: _MEASURES[name](network) for name in wanted}


@dataclass(eq=False)
class _Network:
    """One network, with what several measures need computed once."""

    model: nn.Module
    split: Split
    loss: Any
    reference: Mapping[str, Tensor] | None
    radius: float
    draws: int
    seed: int

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        return {n: p.detach().double().cpu() for n, p in self.model.named_parameters() if p.requires_grad}

    @cached_property
    def size(self) -> int:
        return sum(w.numel() for w in self.weights.values())

    @cached_property
    def length(self) -> float:
        return _length(self.weights)

    @cached_property
    def distance(self) -> float:
        if self.reference is None:
            return math.nan
        unlike = [n for n, w in self.weights.items() if n not in self.reference or self.reference[n].shape != w.shape]
        if unlike:
            raise ValueError(f"the reference has no {unlike[0]} of this shape; give the state dict before training")
        return _length({n: w - self.reference[n].double().cpu() for n, w in self.weights.items()})

    @cached_property
    def matrices(self) -> list[Tensor]:
        return [m.double() for m in weight_matrices(self.model).values() if bool((m != 0).any())]

    @cached_property
    def shape(self) -> tuple[int, ...]:
        batch = self.split.take(range(1))
        return tuple(next(x for x in pytree.tree_leaves(batch) if isinstance(x, Tensor)).shape[1:])

    @cached_property
    def complexity(self) -> SpectralComplexity | None:
        return _or_none(lambda: spectral_complexity(self.model, self.shape))

    @cached_property
    def moved(self) -> SpectralComplexity | None:
        if self.reference is None:
            return None
        return _or_none(lambda: spectral_complexity(self.model, self.shape, self.reference))

    @cached_property
    def path(self) -> float:
        found = _or_none(lambda: math.log10(squared_path_norm(self.model, self.shape)))
        return math.nan if found is None else found

    @cached_property
    def hard_margin(self) -> float:
        """Tenth percentile of the margins on the training rows; NaN for what is no plain classification."""
        given = self.loss if isinstance(self.loss, Task) else Task(loss=self.loss)
        device = next(p.device for p in self.model.parameters())
        task = given.settled(self.model, to_device(self.split.take(range(min(len(self.split), 32))), device))
        if task.kind != "classification":
            return math.nan
        with torch.no_grad():
            pairs = [task.forward(self.model, to_device(batch, device)) for batch in self.split.batches(1024)]
        try:
            outputs, targets = torch.cat([o for o, _ in pairs]), torch.cat([t for _, t in pairs])
            counted = targets != IGNORED if targets.ndim == 1 else slice(None)  # as in cross-entropy
            found = margins(outputs[counted], targets[counted])
        except ValueError:  # one column of scores with other targets than two classes, or pixels
            return math.nan
        return float(torch.quantile(found, HARD))

    def over_margin(self, log: float, power: float) -> float:
        """``log`` less ``power`` decades of the margin."""
        if math.isnan(log) or math.isnan(self.hard_margin):
            return math.nan
        return log - power * math.log10(self.hard_margin) if self.hard_margin > 0 else math.inf

    def rise(self, scale: str, noise: float) -> float:
        if not noise > 0:
            return math.nan
        return expected_sharpness(
            self.model, self.split, self.loss, radius=noise, scale=scale, draws=self.draws, seed=self.seed  # type: ignore[arg-type]
        ).value  # fmt: skip

    def tolerated(self, scale: str) -> float:
        draws = max(2, self.draws // 4)
        found = _or_none(
            lambda: tolerated_noise_value(self.model, self.split, self.loss, scale=scale, draws=draws, seed=self.seed)  # type: ignore[arg-type]
        )
        return math.nan if found is None else found

    @cached_property
    def even_noise(self) -> float:
        return self.tolerated("absolute")

    def around_prior(self, squared: float) -> float:
        return squared / (4 * self.even_noise**2) + math.log(len(self.split) / self.even_noise)


def _product(network: _Network, norm: Callable[[Tensor], float]) -> float:
    if not network.matrices:
        return math.nan
    return 2 * math.fsum(math.log10(norm(m)) for m in network.matrices)


def _frobenius(network: _Network) -> float:
    return _product(network, lambda m: float(m.norm()))


def _spectral(network: _Network) -> float:
    """Of the layers as the linear maps they are; of the weights as matrices where the chain is not known."""
    if network.complexity is not None:
        return 2 * math.fsum(math.log10(norm) for norm in network.complexity.norms.values())
    return _product(network, lambda m: float(torch.linalg.matrix_norm(m, 2)))


def _mean_rank(network: _Network) -> float:
    ranks = [stable_rank(m) for m in network.matrices]
    return math.fsum(ranks) / len(ranks) if ranks else math.nan


def _even_sharpness(network: _Network) -> float:
    return network.rise("absolute", network.radius * network.length / math.sqrt(network.size))


def _adaptive_sharpness(network: _Network) -> float:
    return network.rise("weight", network.radius if network.length > 0 else 0.0)


def _worst(network: _Network) -> float:
    found = _or_none(lambda: tolerated_perturbation(network.model, network.split, network.loss).value)
    return math.nan if found is None else found**-2


def _noise(network: _Network) -> float:
    rows = network.split.take(network.split.subset(NOISE_ROWS))
    found = _or_none(lambda: gradient_noise(network.model, rows, network.loss))
    return math.nan if found is None else found.covariance_trace


def _effective(network: _Network) -> float:
    rows = network.split.take(network.split.subset(ROWS))
    found = _or_none(lambda: effective_parameters(network.model, rows, network.loss).value)
    return math.nan if found is None else found


def _complexity(found: SpectralComplexity | None) -> float:
    return math.nan if found is None else found.complexity


_MEASURES: dict[str, Callable[[_Network], float]] = {
    "parameters": lambda n: float(n.size),
    "layers": lambda n: float(len(n.matrices)),
    "length": lambda n: n.length,
    "distance": lambda n: n.distance,
    "frobenius": _frobenius,
    "frobenius_margin": lambda n: n.over_margin(_frobenius(n), 2),
    "spectral": _spectral,
    "spectral_margin": lambda n: n.over_margin(_spectral(n), 2),
    "stable_rank": _mean_rank,
    "spectral_complexity": lambda n: _complexity(n.complexity),
    "spectral_complexity_margin": lambda n: n.over_margin(_complexity(n.moved), 1),
    "path_norm": lambda n: n.path,
    "path_norm_margin": lambda n: n.over_margin(n.path, 2),
    "inverse_margin": lambda n: 10 ** n.over_margin(0.0, 2),
    "sharpness": _even_sharpness,
    "adaptive_sharpness": _adaptive_sharpness,
    "flatness": lambda n: n.even_noise**-2,
    "adaptive_flatness": lambda n: n.tolerated("weight") ** -2,
    "flatness_length": lambda n: n.around_prior(n.length**2),
    "flatness_distance": lambda n: n.around_prior(n.distance**2),
    "worst_sharpness": _worst,
    "gradient_noise": _noise,
    "weight_alpha": lambda n: mean_alpha(weight_spectrum(n.model, draws=0, permutations=0)),
    "effective_parameters": _effective,
    "train_loss": lambda n: objective(n.model, n.split, n.loss).value,
}


def _or_none(compute: Callable[[], T]) -> T | None:
    """A measure that is not defined for a network is left out; the others still are."""
    try:
        return compute()
    except (RefusedError, ValueError, RuntimeError):  # a layer, an output or a loss that it does not know
        return None


def _length(tensors: Mapping[str, Tensor]) -> float:
    return math.sqrt(math.fsum(float(t.square().sum()) for t in tensors.values()))
