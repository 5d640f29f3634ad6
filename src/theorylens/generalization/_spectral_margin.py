"""A PAC-Bayes margin bound for a trained network as it is, from spectral norms, with every constant in it.

The layers, divided by their spectral norms (which changes no answer of a network of ReLUs without biases), get Gaussian
noise of standard deviation s. A Gaussian matrix (a, b) has a spectral norm above s (sqrt a + sqrt b + r) with
probability at most exp(-r^2 / 2) (Davidson, Szarek 2001); with r^2 = 2 ln(d / eta), all d layers stay below it with
probability 1 - eta. Then, for every input of norm at most B, by telescoping,

    |f_noisy(x) - f(x)| <= B (prod_i (1 + t_i) - 1) =: R,   t_i = s (sqrt a_i + sqrt b_i + r),

so no margin moves by more than sqrt(2) R =: g / 2. The posterior is the noise given that event. Errors of f have noisy
margins of at most g / 2; examples that f gets right by more than g have noisy margins above g / 2. With P = N(0, s^2)
or around the normed initialisation,

    kl(share of margins <= g || error of f) <= (KL' + ln(xi(n) K / delta)) / n,
    KL' <= (sum_i |W_i - start_i|_F^2 / 2 s^2 + ln 2) / (1 - eta)

for K values of s fixed in advance (g follows from s). The last line: noise is a mixture of its parts inside and outside
the event, of chances 1 - e >= 1 - eta and e, so its KL is (1 - e) KL' + e KL'' - H(e), and H(e) <= ln 2.

Source   Neyshabur, Bhojanapalli, Srebro (2018), ICLR; derived again with constants, the kl form and normed layers
Assumes  architecture and B fixed before the examples; layers without biases, ReLU or leaky ReLU between them
Breaks   nothing; it is vacuous for nearly every network
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from theorylens.core import modules_in_training
from theorylens.numerics.label_margins import margins

from ._asked import positive, probability
from ._layer_chain import chain
from ._pac_bayes import pac_bayes_kl

SCALES = tuple(float(s) for s in np.geomspace(1e-6, 1.0, 61))  # of the noise; all are paid for
ETA = 0.01  # chance left to noise that is larger than its layers allow
_BETWEEN = (nn.ReLU, nn.LeakyReLU, nn.Flatten, nn.Dropout, nn.Identity)


@dataclass(frozen=True, kw_only=True)
class SpectralMarginBound:
    """Upper bound on the expected 0-1 error of the network itself, and what went into it.

    Attributes
    ----------
    empirical
        Share of the examples with a margin at most ``margin``.
    margin
        In units of the outputs divided by the product of the spectral norms.
    scale
        Standard deviation of the noise.
    divergence
        KL' in nats.
    """

    bound: float
    empirical: float
    margin: float
    scale: float
    divergence: float
    vacuous: bool


def tolerated_margin(scale: float, shapes: list[tuple[int, int]], radius: float, *, eta: float = ETA) -> float:
    """How far noise of this ``scale`` may move a margin, g / 2, of normed layers with these shapes; exceeded with
    chance at most ``eta``.

    >>> round(tolerated_margin(0.001, [(10, 20)], 1.0), 6)
    0.015089
    """
    reach = math.sqrt(2 * math.log(len(shapes) / eta))
    grown = math.fsum(math.log1p(scale * (math.sqrt(a) + math.sqrt(b) + reach)) for a, b in shapes)
    return math.sqrt(2) * radius * (math.expm1(grown) if grown < 700 else math.inf)


def spectral_margin_bound(
    model: nn.Module, inputs: Tensor, targets: Tensor, delta: float, *, radius: float, start: nn.Module | None = None
) -> SpectralMarginBound:  # fmt: skip
    """Bound on the expected error of a fully connected classifier from its training examples.

    Parameters
    ----------
    model
        A chain of linear layers without biases, with ReLU or leaky ReLU between them.
    inputs, targets
        The training examples (m, ...), flattened; class numbers, or with one output 0 and 1.
    radius
        B, the largest norm an input can have, known without the examples: sqrt(d) for d inputs in [0, 1].
    start
        The network before training, for a prior around its normed layers; by default the prior is around 0.

    Raises
    ------
    ValueError
        Another kind of layer, a bias, an input longer than ``radius``, a layer of zeros, shapes that do not fit.
    """
    probability("delta", delta)
    positive("radius", radius)
    if noisy := modules_in_training(model):
        raise ValueError(f"{', '.join(noisy)} is in training mode, so the answers are not settled; call model.eval()")
    weights, product = _normed(model)
    longest = float(inputs.detach().flatten(1).double().norm(dim=1).max())
    if not longest <= radius * (1 + 1e-6):
        raise ValueError(f"an input has norm {longest:.6g}, above the radius {radius:.6g} that was promised")
    starts = [torch.zeros_like(w) for w in weights] if start is None else _normed(start)[0]
    if [w.shape for w in weights] != [w.shape for w in starts]:
        raise ValueError("start must have the layers of the model")
    square = sum(float((w - w0).square().sum()) for w, w0 in zip(weights, starts, strict=True))
    with torch.no_grad():
        normed = margins(model(inputs), targets).double() / product
    shapes = [(w.shape[0], w.shape[1]) for w in weights]
    n = len(normed)
    scales = np.array(SCALES)
    margin = np.array([2 * tolerated_margin(scale, shapes, radius) for scale in SCALES])
    nats = (square / (2 * scales**2) + math.log(2)) / (1 - ETA) * (1 + 1e-9)
    # Outputs are rounded where they are float32, hence the factor.
    empirical = (normed.cpu().numpy()[:, None] <= margin * (1 + 1e-6)).mean(0)
    bounds = pac_bayes_kl(empirical, nats, n, delta / len(SCALES))
    best = int(np.argmin(bounds))
    return SpectralMarginBound(
        bound=float(bounds[best]), empirical=float(empirical[best]), margin=float(margin[best]), scale=SCALES[best],
        divergence=float(nats[best]), vacuous=bool(bounds[best] >= 1),
    )  # fmt: skip


def _normed(model: nn.Module) -> tuple[list[Tensor], float]:
    """The weight matrices divided by their spectral norms, float64, and the product of these norms."""
    layers = chain(model)
    for name, layer in layers:
        steep = isinstance(layer, nn.LeakyReLU) and not 0 <= layer.negative_slope <= 1
        biased = isinstance(layer, nn.Linear) and layer.bias is not None
        if steep or biased or not isinstance(layer, (nn.Linear, *_BETWEEN)):
            what = "has a bias" if biased else "is no linear layer, ReLU or leaky ReLU"
            raise ValueError(f"{type(layer).__name__} (at {name or 'the model'}) {what}; the theorem is not about it")
    weights = [layer.weight.detach().cpu().double() for _, layer in layers if isinstance(layer, nn.Linear)]
    if not weights:
        raise ValueError("the model has no linear layer, so there is no norm to take")
    norms = [float(torch.linalg.matrix_norm(w, 2)) for w in weights]
    if not all(0 < norm < math.inf for norm in norms):
        raise ValueError(f"the spectral norms of the layers are {norms}; all must be positive and finite")
    return [w / norm for w, norm in zip(weights, norms, strict=True)], math.prod(norms)
