"""The vocabulary of outcomes: what a measure, a probe and an audit say, as frozen data that outlives the model.

Design: numpy and the standard library only, so that reports can be read, compared, gated and rendered without torch.
Every sentence is a `Message`, every number an `Estimate`, every drawing a payload named by its shape.
"""

from ._advice import Evidence, Recommendation
from ._bits import packed_bits, unpacked_bits
from ._certificate import Certificate, Predictor, Share
from ._estimate import Enclosure, Estimate, Exact, Statistical, Uncertainty, Unknown
from ._family import holm_over_groups, one_family, p_values_of
from ._history import History
from ._json import from_plain, outcome_from_view, outcome_view, record_from_view, record_view, to_plain
from ._message import Message, Translate
from ._outcome import About, Crashed, Done, Outcome, Skipped
from ._p_value import FAMILY_LEVEL, PValue
from ._payload import (
    PAYLOADS,
    Cell,
    Curve,
    Intervals,
    Levels,
    Line,
    Matrix,
    Payload,
    Points,
    Role,
    Spectrum,
    Table,
    Wall,
)
from ._record import SCHEMA, Checked, Record, RunFacts, SplitFacts, SubjectFacts, exit_code
from ._requirement import HEADLINE, Requirement
from ._result import Assumption, Conclusion, Control, Cost, Kind, Result, Setting, Status, Verdict

__all__ = [
    "FAMILY_LEVEL", "HEADLINE", "PAYLOADS", "SCHEMA", "About", "Assumption", "Cell", "Certificate", "Checked",
    "Conclusion", "Control", "Cost", "Crashed", "Curve", "Done", "Enclosure", "Estimate", "Evidence", "Exact",
    "History", "Intervals", "Kind", "Levels", "Line", "Matrix", "Message", "Outcome", "PValue", "Payload", "Points",
    "Predictor", "Recommendation", "Record", "Requirement", "Result", "Role", "RunFacts", "Setting", "Share", "Skipped",
    "Spectrum", "SplitFacts", "Statistical", "Status", "SubjectFacts", "Table", "Translate", "Uncertainty", "Unknown",
    "Verdict", "Wall", "exit_code", "from_plain", "holm_over_groups", "one_family", "outcome_from_view", "outcome_view",
    "p_values_of", "packed_bits", "record_from_view", "record_view", "to_plain", "unpacked_bits",
]  # fmt: skip
