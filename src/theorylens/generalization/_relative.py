"""Certificates of a retrained relative: of a random network around a learnt prior, and of the prior network itself.

Both rest on the units the prior did not see, each at its own level: the smaller of the two is not a certificate.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from theorylens.core import Subject, global_randomness_kept, key_seed
from theorylens.numerics.concentration import chernoff_kl
from theorylens.numerics.counting import count
from theorylens.numerics.memory import Batch
from theorylens.results import Certificate, Message

from ._bound_units import Ground, error_on_test, ground, of_bound_units, of_draws, some, taken, wrong, wrong_as_trained
from ._gaussian_posterior import GaussianPosterior, drawable
from ._gibbs_risk import GibbsRisk, gibbs_risk
from ._holdout import holdout_bound
from ._learnt_prior import Parts, parts
from ._pac_bayes import pac_bayes_kl
from ._posterior_training import PosteriorTraining, train_posterior

Weights = Literal["dense", "all"]
MONTE_CARLO = 0.1  # share of delta for the draws: many cheap terms make its price small
TERMS_PER_BATCH = 10  # examples that share a draw where each cannot have its own: smaller costs passes, larger terms
THEOREM = Message("theorem.pac_bayes_kl", "PAC-Bayes-kl with the exact constant ξ(n)")
FIXED = Message("theorem.fixed_draws", "Chernoff–kl: the distribution of networks was fixed before")
HOLDOUT = Message("theorem.holdout_relative", "Clopper–Pearson on the units the prior did not see")


@dataclass(frozen=True, kw_only=True)
class LearntPrior:
    """One way to certify a relative. Everything here is fixed before a bound is computed; each way tried is paid for.

    Parameters
    ----------
    share
        Of the independent training units that the prior is trained on.
    prior_std
        Standard deviation of the prior around the trained weights.
    draws
        How often each bound unit is scored by a fresh network.
    weights
        Which are random: ``"dense"``, those of dense layers where every example can have a draw of its own (the others
        belong to the prior network), or ``"all"``, convolutions included, with one draw per few examples.
    training
        Of the posterior, on all training rows; None leaves it at the prior, which has not seen the bound units: then
        Chernoff's bound takes the place of PAC-Bayes.
    seed
        Of the division, the training and the draws.
    """

    share: float = 0.7
    prior_std: float = 0.01
    draws: int = 100
    weights: Weights = "dense"
    training: PosteriorTraining | None = field(default_factory=PosteriorTraining)
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Relative:
    """What a recipe certifies on training examples, with the errors behind it.

    Attributes
    ----------
    gibbs
        Certificate of a network drawn from the posterior.
    holdout
        Certificate of the prior network itself on the same units: the line that PAC-Bayes has to beat.
    divergence
        KL(posterior || prior) in nats.
    risk
        Empirical risk of drawn networks on the bound units, and over how many draws.
    random_parameters
        How many weights are random.
    posterior
        What ``gibbs`` is about is a network drawn from it, anew for every example.
    test_error
        Error of the prior network on the test split where there is one; not used by any certificate.
    subject
        The prior network with its data.
    """

    gibbs: Certificate
    holdout: Certificate
    divergence: float
    risk: GibbsRisk
    random_parameters: int
    by_example: bool
    posterior: GaussianPosterior
    test_error: float | None
    subject: Subject


def certify_relative(
    subject: Subject, way: LearntPrior | None = None, *, delta: float = 0.05, comparisons: int = 1
) -> Relative:  # fmt: skip
    """Train a relative of ``subject`` by its recipe and certify it on the training units it did not see.

    Parameters
    ----------
    delta
        Failure probability of each of the two certificates.
    comparisons
        Number of ways that are or were tried on these units; they share ``delta``.

    Raises
    ------
    RefusedError
        The recipe cannot train on part of the data.
    UnsuitableError
        There is no recipe, or the task is not classification with the 0-1 error.
    ValueError
        A number outside its range.
    """
    way = way or LearntPrior()
    base = ground(subject, delta, comparisons)
    divided = parts(base.split, base.found.answers.rows.numpy(), way.share, seed=way.seed)
    relative = base.trained(divided.prior, divided.bound, way.seed)
    return _certified(base, relative, divided, way)


def _certified(base: Ground, relative: Subject, divided: Parts, way: LearntPrior) -> Relative:
    batch = taken(base, divided.bound, relative)
    n = len(divided.bound)
    errors = wrong_as_trained(relative, batch, n)
    posterior = posterior_around(relative, batch, way.prior_std, way.weights)
    for_draws = base.share * MONTE_CARLO
    for_data = base.share - for_draws
    if way.training is not None:
        train_posterior(posterior, relative.judged, base.split, n=n, delta=for_data, how=way.training, seed=way.seed)
    risk = drawn_risk(relative, posterior, batch, n, draws=way.draws, seed=way.seed)
    with torch.no_grad():
        divergence = float(posterior.divergence())
    # A distribution that has not seen the bound units is one predictor: no divergence, no constant to pay.
    fixed = way.training is None
    upper = risk.upper(for_draws)
    bound = chernoff_kl(upper, n, for_data) if fixed else pac_bayes_kl(upper, max(0.0, divergence), n, for_data)
    paid = {of_bound_units(n): for_data, of_draws(risk.terms): for_draws}
    held = holdout_bound(errors.numpy(), delta=base.delta, comparisons=base.known)
    return Relative(
        gibbs=base.certificate(FIXED if fixed else THEOREM, bound, risk.mean, divided.bound, paid),
        holdout=base.certificate(HOLDOUT, held.bound, held.empirical, divided.bound, {of_bound_units(n): base.share}),
        divergence=divergence, risk=risk, random_parameters=posterior.parameters_drawn, by_example=posterior.by_example,
        posterior=posterior, test_error=error_on_test(relative), subject=relative,
    )  # fmt: skip


def posterior_around(
    relative: Subject, batch: Batch, prior_std: float, weights: Weights = "dense"
) -> GaussianPosterior:
    """A posterior at its prior around the weights of ``relative``."""
    if weights == "all":
        names, alone = tuple(name for name, p in relative.net.named_parameters() if p.requires_grad), False
    elif weights == "dense":
        few = some(batch, torch.arange(2))
        with relative.studied():
            names, alone = drawable(relative.net, lambda net: relative.judged.forward(net, few))
    else:
        raise ValueError(f"weights must be 'dense' or 'all', got {weights!r}")
    return GaussianPosterior(relative.net, prior_std, names, by_example=alone).to(relative.device)


def drawn_risk(
    relative: Subject, posterior: GaussianPosterior, batch: Batch, n: int, *, draws: int, seed: int
) -> GibbsRisk:  # fmt: skip
    """The 0-1 risk of networks drawn from ``posterior`` on the examples of ``batch``."""
    posterior.eval()
    with global_randomness_kept(key_seed("gibbs", seed)), torch.no_grad():
        risk = gibbs_risk(
            lambda rows: wrong(relative, posterior, some(batch, rows)),
            n, draws=draws, batch=terms_together(relative, posterior), by_example=posterior.by_example,
        )  # fmt: skip
    count(forwards=n * draws)
    return risk


def terms_together(relative: Subject, posterior: nn.Module) -> int:
    """How many examples are scored at once: a matter of memory, or of terms where they share a draw."""
    return relative.batch_size if getattr(posterior, "by_example", False) else TERMS_PER_BATCH
