"""The command that prints every certificate of a subject: certify."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from . import _options as options
from ._exits import NOTHING_MEASURED, refusals, usage_errors
from ._showing import remark, show_table
from ._subjects import SubjectFlags

if TYPE_CHECKING:
    from theorylens.generalization import Certified, Progressive, Recursive, Relative, Voted, Way
    from theorylens.results import Certificate, Message, Translate

METHODS = ("test-set", "training-bits", "pac-bayes", "recursive", "progressive", "ensemble", "compression", "all")
RETRAINED = ("pac-bayes", "recursive", "progressive", "ensemble")  # methods whose ways are written down and paid for


@click.command(short_help="Every certificate of a network, and of what its recipe can train.")
@options.subject
@click.option("--method", "methods", multiple=True, type=click.Choice(METHODS), default=("test-set",),
              show_default=True, help="May be repeated.")  # fmt: skip
@click.option("--delta", type=float, default=0.05, show_default=True, help="Failure probability of each certificate.")
@click.option("--prior-share", type=float, multiple=True, default=(0.7,), show_default=True,
              help="Share of the units that the first network sees; may be repeated, all are paid for.")  # fmt: skip
@click.option("--prior-std", type=float, multiple=True, default=(0.01,), show_default=True,
              help="pac-bayes, recursive: spread of the weights; may be repeated, all are paid for.")  # fmt: skip
@click.option("--draws", type=int, default=100, show_default=True,
              help="pac-bayes, recursive: networks drawn per bound unit.")  # fmt: skip
@click.option("--networks", type=int, default=4, show_default=True, help="ensemble: how many vote.")
@click.option("--expected-error", type=float, default=0.05, show_default=True,
              help="progressive: a guess made without the training data; decides tightness only.")  # fmt: skip
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
    recursive      of a relative that learns from all of them, in steps
    progressive    of a network drawn from a run, each tested on what the next one learns from
    ensemble       of the vote of several networks trained on part of them
    compression    of a relative near the initialisation, described in few bits, from the training examples alone

    Certificates of a relative stand apart: they are about another network. Every way tried on the same training
    examples is written down before its bound is computed, and paid for by the next.
    """
    from theorylens import generalization
    from theorylens.locale import translator

    chosen = METHODS[:-1] if "all" in given["methods"] else tuple(dict.fromkeys(given["methods"]))
    with usage_errors():
        ways = _ways(given, chosen)
        if not 0 < given["delta"] < 1:
            raise ValueError(f"--delta must lie strictly between 0 and 1, got {given['delta']}")
    with refusals():
        subject = SubjectFlags.of(given).load()
        with subject.studied():
            found = generalization.certify(subject, methods=chosen, delta=given["delta"], ways=ways or None)
    if given["as_json"]:
        click.echo(json.dumps(_plain(found), indent=1, ensure_ascii=False))
    else:
        _print(found, translator(given["lang"]))
    return 0 if _made(found) or found.this_model or found.compressed else NOTHING_MEASURED


def _made(found: Certified) -> tuple[Relative | Recursive | Progressive | Voted, ...]:
    return (*found.relatives, *found.recursive, *found.progressive, *found.votes)


def _ways(given: dict[str, Any], methods: Sequence[str]) -> list[Way]:
    """One way for each method, share and standard deviation asked for."""
    from theorylens.generalization import Ensemble, LearntPrior, ProgressiveRun, Recursion

    for name, low, high in (("prior_share", 0.0, 1.0), ("prior_std", 0.0, math.inf)):
        for value in given[name]:
            if not low < value < high:
                raise ValueError(f"--{name.replace('_', '-')} must lie between {low:g} and {high:g}, got {value}")
    if not 0 <= given["expected_error"] < 1:
        raise ValueError(f"--expected-error must be at least 0 and below 1, got {given['expected_error']}")
    for name, least in (("draws", 1), ("networks", 2)):
        if given[name] < least:
            raise ValueError(f"--{name} must be at least {least}, got {given[name]}")
    draws, seed = given["draws"], given["seed"]
    ways: list[Way] = []
    for share in dict.fromkeys(given["prior_share"]):
        thirds = (share, (1 - share) / 2, (1 - share) / 2)
        for std in dict.fromkeys(given["prior_std"]):
            if "pac-bayes" in methods:
                ways.append(LearntPrior(share=share, prior_std=std, draws=draws, seed=seed))
            if "recursive" in methods:
                ways.append(Recursion(shares=thirds, prior_std=std, draws=draws, seed=seed))
        if "progressive" in methods:
            ways.append(ProgressiveRun(shares=thirds, expected=given["expected_error"], seed=seed))
        if "ensemble" in methods:
            ways.append(Ensemble(networks=given["networks"], share=share, seed=seed))
    return ways


def _print(found: Certified, translate: Translate) -> None:
    from theorylens.results import Message, Verdict

    headings = tuple(heading.render(translate) for heading in (
        Message("certify.about", "About"), Message("certify.theorem", "Theorem"), Message("certify.loss", "Loss"),
        Message("certify.measured", "Measured"),
        Message("certify.bound", "At most"), Message("certify.trust", "Trust"), Message("certify.units", "Units"),
        Message("certify.verdict", "Says something?"),
    ))  # fmt: skip
    seen = {id(r.certificate) for r in found.this_model if r.verdict is Verdict.INCONCLUSIVE}
    rows = [_row(about, certificate, translate, seen=id(certificate) in seen) for about, certificate in _about(found)]
    if rows:
        show_table(headings, rows)
    for result in found.this_model:
        if result.reading is not None:
            remark(result.reading.render(translate))
    if found.headline is not None and found.headline.split == "test" and (known := found.headline.comparisons) > 1:
        text = (
            "{known} models were judged on these test examples and share δ; a certificate made when fewer were on "
            "record must be made again before the best of them is quoted."
        )
        remark(Message("certify.worn", text, known=known).render(translate))
    for made in _made(found):
        remark(_told(made).render(translate))
    if (small := found.compressed) is not None:
        text = "The compressed relative is described in {bits:,.0f} bits: {dimension} whole numbers between ±{largest}."
        values = {"bits": small.bits, "dimension": small.dimension, "largest": small.largest}
        remark(Message("certify.compressed", text, **values).render(translate))
    for said in found.doubts:
        remark(said.render(translate))
    for name, reason in found.left_out.items():
        remark(f"{name}: {reason.render(translate)}")


def _about(found: Certified) -> list[tuple[Message, Certificate]]:
    """Every certificate with whom it is about, the headline first."""
    from theorylens.results import Message

    this = Message("certify.this", "this network")
    rows = [(this, r.certificate) for r in found.this_model if r.certificate is not None]
    for relative in found.relatives:
        rows.append((Message("certify.drawn", "a relative, weights drawn at random"), relative.gibbs))
        rows.append((Message("certify.prior", "the same relative, weights as trained"), relative.holdout))
    for each in found.recursive:
        rows.append((Message("certify.recursive", "a relative trained in steps, weights drawn"), each.certificate))
        rows.append((Message("certify.first", "its first network, weights as trained"), each.holdout))
    for run in found.progressive:
        rows.append((Message("certify.run", "one of a run of relatives, drawn at random"), run.certificate))
    for vote in found.votes:
        rows.append((Message("certify.vote", "the vote of {count} relatives", count=len(vote.voters)), vote.holdout))
        rows.append((Message("certify.tandem", "the same vote, from pairs"), vote.tandem))
    if found.compressed is not None:
        rows.append((Message("certify.short", "a compressed relative"), found.compressed.certificate))
    return rows


def _row(about: Message, certificate: Certificate, translate: Translate, *, seen: bool) -> Sequence[str]:
    """One certificate in words; ``seen`` when its examples were used before, so that it does not hold."""
    from theorylens.results import Message

    share = certificate.loss == "0-1 loss"

    def shown(value: float) -> str:
        return Message("certify.share", "{loss:.2%}", loss=value).render() if share else f"{value:.4g}"

    said = Message("certify.yes", "yes")
    if seen:
        said = Message("certify.seen", "no: some of its inputs were seen before")
    elif certificate.vacuous:
        said = Message("certify.no", "no: not below {trivial}", trivial=shown(certificate.trivial))
    bound = _rounded_up(certificate.bound, 4 if share else 3 - _magnitude(certificate.bound))
    return (
        about.render(translate), translate(certificate.theorem), translate(certificate.loss),
        shown(certificate.empirical), shown(bound),
        f"{1 - certificate.delta:.4g}", str(certificate.n), said.render(translate),
    )  # fmt: skip


def _magnitude(value: float) -> int:
    return math.floor(math.log10(abs(value))) if value else 0


def _rounded_up(value: float, digits: int) -> float:
    return math.ceil(value * 10.0**digits) / 10.0**digits


def _told(made: Relative | Recursive | Progressive | Voted) -> Message:
    """One sentence about the errors behind a certificate and what was paid for."""
    from theorylens.generalization import Progressive, Recursive, Relative
    from theorylens.results import Message

    if isinstance(made, Relative):
        values = {
            "n": made.gibbs.n, "gibbs": made.risk.mean, "prior": made.holdout.empirical, "kl": made.divergence,
            "random": made.random_parameters, "known": made.gibbs.comparisons,
        }  # fmt: skip
        text = (
            "The relative errs on {prior:.2%} of {n} units it did not see, and on {gibbs:.2%} with {random:,} of its "
            "weights drawn at random (KL {kl:.3g} nats); ways paid for: {known}. Each bound stands at its own level."
        )
        return Message("certify.relative", text, **values)
    if isinstance(made, Recursive):
        nats = sum(made.divergences)
        text = (
            "The relative learns from all units in {steps} steps; its first network errs on {prior:.2%} of {n} units "
            "it did not see, later ones moved by {kl:.3g} nats in all; ways paid for: {known}."
        )
        return Message(
            "certify.told_recursive", text, steps=len(made.bounds.bounds), prior=made.holdout.empirical,
            n=made.holdout.n, kl=nats, known=made.certificate.comparisons,
        )  # fmt: skip
    if isinstance(made, Progressive):
        rates = [k / m for k, m in zip(made.errors, made.sizes, strict=True)]
        text = (
            "Each of {count} networks was tested on units that only later ones learnt from: {first:.2%} errors of the "
            "first, {last:.2%} of the last; ways paid for: {known}. The bound is about one of them drawn at random."
        )
        return Message(
            "certify.told_run", text, count=len(rates), first=rates[0], last=rates[-1],
            known=made.certificate.comparisons,
        )  # fmt: skip
    text = (
        "The vote errs on {vote:.2%} of {n} units nobody saw, single voters on {least:.2%} to {most:.2%}; ways paid "
        "for: {known}. Each bound stands at its own level."
    )
    return Message(
        "certify.told_vote", text, vote=made.holdout.empirical, n=made.holdout.n, least=min(made.voters),
        most=max(made.voters), known=made.holdout.comparisons,
    )  # fmt: skip


def _plain(found: Certified) -> dict[str, Any]:
    def of(certificate: Certificate) -> dict[str, Any]:
        return {
            "theorem": certificate.theorem, "predictor": certificate.predictor.value, "bound": certificate.bound,
            "empirical": certificate.empirical, "n": certificate.n, "delta": certificate.delta,
            "comparisons": certificate.comparisons, "loss": certificate.loss, "trivial": certificate.trivial,
            "loss_range": certificate.loss_range, "vacuous": certificate.vacuous,
            "ledger": [{"purpose": s.purpose.render(), "delta": s.delta} for s in certificate.ledger],
        }  # fmt: skip

    return {
        "this_model": [
            {**of(r.certificate), "verdict": r.verdict.value} for r in found.this_model if r.certificate is not None
        ],
        "relatives": [
            {
                "drawn": of(r.gibbs), "as_trained": of(r.holdout), "divergence": r.divergence,
                "random_parameters": r.random_parameters, "terms": r.risk.terms, "test_error": r.test_error,
            }
            for r in found.relatives
        ],
        "recursive": [
            {
                "drawn": of(r.certificate), "as_trained": of(r.holdout), "bounds": r.bounds.bounds,
                "divergences": r.divergences, "test_error": r.test_error,
            }
            for r in found.recursive
        ],
        "progressive": [
            {"one_of_the_run": of(p.certificate), "errors": p.errors, "sizes": p.sizes, "test_errors": p.test_errors}
            for p in found.progressive
        ],
        "votes": [
            {
                "vote": of(v.holdout), "tandem": of(v.tandem), "first_order": of(v.first_order), "voters": v.voters,
                "test_error": v.test_error,
            }
            for v in found.votes
        ],
        "compressed": None if found.compressed is None else {
            "certificate": of(found.compressed.certificate), "bits": found.compressed.bits,
            "dimension": found.compressed.dimension, "largest": found.compressed.largest,
            "test_error": found.compressed.test_error,
        },
        "left_out": {name: reason.render() for name, reason in found.left_out.items()},
        "doubts": [said.render() for said in found.doubts],
    }  # fmt: skip
