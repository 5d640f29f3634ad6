"""A certificate from the training examples alone: a relative so simple that its description is shorter than the data.

Method   train a random subspace of the weights around the initialisation, round its coordinates to a few values, code
         them, and pay for the code by Occam's razor; every size on the grid is paid for
Source   Blumer et al. (1987); Zhou et al. (2019), ICLR; Lotfi et al. (2022), NeurIPS
Assumes  the initialisation, the grid and the way of training were fixed without the training examples
Breaks   when the architecture or its settings were chosen by their results on these examples
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from theorylens.core import Subject, UnsuitableError, global_randomness_kept
from theorylens.results import Certificate, Message, Predictor
from theorylens.training import Optimisation, fit

from ._answers import answers
from ._asked import whole
from ._code_length import STEP_BITS, code_length
from ._evidence import evidence, hashes, ledger
from ._finite_class import occam_bound
from ._subspace import Subspace

DIMENSIONS = (100, 200, 300)
LARGEST = (3, 4)
STEPS = 1000  # of each of the two stages, whatever the number of examples
THEOREM = Message("theorem.compression", "Occam's razor over codes of a random subspace")


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """The shortest good description that was found.

    Attributes
    ----------
    certificate
        Of the compressed network, from the training examples.
    bits
        Length of its description, the choice from the grid included.
    dimension, largest
        Coordinates, and the largest whole number a coordinate may be.
    test_error
        On the test split, where there is one; used by no certificate.
    subject
        The compressed network with its data.
    """

    certificate: Certificate
    bits: float
    dimension: int
    largest: int
    test_error: float | None
    subject: Subject


def certify_compressed(
    subject: Subject, *, dimensions: Sequence[int] = DIMENSIONS, largest: Sequence[int] = LARGEST, delta: float = 0.05,
    seed: int = 0, comparisons: int = 1,
) -> Compressed:  # fmt: skip
    """Find a network near the initialisation of ``subject`` with a short description, and bound its error.

    Parameters
    ----------
    dimensions, largest
        The grid: numbers of coordinates, and largest values. Fixed in advance; its size is paid for.
    seed
        Of the directions and of the training.
    comparisons
        Networks before training, grids and seeds tried on these examples, these included; they share ``delta``.

    Raises
    ------
    UnsuitableError
        The initialisation is not known and cannot be made, or the task states no error.
    ValueError
        An empty grid, a delta outside (0, 1).
    """
    if not dimensions or not largest:
        raise ValueError("the grid needs at least one dimension and one largest value")
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, got {delta}")
    share = delta / whole("comparisons", comparisons)
    start = subject.initial()
    if start is None:
        text = (
            "a compressed relative starts from the network before training, which is not known; give init= to Subject"
        )
        raise UnsuitableError(Message("certify.no_init", text))
    choice = math.log(len(dimensions) * len(largest))
    found = []
    for dimension in dimensions:
        free = Subspace(start.subject.net, dimension, seed=seed)
        _train(free, subject, lr=0.05, seed=seed)
        for top in largest:
            short = copy.deepcopy(free)
            short.quantise(top)
            _train(short, subject, lr=0.02, seed=seed)
            nats = code_length(short.symbols().cpu().numpy(), 2 * top + 1) + STEP_BITS * math.log(2) + choice
            made = _with(subject, short)
            bound = max(occam_bound(s.mean, nats, s.n, share) for s in evidence(made, "train").samples)
            found.append((bound, nats, dimension, top, made))
    bound, nats, dimension, top, made = min(found, key=lambda each: each[0])
    return Compressed(
        certificate=_certificate(made, bound, delta, comparisons), bits=nats / math.log(2), dimension=dimension,
        largest=top,
        test_error=float(answers(made, "test").errors.mean()) if made.has("test") else None, subject=made,
    )  # fmt: skip


def _train(net: Subspace, subject: Subject, *, lr: float, seed: int) -> None:
    split = subject.split("train")
    size = min(50, len(split))
    epochs = max(1, round(STEPS * size / len(split)))
    how = Optimisation(optimizer="adam", lr=lr, batch_size=size, epochs=epochs, schedule="cosine")
    with global_randomness_kept():
        fit(net, split, subject.judged, how, seed=seed)


def _with(subject: Subject, net: Subspace) -> Subject:
    return replace(
        subject, model=net.written(), init=None, checkpoints=None, history=None, recipe=None, outputs=None,
        shuffled=None, others={}, name=f"{subject.name}, compressed",
    )  # fmt: skip


def _certificate(made: Subject, bound: float, delta: float, comparisons: int) -> Certificate:
    found = evidence(made, "train")
    sample = found.samples[-1]
    value = found.rescaled(bound)
    paid = ledger(delta, comparisons, Message("ledger.train", "draw of the training examples"))
    return Certificate(
        theorem=THEOREM.text, bound=max(value, found.rescaled(sample.mean)), empirical=found.rescaled(sample.mean),
        n=sample.n, delta=delta, ledger=paid, comparisons=comparisons, loss=made.judged.error_name,
        loss_range=found.error_range, trivial=found.trivial, split="train", hashes=hashes(made),
        predictor=Predictor.RELATIVE,
    )  # fmt: skip
