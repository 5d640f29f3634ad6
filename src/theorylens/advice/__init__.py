"""From results to changes: what to do, what speaks for and against it, what it may bring, how to test it.

Rules read results and nothing else, so that a stored report can be advised on without the model. A rule fires on
evidence or stays silent; "it is not worth doing" is advice too. What was not tried is called untested. `claims` sets
what learning theory says beside what the same results show of it.
"""

from ._claims import Claim, JudgedClaim, Standing, Truth, claims
from ._known_claims import CLAIMS
from ._recommend import RULES, recommend

__all__ = ["CLAIMS", "RULES", "Claim", "JudgedClaim", "Standing", "Truth", "claims", "recommend"]
