"""Certificates of a retrained relative: of a random network around a learnt prior, and of the prior network itself.

Both rest on the units the prior did not see, each at its own level: the smaller of the two is not a certificate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from theorylens.core import RefusedError, Split, Subject, UnsuitableError, global_randomness_kept, key_seed
from theorylens.numerics.counting import count
from theorylens.numerics.memory import Batch, to_device
from theorylens.results import Certificate, Message, Predictor, Share

from ._answers import answers
from ._evidence import LOSS, Evidence, evidence, hashes
from ._gaussian_posterior import GaussianPosterior, drawable
from ._gibbs_risk import GibbsRisk, gibbs_risk
from ._holdout import holdout_bound
from ._learnt_prior import Parts, parts
from ._pac_bayes import pac_bayes_kl
from ._posterior_training import PosteriorTraining, train_posterior

MONTE_CARLO = 0.1  # share of delta for the draws: many cheap terms make its price small
TERMS_PER_BATCH = 10  # examples that share a draw where each cannot have its own: smaller costs passes, larger terms
THEOREM = Message("theorem.pac_bayes_kl", "PAC-Bayes-kl with the exact constant ξ(n)")
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
    training
        Of the posterior, on all training rows; None leaves it at the prior.
    seed
        Of the division, the training and the draws.
    """

    share: float = 0.7
    prior_std: float = 0.01
    draws: int = 100
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
    if subject.recipe is None:
        text = "a relative is trained again, which takes a recipe; give recipe=Recipe(train) to Subject"
        raise UnsuitableError(Message("certify.no_recipe", text))
    if comparisons < 1 or not 0 < delta < 1:
        raise ValueError(f"delta in (0, 1) and comparisons >= 1 are needed, got {delta} and {comparisons}")
    found = evidence(subject, "train")
    if not found.answers.binary or subject.judged.kind != "classification":
        text = "a Gibbs certificate here is about the 0-1 error of a classifier; this task has {error}"
        raise UnsuitableError(Message("certify.not_binary", text, error=subject.judged.error_name))
    divided = parts(subject.split("train"), found.answers.rows.numpy(), way.share, seed=way.seed)
    with global_randomness_kept():
        relative = subject.recipe(seed=way.seed, rows=divided.prior)
    _refuse_a_look(subject, relative, divided)
    return _certified(subject, relative, found, divided, way, delta, comparisons)


def _refuse_a_look(subject: Subject, relative: Subject, divided: Parts) -> None:
    """The recipe's own word on what it trained on must not contain a unit of the bound."""
    if not relative.has("train"):
        return
    hidden = subject.split("train").input_hashes
    seen = set(relative.split("train").input_hashes)
    if shared := sum(hidden[row] in seen for row in divided.bound):
        raise RefusedError(
            f"the recipe was given {len(divided.prior)} rows to train on, and its training split holds {shared} of the "
            f"{len(divided.bound)} it was to leave out; a bound on them would not be valid. Train on rows= only"
        )


def _certified(
    subject: Subject, relative: Subject, found: Evidence, divided: Parts, way: LearntPrior, delta: float, known: int
) -> Relative:  # fmt: skip
    batch = to_device(subject.split("train").take(divided.bound), relative.device)
    n, share = len(divided.bound), delta / known
    with relative.studied(), torch.no_grad():
        wrong = _errors(relative, relative.net, batch)
    count(forwards=n)
    posterior = _posterior(relative, batch, way)
    for_draws = share * MONTE_CARLO
    for_data = share - for_draws
    if way.training is not None:
        train_posterior(
            posterior, relative.judged, subject.split("train"), n=n, delta=for_data, how=way.training, seed=way.seed
        )
    risk = _risk(relative, posterior, batch, n, way)
    with torch.no_grad():
        divergence = float(posterior.divergence())
    bound = pac_bayes_kl(risk.upper(for_draws), max(0.0, divergence), n, for_data)
    paid = {
        Message("ledger.bound_units", "draw of the {n} bound units", n=n): for_data,
        Message("ledger.draws", "{terms} draws of networks", terms=risk.terms): for_draws,
    }
    facts = _Facts(subject, found, divided, delta, known)
    held = holdout_bound(wrong.numpy(), delta=delta, comparisons=known)
    drawn_units = {Message("ledger.bound_units", "draw of the {n} bound units", n=n): share}
    return Relative(
        gibbs=facts.certificate(THEOREM, bound, risk.mean, paid),
        holdout=facts.certificate(HOLDOUT, held.bound, held.empirical, drawn_units),
        divergence=divergence, risk=risk, random_parameters=posterior.parameters_drawn, by_example=posterior.by_example,
        test_error=float(answers(relative, "test").errors.mean()) if relative.has("test") else None, subject=relative,
    )  # fmt: skip


def _posterior(relative: Subject, batch: Batch, way: LearntPrior) -> GaussianPosterior:
    few = _part(batch, torch.arange(2))
    with relative.studied():
        names, alone = drawable(relative.net, lambda net: relative.judged.forward(net, few))
    return GaussianPosterior(relative.net, way.prior_std, names, by_example=alone).to(relative.device)


def _risk(relative: Subject, posterior: GaussianPosterior, batch: Batch, n: int, way: LearntPrior) -> GibbsRisk:
    posterior.eval()
    size = relative.batch_size if posterior.by_example else TERMS_PER_BATCH
    with global_randomness_kept(key_seed("gibbs", way.seed)), torch.no_grad():
        risk = gibbs_risk(
            lambda rows: _errors(relative, posterior, _part(batch, rows)),
            n, draws=way.draws, batch=size, by_example=posterior.by_example,
        )  # fmt: skip
    count(forwards=n * way.draws)
    return risk


def _errors(relative: Subject, model: torch.nn.Module, batch: Batch) -> Tensor:
    error = relative.judged.error
    assert error is not None
    outputs, targets = relative.judged.forward(model, batch)
    return error(outputs, targets).cpu()


def _part(batch: Batch, rows: Tensor) -> Batch:
    return Split(batch).take(rows)


@dataclass(frozen=True)
class _Facts:
    """What the two certificates have in common."""

    subject: Subject
    found: Evidence
    divided: Parts
    delta: float
    known: int

    def certificate(
        self, theorem: Message, bound: float, empirical: float, paid: Mapping[Message, float]
    ) -> Certificate:  # fmt: skip
        shares = [Share(purpose=purpose, delta=part) for purpose, part in paid.items()]
        if (rest := self.delta - sum(part.delta for part in shares)) > 1e-12:
            choice = Message("ledger.comparisons_ways", "choice among {count} ways to certify", count=self.known)
            shares.append(Share(purpose=choice, delta=rest))
        chosen = np.isin(self.found.answers.rows.numpy(), self.divided.bound)
        labels = self.found.answers.labels
        assert labels is not None
        shares_of_classes = torch.bincount(labels[torch.as_tensor(chosen), 0]).double() / len(self.divided.bound)
        return Certificate(
            theorem=theorem.text, bound=max(bound, empirical), empirical=empirical, n=len(self.divided.bound),
            delta=self.delta, ledger=tuple(shares), comparisons=self.known, loss=LOSS.text, loss_range=(0.0, 1.0),
            trivial=1 - float(shares_of_classes.max()), split="train", hashes=hashes(self.subject),
            predictor=Predictor.RELATIVE,
        )  # fmt: skip
