"""The command that prints every certificate of a subject: certify."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from . import _options as options
from ._exits import NOTHING_MEASURED, refusals, usage_errors
from ._showing import remark, show_table
from ._subjects import SubjectFlags

if TYPE_CHECKING:
    from theorylens.core import Subject
    from theorylens.generalization import Certified, LearntPrior, Relative
    from theorylens.results import Certificate, Message, Translate

METHODS = ("test-set", "training-bits", "pac-bayes", "compression", "all")


@click.command(short_help="Every certificate of a network, and of what its recipe can train.")
@options.subject
@click.option("--method", "methods", multiple=True, type=click.Choice(METHODS), default=("test-set",),
              show_default=True, help="May be repeated.")  # fmt: skip
@click.option("--delta", type=float, default=0.05, show_default=True, help="Failure probability of each certificate.")
@click.option("--prior-share", type=float, multiple=True, default=(0.7,), show_default=True,
              help="pac-bayes: share of the units that the prior sees; may be repeated, all are paid for.")  # fmt: skip
@click.option("--prior-std", type=float, multiple=True, default=(0.01,), show_default=True,
              help="pac-bayes: standard deviation of the weights; may be repeated, all are paid for.")  # fmt: skip
@click.option("--draws", type=int, default=100, show_default=True, help="pac-bayes: networks drawn per bound unit.")
@click.option("--seed", type=int, default=0, show_default=True, help="Decides every random draw.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@options.lang
@options.config
def certify(**given: Any) -> int:
    r"""Print the certificates that a network can get, each with what it is about.

    \b
    test-set       of this network, from test examples that were used for nothing: the headline
    training-bits  of this network, from the training examples alone: true and usually vacuous
    pac-bayes      of a relative that the recipe trains on part of the training examples
    compression    of a relative near the initialisation, described in few bits, from the training examples alone

    Certificates of a relative stand apart: they are about another network. Every way tried on the same training
    examples is written down before its bound is computed, and paid for by the next.
    """
    from theorylens import generalization
    from theorylens.locale import translator

    chosen = METHODS[:-1] if "all" in given["methods"] else tuple(dict.fromkeys(given["methods"]))
    with usage_errors():
        ways = _ways(given)
        if not 0 < given["delta"] < 1:
            raise ValueError(f"--delta must lie strictly between 0 and 1, got {given['delta']}")
    with refusals():
        subject = SubjectFlags.of(given).load()
        with subject.studied():
            comparisons, known = _on_record(subject, ways if "pac-bayes" in chosen else ())
            found = generalization.certify(
                subject, methods=chosen, delta=given["delta"], comparisons=comparisons, ways=ways, ways_known=known
            )
    if given["as_json"]:
        click.echo(json.dumps(_plain(found), indent=1, ensure_ascii=False))
    else:
        _print(found, translator(given["lang"]))
    return 0 if found.this_model or found.relatives or found.compressed else NOTHING_MEASURED


def _ways(given: dict[str, Any]) -> list[LearntPrior]:
    from theorylens.generalization import LearntPrior

    for name, low, high in (("prior_share", 0.0, 1.0), ("prior_std", 0.0, math.inf)):
        for value in given[name]:
            if not low < value < high:
                raise ValueError(f"--{name.replace('_', '-')} must lie between {low:g} and {high:g}, got {value}")
    if given["draws"] < 1:
        raise ValueError(f"--draws must be at least 1, got {given['draws']}")
    return [
        LearntPrior(share=share, prior_std=std, draws=given["draws"], seed=given["seed"])
        for share in dict.fromkeys(given["prior_share"])
        for std in dict.fromkeys(given["prior_std"])
    ]


def _on_record(subject: Subject, ways: Iterable[LearntPrior]) -> tuple[int, int]:
    """Models judged on the test split, and ways tried on the training split; written down before any bound is known."""
    from theorylens.auditing import TestSetLedger, model_hash, state_folder
    from theorylens.core import digest

    models = 1
    if subject.has("test"):
        models = TestSetLedger().record(subject.split("test").content, model_hash(subject), subject.name)
    tried = TestSetLedger(state_folder() / "bound-data.jsonl")
    count = 0
    for way in ways:
        count = tried.record(subject.split("train").content, digest(repr(way)), repr(way))
    return models, count


def _print(found: Certified, translate: Translate) -> None:
    from theorylens.results import Message

    headings = tuple(heading.render(translate) for heading in (
        Message("certify.about", "About"), Message("certify.theorem", "Theorem"),
        Message("certify.measured", "Measured"),
        Message("certify.bound", "At most"), Message("certify.trust", "Trust"), Message("certify.units", "Units"),
        Message("certify.verdict", "Says something?"),
    ))  # fmt: skip
    this = Message("certify.this", "this network")
    drawn = Message("certify.drawn", "a relative, weights drawn at random")
    prior = Message("certify.prior", "the same relative, weights as trained")
    short = Message("certify.short", "a compressed relative")
    rows = [_row(this, r.certificate, translate) for r in found.this_model if r.certificate is not None]
    for relative in found.relatives:
        rows.append(_row(drawn, relative.gibbs, translate))
        rows.append(_row(prior, relative.holdout, translate))
    if found.compressed is not None:
        rows.append(_row(short, found.compressed.certificate, translate))
    if rows:
        show_table(headings, rows)
    for result in found.this_model:
        if result.reading is not None:
            remark(result.reading.render(translate))
    for relative in found.relatives:
        remark(_told(relative).render(translate))
    if (small := found.compressed) is not None:
        text = "The compressed relative is described in {bits:,.0f} bits: {dimension} whole numbers between ±{largest}."
        values = {"bits": small.bits, "dimension": small.dimension, "largest": small.largest}
        remark(Message("certify.compressed", text, **values).render(translate))
    for name, reason in found.left_out.items():
        remark(f"{name}: {reason.render(translate)}")


def _row(about: Message, certificate: Certificate, translate: Translate) -> Sequence[str]:
    from theorylens.results import Message

    share = certificate.loss_range == (0.0, 1.0)

    def shown(value: float) -> str:
        return Message("certify.share", "{loss:.2%}", loss=value).render() if share else f"{value:.4g}"

    bound = math.ceil(certificate.bound * 1e4) / 1e4 if share else certificate.bound
    said = Message("certify.yes", "yes")
    if certificate.vacuous:
        said = Message("certify.no", "no: not below {trivial}", trivial=shown(certificate.trivial))
    return (
        about.render(translate), translate(certificate.theorem), shown(certificate.empirical), shown(bound),
        f"{1 - certificate.delta:.4g}", str(certificate.n), said.render(translate),
    )  # fmt: skip


def _told(relative: Relative) -> Message:
    from theorylens.results import Message

    values = {
        "n": relative.gibbs.n, "gibbs": relative.risk.mean, "prior": relative.holdout.empirical,
        "kl": relative.divergence, "random": relative.random_parameters, "known": relative.gibbs.comparisons,
    }  # fmt: skip
    text = (
        "The relative errs on {prior:.2%} of {n} units it did not see, and on {gibbs:.2%} with {random:,} of its "
        "weights drawn at random (KL {kl:.3g} nats); ways paid for: {known}. Each bound stands at its own level."
    )
    return Message("certify.relative", text, **values)


def _plain(found: Certified) -> dict[str, Any]:
    def of(certificate: Certificate) -> dict[str, Any]:
        return {
            "theorem": certificate.theorem, "predictor": certificate.predictor.value, "bound": certificate.bound,
            "empirical": certificate.empirical, "n": certificate.n, "delta": certificate.delta,
            "comparisons": certificate.comparisons, "loss": certificate.loss, "trivial": certificate.trivial,
            "vacuous": certificate.vacuous,
            "ledger": [{"purpose": s.purpose.render(), "delta": s.delta} for s in certificate.ledger],
        }  # fmt: skip

    return {
        "this_model": [of(r.certificate) for r in found.this_model if r.certificate is not None],
        "relatives": [
            {
                "drawn": of(r.gibbs), "as_trained": of(r.holdout), "divergence": r.divergence,
                "random_parameters": r.random_parameters, "terms": r.risk.terms, "test_error": r.test_error,
            }
            for r in found.relatives
        ],
        "compressed": None if found.compressed is None else {
            "certificate": of(found.compressed.certificate), "bits": found.compressed.bits,
            "dimension": found.compressed.dimension, "largest": found.compressed.largest,
            "test_error": found.compressed.test_error,
        },
        "left_out": {name: reason.render() for name, reason in found.left_out.items()},
    }  # fmt: skip
