"""In which directions does the network learn, and did training change them?

`ntk` is the exact tangent kernel of any module, `wide_kernels` that of infinite width; what is said about a kernel
takes plain matrices. Lazy or rich is measured (`laziness`, `regime_diagram`), never read off a formula. Probes use one
keyed choice of training rows and compute each kernel once.
"""

from ._alignment import alignment
from ._alignment_probe import probe_alignment
from ._balanced_alignment import balanced_alignment
from ._coordinates import CoordinateCheck, coordinate_check
from ._cross_validation import generalised_cross_validation, kare, leave_one_out_residuals
from ._diagonal_network import DiagonalNetwork, diagonal_network_limit
from ._dimension_probe import probe_effective_dimension
from ._dynamics import KernelTrajectory, Unseen, kernel_descent, kernel_flow, max_stable_kernel_lr
from ._effective_dimension import effective_dimension, leverage
from ._eigenlearning import (
    EigenLearning,
    cumulative_power,
    eigenlearning,
    eigensystem,
    learning_curve,
    learning_curve_payload,
)
from ._empirical import ntk
from ._entropy_flow import cross_entropy_flow
from ._gaussian_process import Posterior, gp_posterior, log_evidence, prior_samples
from ._infinite import Affine, WideKernels, WideNetwork, wide_kernels, wide_network
from ._kernel_bounds import (
    interpolation_complexity,
    kernel_ridge_risk,
    kernel_ridge_risk_bound,
    rademacher_ball,
    rkhs_ball_bound,
)
from ._laziness import Laziness, laziness
from ._linearised import Linearised
from ._linearised_probe import probe_linearised
from ._movement import Movement, kernel_movement
from ._movement_probe import probe_movement
from ._prediction import Prediction, predicted_training
from ._reading import read_wide_network
from ._regimes import RegimeDiagram, regime_diagram
from ._regression_probe import probe_kernel_regression
from ._relative_curvature import relative_curvature
from ._rkhs_norm import RKHSNorm, rkhs_norm
from ._scaled import Scaled
from ._spectral_decay import SpectralDecay, spectral_decay
from ._spread_probe import kernel_spread, probe_kernel_spread

PROBES = (
    probe_alignment, probe_effective_dimension, probe_movement, probe_linearised, probe_kernel_regression,
    probe_kernel_spread,
)  # fmt: skip

__all__ = [
    "Affine", "CoordinateCheck", "DiagonalNetwork", "EigenLearning", "KernelTrajectory", "Laziness", "Linearised",
    "Movement", "PROBES", "Posterior", "Prediction", "RKHSNorm", "RegimeDiagram", "Scaled", "SpectralDecay", "Unseen",
    "WideKernels", "WideNetwork", "alignment", "balanced_alignment", "coordinate_check", "cross_entropy_flow",
    "cumulative_power", "diagonal_network_limit", "effective_dimension", "eigenlearning", "eigensystem",
    "generalised_cross_validation", "gp_posterior", "interpolation_complexity", "kare", "kernel_descent",
    "kernel_flow", "kernel_movement", "kernel_ridge_risk", "kernel_ridge_risk_bound", "kernel_spread", "laziness",
    "learning_curve", "learning_curve_payload", "leave_one_out_residuals", "leverage", "log_evidence",
    "max_stable_kernel_lr", "ntk", "predicted_training", "prior_samples", "probe_alignment",
    "probe_effective_dimension", "probe_kernel_regression", "probe_kernel_spread", "probe_linearised",
    "probe_movement", "rademacher_ball", "read_wide_network", "regime_diagram", "relative_curvature",
    "rkhs_ball_bound", "rkhs_norm", "spectral_decay", "wide_kernels", "wide_network",
]  # fmt: skip
