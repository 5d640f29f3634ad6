"""Bounds on the error of a vote: from the error of one voter, and from how often two voters err together.

The vote of weights rho over classifiers is wrong only where voters of weight 1/2 or more are wrong, 1[vote wrong] <=
1[W >= 1/2] with W the weight of the wrong. Markov's inequality for W gives twice the risk of a voter drawn from rho;
for W^2, four times the risk that two voters drawn apart are both wrong, whatever the number of classes:

    L(vote) <= 2 E_rho L(h)     (first order)          L(vote) <= 4 E_{rho x rho} L(h, h')     (tandem)

The tandem risk is that of a pair: prior pi x pi, posterior rho x rho, divergence 2 KL(rho || pi).

Source   Masegosa, Lorenzen, Igel, Seldin (2020), NeurIPS, theorems 2 and 4 of the arXiv version (from memory; both
         steps are derived above)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import softmax

from ._pac_bayes import pac_bayes_kl

Floats = NDArray[np.float64]


def first_order_bound(gibbs: float, divergence: float, n: int, delta: float) -> float:
    """Bound on the error of the vote from the risk of one voter: twice `pac_bayes_kl`, at most 1.

    Parameters
    ----------
    gibbs
        Mean error of a voter drawn from the weights, on n examples that no voter has seen.
    divergence
        KL(weights || prior weights), nats.

    >>> round(first_order_bound(0.1, 0.0, 2000, 0.05), 4)
    0.254
    """
    return min(1.0, 2 * float(pac_bayes_kl(gibbs, divergence, n, delta)))


def tandem_bound(tandem: float, divergence: float, n: int, delta: float) -> float:
    """Bound on the error of the vote from how often two voters drawn apart are both wrong: four times its bound.

    Parameters
    ----------
    tandem
        Mean over pairs and examples of [both wrong], see `tandem_losses`; an upper bound on it when it is sampled.
    divergence
        KL(weights || prior weights), nats, of one voter; the pair pays twice.

    Raises
    ------
    ValueError
        As `pac_bayes_kl`.

    >>> round(tandem_bound(0.02, 0.0, 2000, 0.05), 4)
    0.1363
    """
    return min(1.0, 4 * float(pac_bayes_kl(tandem, 2 * divergence, n, delta)))


def tandem_losses(errors: Any) -> Floats:
    """How often each two voters are both wrong, from errors (voters, examples) of 0 and 1; shape (voters, voters).

    The diagonal holds the error of each voter.
    """
    wrong = _errors(errors)
    return np.asarray(wrong @ wrong.T / wrong.shape[1])


def weights_divergence(weights: Any, prior: Any | None = None) -> float:
    """KL(weights || prior) over voters, in nats; the prior is uniform unless given.

    >>> round(weights_divergence([1.0, 0.0]), 6)
    0.693147
    """
    rho = _distribution("weights", weights)
    pi = np.full(len(rho), 1 / len(rho)) if prior is None else _distribution("prior", prior)
    if pi.shape != rho.shape:
        raise ValueError(f"weights and prior need one entry per voter, got {len(rho)} and {len(pi)}")
    held = rho > 0
    if (pi[held] == 0).any():
        return math.inf
    return max(0.0, math.fsum(rho[held] * (np.log(rho[held]) - np.log(pi[held]))))


def tandem_weights(losses: Any, n: int, delta: float) -> Floats:
    """Weights of voters that make the tandem bound small; shape (voters,).

    Minimises (sqrt(t + c) + sqrt(c))^2 with t = rho.T losses rho and c = (2 KL(rho || uniform) + ln(2 sqrt(n)/delta)) /
    2n, which lies above the kl form, over the logarithms of the weights. Any weights may be used in `tandem_bound`:
    this only looks for good ones.
    """
    t = np.asarray(losses, dtype=np.float64)
    if t.ndim != 2 or t.shape[0] != t.shape[1] or not ((t >= 0) & (t <= 1)).all():
        raise ValueError(f"tandem losses (voters, voters) in [0, 1] are needed, got shape {t.shape}")

    def relaxed(logits: Floats) -> float:
        rho = softmax(logits)
        c = (2 * weights_divergence(rho) + math.log(2 * math.sqrt(n) / delta)) / (2 * n)
        return (math.sqrt(float(rho @ t @ rho) + c) + math.sqrt(c)) ** 2

    found = minimize(relaxed, np.zeros(len(t)), method="BFGS")
    return np.asarray(softmax(found.x), dtype=np.float64)


def plurality(classes: Any, weights: Any | None = None) -> NDArray[np.int64]:
    """The class with the largest weight for each example; (voters, examples) in, (examples,) out; ties to the smallest.

    >>> plurality([[0, 1], [2, 1], [2, 0]]).tolist()
    [2, 1]
    """
    votes = np.asarray(classes)
    if votes.ndim != 2 or votes.dtype.kind not in "iu" or votes.size == 0 or votes.min() < 0:
        raise ValueError(f"classes (voters, examples), whole numbers from 0 on, are needed, got {votes.shape}")
    rho = np.full(len(votes), 1 / len(votes)) if weights is None else _distribution("weights", weights)
    if len(rho) != len(votes):
        raise ValueError(f"one weight per voter is needed, got {len(rho)} for {len(votes)}")
    heard = np.zeros((int(votes.max()) + 1, votes.shape[1]))
    for vote, weight in zip(votes, rho, strict=True):
        heard[vote, np.arange(votes.shape[1])] += weight
    # Equal weights may add up to sums that differ by rounding; nobody should win by it.
    return np.asarray(np.argmax(heard >= heard.max(0) * (1 - 1e-12), axis=0), dtype=np.int64)


def _errors(errors: Any) -> Floats:
    wrong = np.asarray(errors, dtype=np.float64)
    if wrong.ndim != 2 or wrong.size == 0 or not np.isin(wrong, (0, 1)).all():
        raise ValueError(f"errors (voters, examples) of 0 and 1 are needed, got shape {wrong.shape}")
    return wrong


def _distribution(name: str, given: Any) -> Floats:
    value = np.asarray(given, dtype=np.float64)
    if value.ndim != 1 or not len(value) or not (value >= 0).all() or abs(value.sum() - 1) > 1e-9:
        raise ValueError(f"{name} must be at least 0 and add up to 1, got {given}")
    return value
