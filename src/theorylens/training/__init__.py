"""Training: the one loop over optimiser steps, and the one map over trainings."""

from ._fit import Callback, DivergedError, fit
from ._fitted import Fitted
from ._keeping import Keeping
from ._optimisation import Optimisation

__all__ = ["Callback", "DivergedError", "Fitted", "Keeping", "Optimisation", "fit"]
