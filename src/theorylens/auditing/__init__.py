"""The main job: plan probes by a budget, run them over a subject, keep every outcome, and report.

Design: everything that can refuse does so before the first number; the plan is on disk before the first probe; each
finished probe is written whole, so that a killed run continues; only here is an exception of a probe caught and shown.
"""

from theorylens.core import TestSetLedger, model_hash, state_folder

from ._audit import audit
from ._options import DELTA, Options
from ._plan import Plan, Speed, make_plan, measure_speed, parse_budget
from ._preflight import preflight
from ._probes import CHAPTERS, HEADLINE_CODE, PROBES, select
from ._store import Store, write_whole

__all__ = [
    "CHAPTERS", "DELTA", "HEADLINE_CODE", "PROBES", "Options", "Plan", "Speed", "Store", "TestSetLedger", "audit",
    "make_plan", "measure_speed", "model_hash", "parse_budget", "preflight", "select", "state_folder", "write_whole",
]  # fmt: skip
