"""Training: the one loop over optimiser steps, and the one map over trainings."""

from ._divergence import DivergedError
from ._fit import Callback, fit
from ._fitted import Fitted
from ._keeping import Keeping
from ._optimisation import Optimisation
from ._sweep import Failure, SweepError, sweep

__all__ = ["Callback", "DivergedError", "Failure", "Fitted", "Keeping", "Optimisation", "SweepError", "fit", "sweep"]
