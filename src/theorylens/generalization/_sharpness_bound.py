"""What flatness does prove: a PAC-Bayes bound on a network with noise in its weights, flatness being one of its terms.

Method   Gaussian noise of one size around the network, the same around weights fixed before the data as the prior;
         the error under noise from draws, its price |w - w0|² / 2 sigma² nats; PAC-Bayes-kl with the exact constant
Source   McAllester (2003); Neyshabur, Bhojanapalli, McAllester, Srebro (2017), NeurIPS; Dziugaite, Roy (2017), UAI
Assumes  independent examples; a reference that depends on none of them; sizes of noise chosen beforehand
Breaks   a flat minimum far from the reference costs as much as a sharp one near it: flatness alone bounds nothing
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from theorylens.core import Split, rng_for
from theorylens.numerics.relative_entropy import kl_inverse

from ._pac_bayes import pac_bayes_kl
from ._tolerated_noise import error_around

SIGMAS = (0.003, 0.01, 0.03, 0.1)


@dataclass(frozen=True, kw_only=True)
class SharpnessBound:
    """A bound on the expected error of the network with noise, and what it is made of.

    Attributes
    ----------
    bound
        With probability 1 - ``delta`` the error of the noisy network on new examples is at most this.
    sigma
        Standard deviation of the noise for which the bound is smallest, among ``tried`` sizes.
    error, rise
        Error of the network itself on the data, and by how much noise raises it on average: sharpness of the error.
    divergence
        |w - w0|² / 2 sigma², nats.
    examples, draws, delta
        The bound holds for all sizes tried at once: delta is shared among them, and between data and draws.
    """

    bound: float
    sigma: float
    error: float
    rise: float
    divergence: float
    examples: int
    draws: int
    tried: int
    delta: float


def sharpness_bound(
    model: nn.Module,
    data: Any,
    loss: Any,
    *,
    reference: Mapping[str, Tensor],
    sigmas: Sequence[float] = SIGMAS,
    delta: float = 0.05,
    draws: int = 64,
    seed: int = 0,
    batch_size: int = 1024,
) -> SharpnessBound:
    """The PAC-Bayes bound in which flatness appears, for a network as it is: small noise is dear, large noise errs.

    It speaks of the noisy network on new examples, not of the network itself, and for networks of ordinary size it is
    above 1 unless the weights moved little: what it shows is which two numbers flatness trades. `certify` trains the
    noise instead and is far tighter.

    Parameters
    ----------
    model, data, loss
        As in `tolerated_noise`: the task must have an error; rows are independent examples.
    reference
        State dict before the data were seen, such as the initial one; the trainable parameters of ``model`` are in it.
    sigmas
        Sizes of noise, chosen beforehand, positive.
    draws
        Of the noise for each size.

    Raises
    ------
    ValueError
        No sigma or one that is not positive, a delta outside (0, 1), no draws, a reference that lacks a parameter.
    RefusedError
        As `tolerated_noise`.
    """
    if not sigmas or not all(math.isfinite(s) and s > 0 for s in sigmas):
        raise ValueError(f"sigmas must be positive numbers, got {list(sigmas)}")
    if not 0 < delta < 1 or draws < 1:
        raise ValueError(f"needed are 0 < delta < 1 and at least one draw, got {delta} and {draws}")
    around, n = error_around(model, data, loss, batch_size), len(Split.of(data))
    squared = _squared_distance(model, reference)
    part = delta / (2 * len(sigmas))
    best: SharpnessBound | None = None
    for k, sigma in enumerate(sigmas):
        rng = rng_for(seed, "generalization.sharpness_bound", k)
        errors = [around.loss(sigma * torch.randn(around.size, generator=rng).to(around.here)) for _ in range(draws)]
        mean = math.fsum(errors) / draws
        upper = kl_inverse(mean, math.log(1 / part) / draws)
        divergence = squared / (2 * sigma**2)
        found = SharpnessBound(
            bound=min(1.0, pac_bayes_kl(upper, divergence, n, part)), sigma=sigma, error=around.base,
            rise=mean - around.base, divergence=divergence, examples=n, draws=draws, tried=len(sigmas), delta=delta,
        )  # fmt: skip
        if best is None or found.bound < best.bound:
            best = found
    assert best is not None
    return best


def _squared_distance(model: nn.Module, reference: Mapping[str, Tensor]) -> float:
    total = []
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        if name not in reference or reference[name].shape != p.shape:
            raise ValueError(f"the reference has no {name} of shape {tuple(p.shape)}; give the state before training")
        total.append(float((p.detach().double().cpu() - reference[name].double().cpu()).square().sum()))
    return math.fsum(total)
