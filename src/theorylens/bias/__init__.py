"""Bias: what does the architecture assume, and do the data keep to what training assumed?

Design: architectures are measured, not looked up (shifts are made, windows followed through the real forward pass);
data are counted and compared exactly where that is possible, and tested with valid p-values where it is not.
"""

from ._equivariance import LayerShift, equivariance_error, shift_disagreement, shifted
from ._gradient_support import gradient_support
from ._receptive_field import FieldLayer, ReceptiveField, receptive_field
from ._translation import probe_equivariance

__all__ = [
    "PROBES", "FieldLayer", "LayerShift", "ReceptiveField", "equivariance_error", "gradient_support",
    "probe_equivariance", "receptive_field", "shift_disagreement", "shifted",
]  # fmt: skip

PROBES = (probe_equivariance,)
