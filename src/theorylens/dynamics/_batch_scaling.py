"""What the learning rate becomes when the batch changes, and up to where that holds.

Source   Goyal et al. (2017), arXiv:1706.02677 (linear, SGD); Malladi, Lyu, Panigrahi, Arora (2022), NeurIPS (square
         root, adaptive methods); McCandlish, Kaplan, Amodei et al. (2018), arXiv:1812.06162 (saturation:
         η(B) = η_max / (1 + B_noise / B))
Assumes  steps dominated by gradient noise; the noise scale of this model at this time
Breaks   past the noise scale larger batches buy little; the noise scale grows during training
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from theorylens.landscape import stability_limit
from theorylens.results import Estimate, Message

PLAIN = ("sgd", "momentum", "nesterov")
ADAPTIVE = ("adam", "adamw", "rmsprop", "adagrad", "lamb", "lion")


@dataclass(frozen=True, kw_only=True)
class ScaledRate:
    """A learning rate for another batch size.

    Attributes
    ----------
    lr
        The new learning rate.
    rule
        The formula it came from.
    warning
        What the rule cannot know here; None when the noise scale is measured and the batch lies below it.
    """

    lr: float
    rule: str
    warning: Message | None


def scale_learning_rate(
    lr: float, batch: int, new_batch: int, *, optimizer: str = "sgd", noise_scale: float | Estimate | None = None
) -> ScaledRate:
    """Learning rate for ``new_batch`` that takes steps like those of ``lr`` at ``batch``.

    Without a noise scale the rule is linear for SGD and the square root for adaptive methods. With one, the growth
    saturates: the ratio is (1 + B_noise/B) / (1 + B_noise/B'), which is linear far below the noise scale and constant
    far above it (its square root for adaptive methods).

    Parameters
    ----------
    noise_scale
        B_noise in examples, for instance ``bias.gradient_noise_scale(...)``.

    Raises
    ------
    ValueError
        A batch below 1, a learning rate or noise scale that is not positive, an unknown optimiser.

    >>> scale_learning_rate(0.01, 256, 1024).lr
    0.04
    """
    if batch < 1 or new_batch < 1:
        raise ValueError(f"batches must have at least 1 example, got {batch} and {new_batch}")
    if not (math.isfinite(lr) and lr > 0):
        raise ValueError(f"lr must be a positive number, got {lr}")
    name = optimizer.lower()
    if name not in PLAIN + ADAPTIVE:
        raise ValueError(
            f"no scaling rule is known for optimizer {optimizer!r}; there are {', '.join(PLAIN + ADAPTIVE)}"
        )
    adaptive = name in ADAPTIVE
    warning: Message | None
    if noise_scale is None:
        ratio = new_batch / batch
        warning = Message(
            "dynamics.scaling.unmeasured",
            "this holds while gradient noise dominates, and the noise scale was not measured; measure it before "
            "batches grow",
        )
        rule = "square root" if adaptive else "linear"
    else:
        known = noise_scale.value if isinstance(noise_scale, Estimate) else float(noise_scale)
        if not (math.isfinite(known) and known > 0):
            raise ValueError(f"noise_scale must be a positive number of examples, got {known}; it may be undetermined")
        ratio = (1 + known / batch) / (1 + known / new_batch)
        warning = _beyond(new_batch, known)
        rule = "saturating square root" if adaptive else "saturating"
    return ScaledRate(lr=lr * (math.sqrt(ratio) if adaptive else ratio), rule=rule, warning=warning)


def _beyond(new_batch: int, noise_scale: float) -> Message | None:
    if new_batch <= noise_scale:
        return None
    return Message(
        "dynamics.scaling.beyond",
        "a batch of {batch} lies above the noise scale of {scale:.3g} examples: it makes steps better, not "
        "correspondingly longer, and costs more examples for the same loss",
        batch=new_batch, scale=noise_scale,
    )  # fmt: skip


def max_stable_lr(sharpness: float, momentum: float = 0.0) -> float:
    """Largest learning rate at which gradient descent does not diverge on curvature ``sharpness``: 2 (1 + β) / λ.

    The inverse of `landscape.stability_limit`.

    >>> max_stable_lr(10.0)
    0.2
    """
    if not (math.isfinite(sharpness) and sharpness > 0):
        raise ValueError(
            f"sharpness must be a positive number, got {sharpness}; a loss that bends nowhere upwards has no limit"
        )
    return stability_limit(sharpness, momentum)  # the limit is symmetric in lr and sharpness
