"""Bias: what does the architecture assume, and do the data keep to what training assumed?

Design: architectures are measured, not looked up (shifts are made, windows followed through the real forward pass);
data are counted and compared exactly where that is possible, and tested with valid p-values where it is not.
"""

from ._class_balance import ClassBalance, class_balance, effective_classes
from ._class_shares import probe_class_balance
from ._effective_field import EffectiveField, effective_field
from ._equivariance import LayerShift, equivariance_error, shift_disagreement, shifted
from ._field_of_view import probe_receptive_field
from ._gradient_noise import GradientNoise, gradient_noise, gradient_noise_scale, noise_scale
from ._gradient_support import gradient_support
from ._overlap import Overlap, duplicates, shared_units, split_overlap
from ._receptive_field import FieldLayer, ReceptiveField, receptive_field
from ._shift_test import probe_two_sample
from ._split_overlap import probe_overlap
from ._translation import probe_equivariance
from ._two_sample import TwoSample, mmd, mmd_test

__all__ = [
    "PROBES", "ClassBalance", "EffectiveField", "FieldLayer", "GradientNoise", "LayerShift", "Overlap",
    "ReceptiveField", "TwoSample", "class_balance", "duplicates", "effective_classes", "effective_field",
    "equivariance_error", "gradient_noise", "gradient_noise_scale", "gradient_support", "mmd", "mmd_test",
    "noise_scale", "probe_class_balance", "probe_equivariance", "probe_overlap", "probe_receptive_field",
    "probe_two_sample", "receptive_field", "shared_units", "shift_disagreement", "shifted", "split_overlap",
]  # fmt: skip

PROBES = (probe_equivariance, probe_receptive_field, probe_class_balance, probe_overlap, probe_two_sample)
