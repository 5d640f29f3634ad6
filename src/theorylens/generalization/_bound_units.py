"""What every certificate of a retrained relative stands on: units it did not see, errors on them, the delta ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from theorylens.core import RefusedError, Split, Subject, UnsuitableError, global_randomness_kept
from theorylens.numerics.counting import count
from theorylens.numerics.memory import Batch, to_device
from theorylens.results import Certificate, Message, Predictor, Share

from ._answers import answers
from ._evidence import LOSS, Evidence, evidence, hashes


@dataclass(frozen=True)
class Ground:
    """A subject whose recipe is to be certified: its training rows with their errors, delta, and how many ways pay.

    Attributes
    ----------
    share
        What one way may spend: delta over the number of ways.
    """

    subject: Subject
    found: Evidence
    delta: float
    known: int

    @property
    def share(self) -> float:
        return self.delta / self.known

    @property
    def split(self) -> Split:
        return self.subject.split("train")

    def trained(self, rows: Sequence[int], hidden: Sequence[int], seed: int) -> Subject:
        """A relative trained on ``rows``; refused when its own training split shows a row of ``hidden``."""
        assert self.subject.recipe is not None
        with global_randomness_kept():
            relative = self.subject.recipe(seed=seed, rows=tuple(rows))
        self._refuse_a_look(relative, len(rows), hidden)
        return relative

    def _refuse_a_look(self, relative: Subject, given: int, hidden: Sequence[int]) -> None:
        """The recipe's own word on what it trained on must not contain a unit of the bound."""
        if not relative.has("train"):
            return
        known, seen = self.split.input_hashes, set(relative.split("train").input_hashes)
        if shared := sum(known[row] in seen for row in hidden):
            raise RefusedError(
                f"the recipe was given {given} rows to train on, and its training split holds {shared} of the "
                f"{len(hidden)} it was to leave out; a bound on them would not be valid. Train on rows= only"
            )
        held = len(relative.split("train"))
        if held == len(self.split) > given:  # inputs prepared otherwise have other hashes, and are as many
            raise RefusedError(
                f"the recipe was given {given} rows to train on, and its training split holds {held}, as many as "
                "there are; a bound on the others would not be valid. Train on rows= only"
            )

    def certificate(
        self, theorem: Message, bound: float, empirical: float, rows: Sequence[int], paid: Mapping[Message, float], *,
        predictor: Predictor = Predictor.RELATIVE,
    ) -> Certificate:  # fmt: skip
        """Collect what makes ``bound`` valid; what ``paid`` leaves of delta went to the choice among ways.

        ``rows`` are the rows scored, one per unit, none of them seen by what is certified.
        """
        shares = [Share(purpose=purpose, delta=part) for purpose, part in paid.items()]
        if (rest := self.delta - sum(part.delta for part in shares)) > 1e-12:
            choice = Message("ledger.comparisons_ways", "choice among {count} ways to certify", count=self.known)
            shares.append(Share(purpose=choice, delta=rest))
        chosen = np.isin(self.found.answers.rows.numpy(), rows)
        labels = self.found.answers.labels
        assert labels is not None
        classes = torch.bincount(labels[torch.as_tensor(chosen), 0]).double() / len(rows)
        return Certificate(
            theorem=theorem.text, bound=max(bound, empirical), empirical=empirical, n=len(rows),
            delta=self.delta, ledger=tuple(shares), comparisons=self.known, loss=LOSS.text, loss_range=(0.0, 1.0),
            trivial=1 - float(classes.max()), split="train", hashes=hashes(self.subject), predictor=predictor,
        )  # fmt: skip


def ground(subject: Subject, delta: float, comparisons: int) -> Ground:
    """Check that relatives of ``subject`` can be certified at all.

    Raises
    ------
    UnsuitableError
        There is no recipe, or the task is not classification with the 0-1 error.
    ValueError
        A number outside its range.
    """
    if subject.recipe is None:
        text = "a relative is trained again, which takes a recipe; give recipe=Recipe(train) to Subject"
        raise UnsuitableError(Message("certify.no_recipe", text))
    if comparisons < 1 or not 0 < delta < 1:
        raise ValueError(f"delta in (0, 1) and comparisons >= 1 are needed, got {delta} and {comparisons}")
    found = evidence(subject, "train")
    if not found.answers.binary or subject.judged.kind != "classification":
        text = "a Gibbs certificate here is about the 0-1 error of a classifier; this task has {error}"
        raise UnsuitableError(Message("certify.not_binary", text, error=subject.judged.error_name))
    return Ground(subject, found, delta, comparisons)


def of_bound_units(n: int) -> Message:
    """What the larger part of delta pays for."""
    return Message("ledger.bound_units", "draw of the {n} bound units", n=n)


def of_draws(terms: int) -> Message:
    return Message("ledger.draws", "{terms} draws of networks", terms=terms)


def taken(ground: Ground, rows: Sequence[int], relative: Subject) -> Batch:
    """These training rows as one batch on the relative's device."""
    return to_device(ground.split.take(rows), relative.device)


def some(batch: Batch, rows: Tensor) -> Batch:
    return Split(batch).take(rows)


def wrong(relative: Subject, model: nn.Module, batch: Batch) -> Tensor:
    """The 0-1 error of each example, shape (n,)."""
    error = relative.judged.error
    assert error is not None
    outputs, targets = relative.judged.forward(model, batch)
    return error(outputs, targets).cpu()


def wrong_as_trained(relative: Subject, batch: Batch, n: int) -> Tensor:
    """As `wrong` for the relative itself, in evaluation mode."""
    with relative.studied(), torch.no_grad():
        pieces = torch.arange(n).tensor_split(-(-n // relative.batch_size))
        found = torch.cat([wrong(relative, relative.net, some(batch, rows)) for rows in pieces])
    count(forwards=n)
    return found


def error_on_test(relative: Subject) -> float | None:
    """On the test split, where there is one; no certificate uses it."""
    return float(answers(relative, "test").errors.mean()) if relative.has("test") else None
