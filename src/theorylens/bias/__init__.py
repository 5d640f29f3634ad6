"""Bias: what does the architecture assume, and do the data keep to what training assumed?

Design: architectures are measured, not looked up (shifts are made, windows followed through the real forward pass);
data are counted and compared exactly where that is possible, and tested with valid p-values where it is not.
"""

from ._class_balance import ClassBalance, class_balance, effective_classes
from ._class_shares import probe_class_balance
from ._early_stopping import EarlyStopping, early_stopping_path, estimation_risk, gradient_flow_filter, ridge_filter
from ._effective_field import EffectiveField, effective_field
from ._equivariance import LayerShift, equivariance_error, shift_disagreement, shifted
from ._field_of_view import probe_receptive_field
from ._gradient_flow import (
    FlowComparison,
    Path,
    flow_comparison,
    gradient_descent,
    gradient_flow,
    model_gradient,
    modified_gradient,
)
from ._gradient_noise import GradientNoise, gradient_noise, gradient_noise_scale, noise_scale
from ._gradient_support import gradient_support
from ._implicit_regulariser import (
    ImplicitRegulariser,
    expected_regulariser,
    implicit_regulariser,
    label_noise_regulariser,
    minibatch_regulariser,
    regulariser_gradient,
    sgd_noise_scale,
)
from ._interpolation import MarginProgress, MaxMargin, excess_norm, margin_progress, max_margin, minimum_norm_solution
from ._overlap import Overlap, duplicates, shared_units, split_overlap
from ._receptive_field import FieldLayer, ReceptiveField, receptive_field
from ._shift_test import probe_two_sample
from ._split_overlap import probe_overlap
from ._stationary import stationary_covariance
from ._translation import probe_equivariance
from ._two_sample import TwoSample, mmd, mmd_test

__all__ = [
    "PROBES", "ClassBalance", "EarlyStopping", "EffectiveField", "FieldLayer", "FlowComparison", "GradientNoise",
    "ImplicitRegulariser", "LayerShift", "MarginProgress", "MaxMargin", "Overlap", "Path", "ReceptiveField",
    "TwoSample", "class_balance", "duplicates", "early_stopping_path", "effective_classes", "effective_field",
    "equivariance_error", "estimation_risk", "excess_norm", "expected_regulariser", "flow_comparison",
    "gradient_descent", "gradient_flow", "gradient_flow_filter", "gradient_noise", "gradient_noise_scale",
    "gradient_support", "implicit_regulariser", "label_noise_regulariser", "margin_progress", "max_margin",
    "minibatch_regulariser", "minimum_norm_solution", "mmd", "mmd_test", "model_gradient", "modified_gradient",
    "noise_scale", "probe_class_balance", "probe_equivariance", "probe_overlap", "probe_receptive_field",
    "probe_two_sample", "receptive_field", "regulariser_gradient", "ridge_filter", "sgd_noise_scale", "shared_units",
    "shift_disagreement", "shifted", "split_overlap", "stationary_covariance",
]  # fmt: skip

PROBES = (probe_equivariance, probe_receptive_field, probe_class_balance, probe_overlap, probe_two_sample)
