"""The fixed words of a report: verdicts, kinds, chapters, glossary. The rest comes with the results."""

from __future__ import annotations

import re
from dataclasses import dataclass

from theorylens.results import Kind, Message, Predictor, Status, Verdict

VERDICTS = {
    Verdict.HOLDS.value: Message("verdict.holds", "holds"),
    Verdict.FAILS.value: Message("verdict.fails", "fails"),
    Verdict.VACUOUS.value: Message("verdict.vacuous", "vacuous"),
    Verdict.INCONCLUSIVE.value: Message("verdict.inconclusive", "inconclusive"),
    Verdict.DESCRIPTIVE.value: Message("verdict.descriptive", "descriptive"),
    "skipped": Message("outcome.skipped", "skipped"),
    "crashed": Message("outcome.crashed", "crashed"),
}
MEANINGS = {
    Verdict.HOLDS.value: Message("meaning.holds", "shown, under the stated assumptions"),
    Verdict.FAILS.value: Message("meaning.fails", "shown to be false here"),
    Verdict.VACUOUS.value: Message("meaning.vacuous", "true, but says nothing"),
    Verdict.INCONCLUSIVE.value: Message("meaning.inconclusive", "the data cannot tell"),
    Verdict.DESCRIPTIVE.value: Message("meaning.descriptive", "a fact without good or bad"),
}
KINDS = {
    Kind.CERTIFICATE: Message("kind.certificate", "certificate"),
    Kind.INDICATOR: Message("kind.indicator", "indicator"),
    Kind.DESCRIPTION: Message("kind.description", "description"),
}
STATUS = {
    Status.MET: Message("status.met", "met"),
    Status.BROKEN: Message("status.broken", "broken"),
    Status.UNCHECKED: Message("status.unchecked", "unchecked"),
}
PREDICTORS = {
    Predictor.THIS_MODEL: Message("predictor.this", "this model"),
    Predictor.RELATIVE: Message("predictor.relative", "a retrained relative"),
    Predictor.ENSEMBLE: Message("predictor.ensemble", "an ensemble"),
}
ROLES = {
    "train": Message("split.train", "train"),
    "validation": Message("split.validation", "validation"),
    "test": Message("split.test", "test"),
}


_FIRST_WORD = re.compile(r"[a-z][a-z'’]+(?=[\s,;:.])|a(?=\s)")


def sentence(text: str) -> str:
    """``text`` with a capital where it starts with an English word; names, symbols and other languages stay."""
    return text[0].upper() + text[1:] if _FIRST_WORD.match(text) else text


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """One section of the report: which probes stand in it, its title and the question it asks."""

    name: str
    title: Message
    question: Message


def _chapter(name: str, title: Message, question: Message) -> Chapter:
    return Chapter(name=name, title=title, question=question)


CHAPTERS = (
    _chapter(
        "generalization",
        Message("chapter.generalization", "Generalisation"),
        Message("ask.generalization", "How far can its results on known data be trusted on new data?"),
    ),
    _chapter(
        "landscape",
        Message("chapter.landscape", "Loss landscape"),
        Message("ask.landscape", "What does the loss look like around the solution?"),
    ),
    _chapter(
        "kernels",
        Message("chapter.kernels", "Kernel regime"),
        Message("ask.kernels", "Did it learn features, or use those it was born with?"),
    ),
    _chapter(
        "representation",
        Message("chapter.representation", "Representation"),
        Message("ask.representation", "What did it keep of the input, layer by layer?"),
    ),
    _chapter(
        "bias",
        Message("chapter.bias", "Inductive bias and data"),
        Message("ask.bias", "What does it take for granted, and does the data agree?"),
    ),
    _chapter(
        "dynamics",
        Message("chapter.dynamics", "Training dynamics"),
        Message("ask.dynamics", "How did it get there?"),
    ),
    _chapter(
        "frontier",
        Message("chapter.frontier", "Depth and scale"),
        Message("ask.frontier", "What does theory say about networks of this depth, width and scale?"),
    ),
)
OTHER = Message("chapter.other", "Further measures")

GLOSSARY = (
    (
        Message("term.certificate", "certificate"),
        Message(
            "gloss.certificate",
            "An upper bound on the loss on new data that holds with a stated probability, under stated assumptions.",
        ),
    ),
    (
        Message("term.indicator", "indicator"),
        Message(
            "gloss.indicator", "A measured number that often goes along with good generalisation. Proves nothing alone."
        ),
    ),
    (
        Message("term.control", "control"),
        Message("gloss.control", "The same number on the untrained network, and on one trained on shuffled labels."),
    ),
    (
        Message("term.vacuous", "vacuous"),
        Message("gloss.vacuous", "A bound no better than a guess that ignores the input. True, and useless."),
    ),
    (
        Message("term.trivial", "trivial level"),
        Message("gloss.trivial", "The loss of the best answer that ignores the input."),
    ),
    (
        Message("term.delta", "δ"),
        Message(
            "gloss.delta",
            "The probability that a certificate is wrong. All of δ is accounted for in the delta ledger.",
        ),
    ),
    (
        Message("term.sharpness", "sharpness"),
        Message("gloss.sharpness", "Largest curvature of the loss: the top eigenvalue of its Hessian."),
    ),
    (
        Message("term.dimension", "intrinsic dimension"),
        Message(
            "gloss.dimension",
            "The number of directions along which points really vary, however many coordinates they have.",
        ),
    ),
    (
        Message("term.ntk", "tangent kernel (NTK)"),
        Message("gloss.ntk", "How much a step on one example changes the output on another."),
    ),
    (
        Message("term.interval", "interval"),
        Message(
            "gloss.interval",
            "Where the true number lies, as far as the method in brackets can say. Without one, the number is exact or"
            " its error is unknown, and the card says which.",
        ),
    ),
)
