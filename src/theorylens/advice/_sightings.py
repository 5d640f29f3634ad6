"""What the results of one audit show of each claim. One network supports or contradicts; it never proves a rule."""

from __future__ import annotations

from theorylens.results import Evidence, Message, Result, Verdict

from ._claims import Sighting, Standing
from ._findings import Findings, apart, message, said

FITTED = 1e-3  # training error at or below which the training examples are fitted
SMALL_GAP = 0.02  # two points of error: as in the advice on regularisation
FEW_DIRECTIONS = 0.5  # of a layer's units; below it the features are called low-dimensional
CHANGED = 0.02  # share of decisions a one-pixel shift changes: as in the advice on shifts


def nothing(found: Findings) -> Sighting | None:
    """Takes an experiment over several trainings; no single audit bears on it."""
    del found
    return None


def reason(code: str, result: Result) -> Evidence:
    return said(code, result.reason)


def one(standing: Standing, *evidence: Evidence) -> Sighting:
    return Sighting(standing=standing, evidence=evidence)


def flat_minima(found: Findings) -> Sighting | None:
    """One network has one sharpness: no correlation can be seen in it."""
    sharp = found.result("TL301") or found.result("TL305")
    if sharp is None:
        return None
    code = "TL301" if found.result("TL301") is not None else "TL305"
    return one(Standing.UNDECIDED, reason(code, sharp))


def effective_complexity(found: Findings) -> Sighting | None:
    """The number of weights guarantees nothing while the network errs less than a constant guess."""
    counted, tested = found.result("TL103"), found.result("TL101")
    bound = tested.certificate if tested is not None else None
    if counted is None or tested is None or bound is None:
        return None
    evidence = [reason("TL103", counted), reason("TL101", tested)]
    if (effective := found.result("TL110")) is not None:
        evidence.append(reason("TL110", effective))
    learnt = tested.verdict is Verdict.HOLDS and not bound.vacuous
    standing = Standing.SUPPORTED if counted.verdict is Verdict.VACUOUS and learnt else Standing.UNDECIDED
    return one(standing, *evidence)


def parameters_overfit(found: Findings) -> Sighting | None:
    """More parameters than training rows, and still a certificate below the trivial level."""
    facts, tested = found.facts, found.result("TL101")
    train = facts.split("train") if facts is not None else None
    if facts is None or train is None or tested is None or facts.parameters <= train.rows:
        return None
    text = "{parameters:,} parameters for {rows:,} training rows"
    counted = Message("claim.parameters", text, parameters=facts.parameters, rows=train.rows)
    bound = tested.certificate
    learnt = tested.verdict is Verdict.HOLDS and bound is not None and not bound.vacuous
    standing = Standing.CONTRADICTED if learnt else Standing.UNDECIDED
    return one(standing, said("TL101", counted), reason("TL101", tested))


def zero_error_overfits(found: Findings) -> Sighting | None:
    """The training examples are fitted, and new ones are hardly worse."""
    gap, train = found.result("TL104"), found.number("TL104", "train")
    if gap is None or train is None or train > FITTED or found.number("TL104", "shared"):
        return None
    if gap.estimate.upper <= SMALL_GAP:
        return one(Standing.CONTRADICTED, reason("TL104", gap))
    return one(Standing.SUPPORTED if gap.estimate.lower > SMALL_GAP else Standing.UNDECIDED, reason("TL104", gap))


def simple_first(found: Findings) -> Sighting | None:
    """Order of learning against difficulty."""
    order = found.result("TL511")
    if order is None:
        return None
    standing = Standing.SUPPORTED if order.estimate.lower > 0 else Standing.UNDECIDED
    return one(Standing.CONTRADICTED if order.estimate.upper < 0 else standing, reason("TL511", order))


def schedule_matters(found: Findings) -> Sighting | None:
    """At the rate of the last steps the network oscillates although the gradient still has a direction."""
    drift = found.result("TL604")
    if drift is None:
        return None
    held = message(drift, "TL604.no_lr") is not None
    return one(Standing.SUPPORTED if held else Standing.UNDECIDED, reason("TL604", drift))


def flat_loss_converged(found: Findings) -> Sighting | None:
    """The record is flat, and the gradient is not at rest."""
    slope, point = found.result("TL601"), found.result("TL303")
    if slope is None or point is None or message(slope, "TL601.flat") is None:
        return None
    moving = message(point, "TL303.slope") is not None
    standing = Standing.CONTRADICTED if moving else Standing.SUPPORTED
    return one(standing, reason("TL601", slope), reason("TL303", point))


def phases(found: Findings) -> Sighting | None:
    """Change points of the training loss."""
    course = found.result("TL603")
    if course is None:
        return None
    return one(Standing.SUPPORTED if course.estimate.value > 0 else Standing.UNDECIDED, reason("TL603", course))


def early_stopping(found: Findings) -> Sighting | None:
    """The validation loss turned before the end."""
    slope = found.result("TL601")
    turned = message(slope, "TL601.turned")
    if slope is None or turned is None:
        return None
    return one(Standing.SUPPORTED, said("TL601", turned))


def saddles(found: Findings) -> Sighting | None:
    """Where the network came to rest."""
    point = found.result("TL303")
    if point is None:
        return None
    standing = Standing.SUPPORTED if message(point, "TL303.saddle") is not None else Standing.UNDECIDED
    if message(point, "TL303.minimum") is not None:
        standing = Standing.CONTRADICTED
    return one(standing, reason("TL303", point))


def edge_of_stability(found: Findings) -> Sighting | None:
    """Sharpness at the end against 2/lr."""
    sharp = found.result("TL602")
    if sharp is None:
        return None
    at = message(sharp, "TL602.place.at") is not None
    if not at and message(sharp, "TL602.place.below") is None and message(sharp, "TL602.place.above") is None:
        return None  # no limit to compare with
    return one(Standing.SUPPORTED if at else Standing.UNDECIDED, reason("TL602", sharp))


def distributed_pieces(found: Findings) -> Sighting | None:
    """Pieces that are really there between examples: single to tens, never exponentially many."""
    pieces = found.result("TL205")
    return None if pieces is None else one(Standing.UNDECIDED, reason("TL205", pieces))


def hierarchy(found: Findings) -> Sighting | None:
    """Classes read off the last hidden layer, against the same layer before training."""
    probe = found.result("TL202")
    start = probe.control("init") if probe is not None else None
    if probe is None or start is None:
        return None
    if not apart(probe.estimate, start.estimate):
        return one(Standing.UNDECIDED, reason("TL202", probe))
    better = probe.estimate.value > start.estimate.value
    return one(Standing.SUPPORTED if better else Standing.CONTRADICTED, reason("TL202", probe))


def manifold(found: Findings) -> Sighting | None:
    """Intrinsic dimension of the last layer against its units."""
    dimension = found.result("TL201")
    seen = message(dimension, "TL201.found")
    units = seen.values.get("units") if seen is not None else None
    if dimension is None or not isinstance(units, int) or units < 1:
        return None
    few = dimension.estimate.upper < FEW_DIRECTIONS * units
    return one(Standing.SUPPORTED if few else Standing.UNDECIDED, reason("TL201", dimension))


def bias_scope(found: Findings) -> Sighting | None:
    """Decisions under one-pixel shifts, and whether the test inputs come from the training distribution."""
    shifted, moved = found.result("TL501"), found.result("TL505")
    if moved is not None and moved.verdict is Verdict.FAILS:
        return one(Standing.UNDECIDED, reason("TL505", moved))
    if shifted is None:
        return None
    steady = shifted.estimate.upper < CHANGED
    return one(Standing.SUPPORTED if steady else Standing.UNDECIDED, reason("TL501", shifted))


def lazy_training(found: Findings) -> Sighting | None:
    """Whether the linearised network says the same as the trained one."""
    linear = found.result("TL404")
    if linear is None:
        return None
    lazy, rich = message(linear, "TL404.lazy") is not None, message(linear, "TL404.rich") is not None
    standing = Standing.SUPPORTED if lazy else Standing.CONTRADICTED if rich else Standing.UNDECIDED
    return one(standing, reason("TL404", linear))


def larger_batches(found: Findings) -> Sighting | None:
    """Noise scale at the solution: up to there larger batches pay."""
    noise = found.result("TL510")
    return None if noise is None else one(Standing.UNDECIDED, reason("TL510", noise))
