"""The claims that are kept, in the order in which they are shown: false ones first, they do most harm."""

from __future__ import annotations

from theorylens.results import Message

from . import _sightings as see
from ._claims import Claim, Truth

CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="parameters_overfit",
        statement=Message("claim.parameters_overfit", "A network with more parameters than examples overfits."),
        truth=Truth.FALSE,
        conditions=Message(
            "claim.parameters_overfit.when",
            "False as a rule: what counts is how sharply the data determine the parameters, and how the training "
            "algorithm chooses among those that fit. At the interpolation threshold the test error does peak.",
        ),
        tests=("TL101", "TL103", "generalization.double_descent"),
        references=("Zhang et al. (2017), ICLR.", "Belkin, Hsu, Ma, Mandal (2019), PNAS 116:15849."),
        look=see.parameters_overfit,
    ),
    Claim(
        id="zero_error_overfits",
        statement=Message("claim.zero_error_overfits", "A network without training errors has overfitted."),
        truth=Truth.FALSE,
        conditions=Message(
            "claim.zero_error_overfits.when",
            "False as a rule: noise can be fitted harmlessly when it spreads over many directions of small variance; "
            "in few dimensions fitting noise does cost.",
        ),
        tests=("TL104", "generalization.benign_overfitting"),
        references=("Bartlett, Long, Lugosi, Tsigler (2020), PNAS 117:30063.",),
        look=see.zero_error_overfits,
    ),
    Claim(
        id="double_descent_contradicts",
        statement=Message("claim.double_descent", "Double descent contradicts statistical learning theory."),
        truth=Truth.FALSE,
        conditions=Message(
            "claim.double_descent.when",
            "False: it contradicts bounds by the number of parameters. Exact least-squares theory predicts the peak, "
            "and against effective degrees of freedom the curve need not show one.",
        ),
        tests=("generalization.double_descent", "generalization.least_squares_descent"),
        references=(
            "Hastie, Montanari, Rosset, Tibshirani (2022), Ann. Stat. 50:949.",
            "Curth, Jeffares, van der Schaar (2023), NeurIPS.",
        ),
        look=see.nothing,
    ),
    Claim(
        id="flat_loss_converged",
        statement=Message("claim.flat_loss", "A training loss that no longer falls has converged."),
        truth=Truth.FALSE,
        conditions=Message(
            "claim.flat_loss.when",
            "False as a rule: a constant learning rate stops above the minimum, plateaus end, and noise hides slow "
            "descent. The gradient over all rows and the inner products of steps tell more.",
        ),
        tests=("TL601", "TL303", "TL604", "dynamics.convergence_diagnostic"),
        references=("Pflug (1990), Monatsh. Math. 110:297.", "Chee, Toulis (2018), AISTATS."),
        look=see.flat_loss_converged,
    ),
    Claim(
        id="flat_minima",
        statement=Message("claim.flat_minima", "Flat minima generalise better."),
        truth=Truth.CONDITIONAL,
        conditions=Message(
            "claim.flat_minima.when",
            "Only between networks in comparable coordinates: rescaling two layers changes the Hessian and not the "
            "function. Normalised measures go with the gap in some families of networks and against it in others.",
        ),
        tests=("TL301", "TL305", "landscape.invariance", "generalization.measure_study"),
        references=("Dinh, Pascanu, Bengio, Bengio (2017), ICML.", "Jiang et al. (2020), ICLR."),
        look=see.flat_minima,
    ),
    Claim(
        id="effective_complexity",
        statement=Message(
            "claim.complexity", "Effective complexity, not the number of parameters, decides generalisation."
        ),
        truth=Truth.CONDITIONAL,
        conditions=Message(
            "claim.complexity.when",
            "Once the complexity is defined: degrees of freedom, a PAC-Bayes divergence or a code length give bounds; "
            "no single one explains all networks.",
        ),
        tests=("TL103", "TL110", "TL101", "generalization.pac_bayes_kl"),
        references=("Jiang et al. (2020), ICLR.", "Dziugaite et al. (2020), NeurIPS."),
        look=see.effective_complexity,
    ),
    Claim(
        id="simple_first",
        statement=Message("claim.simple_first", "Gradient descent learns simple functions first."),
        truth=Truth.CONDITIONAL,
        conditions=Message(
            "claim.simple_first.when",
            "Exact for linear models, mode by mode, where simple means large eigenvalue; for networks an observation "
            "that depends on what is called simple, on the architecture and on the initial scale.",
        ),
        tests=("TL511", "dynamics.mode_course", "bias.frequency_errors"),
        references=("Kalimeris et al. (2019), NeurIPS.", "Saxe, McClelland, Ganguli (2014), ICLR."),
        look=see.simple_first,
    ),
    Claim(
        id="phases",
        statement=Message("claim.phases", "Training goes through distinct phases."),
        truth=Truth.CONDITIONAL,
        conditions=Message(
            "claim.phases.when",
            "Sharp transitions exist (plateaus from small initial weights, grokking, catapults); many records are one "
            "smooth decay with noise, in which thresholds always find phases and a calibrated test finds none.",
        ),
        tests=("TL603", "dynamics.change_points", "dynamics.two_layer_mode"),
        references=("Saxe, McClelland, Ganguli (2014), ICLR.", "Power et al. (2022), arXiv:2201.02177."),
        look=see.phases,
    ),
    Claim(
        id="edge_of_stability",
        statement=Message("claim.edge", "Training ends where the sharpness meets 2 over the learning rate."),
        truth=Truth.CONDITIONAL,
        conditions=Message(
            "claim.edge.when",
            "For gradient descent on all rows run long enough; small batches keep the sharpness below, adaptive "
            "methods have the limit on a rescaled Hessian.",
        ),
        tests=("TL602", "TL301"),
        references=("Cohen, Kaur, Li, Kolter, Talwalkar (2021), ICLR.",),
        look=see.edge_of_stability,
    ),
    Claim(
        id="saddles",
        statement=Message("claim.saddles", "In high dimension saddles, not minima, are where training stops."),
        truth=Truth.CONDITIONAL,
        conditions=Message(
            "claim.saddles.when",
            "Most critical points of random high-dimensional functions are saddles; gradient descent from a random "
            "start avoids strict ones almost surely, though it may take long.",
        ),
        tests=("TL303", "landscape.strict_saddle"),
        references=("Dauphin et al. (2014), NeurIPS.", "Lee, Simchowitz, Jordan, Recht (2016), COLT."),
        look=see.saddles,
    ),
    Claim(
        id="distributed_exponential",
        statement=Message(
            "claim.distributed", "Distributed representations are exponentially more efficient than local ones."
        ),
        truth=Truth.CONDITIONAL,
        conditions=Message(
            "claim.distributed.when",
            "As a maximum over weights: the number of linear regions can grow exponentially with depth. Networks as "
            "initialised and as trained have few, and regions are no measure of generalisation.",
        ),
        tests=("TL205",),
        references=("Montúfar, Pascanu, Cho, Bengio (2014), NeurIPS.", "Hanin, Rolnick (2019), ICML."),
        look=see.distributed_pieces,
    ),
    Claim(
        id="hierarchy",
        statement=Message("claim.hierarchy", "Deep networks learn a hierarchy of features by themselves."),
        truth=Truth.CONDITIONAL,
        conditions=Message(
            "claim.hierarchy.when",
            "Proven for targets with a staircase of steps, each easy given the last; in the lazy regime no features "
            "are learnt at all.",
        ),
        tests=("TL202", "TL404"),
        references=("Abbe, Boix-Adserà, Misiakiewicz (2022), COLT.", "Chizat, Oyallon, Bach (2019), NeurIPS."),
        look=see.hierarchy,
    ),
    Claim(
        id="width_optimisation",
        statement=Message("claim.width", "Wide networks train like a fixed kernel, which makes them easy to optimise."),
        truth=Truth.CONDITIONAL,
        conditions=Message(
            "claim.width.when",
            "In the limit of width with the scaling that keeps features fixed; at usual widths and learning rates "
            "features move, and a positive smallest kernel eigenvalue must be checked.",
        ),
        tests=("TL404", "TL403"),
        references=("Jacot, Gabriel, Hongler (2018), NeurIPS.", "Du et al. (2019), ICML."),
        look=see.lazy_training,
    ),
    Claim(
        id="larger_batches",
        statement=Message("claim.batches", "The learning rate should grow in proportion to the batch."),
        truth=Truth.CONDITIONAL,
        conditions=Message(
            "claim.batches.when",
            "For SGD far below the noise scale; with the square root for adaptive methods; past the noise scale larger "
            "batches allow hardly longer steps.",
        ),
        tests=("TL510", "dynamics.scale_learning_rate"),
        references=("Goyal et al. (2017), arXiv:1706.02677.", "McCandlish et al. (2018), arXiv:1812.06162."),
        look=see.larger_batches,
    ),
    Claim(
        id="manifold",
        statement=Message("claim.manifold", "Data lie near a set of few dimensions, and so do learnt features."),
        truth=Truth.CONDITIONAL,
        conditions=Message(
            "claim.manifold.when", "As measured on natural images; for other data it is to be measured, not assumed."
        ),
        tests=("TL201",),
        references=("Pope, Zhu, Abdelkader, Goldblum, Goldstein (2021), ICLR.",),
        look=see.manifold,
    ),
    Claim(
        id="early_stopping",
        statement=Message("claim.early", "Stopping early prevents overfitting."),
        truth=Truth.CONDITIONAL,
        conditions=Message(
            "claim.early.when",
            "Where noise is learnt later than signal: exactly in linear models, where it acts like ridge regression. "
            "Without noise in the labels longer training often does no harm.",
        ),
        tests=("TL601", "dynamics.early_stop", "bias.early_stopping_path"),
        references=("Prechelt (1998).", "Ali, Kolter, Tibshirani (2019), AISTATS."),
        look=see.early_stopping,
    ),
    Claim(
        id="schedule_matters",
        statement=Message("claim.schedule", "The schedule of the learning rate matters."),
        truth=Truth.TRUE,
        conditions=Message(
            "claim.schedule.when",
            "With gradient noise: a constant rate stops at a distance in proportion to it, and letting it fall by the "
            "last step removes that.",
        ),
        tests=("TL604", "dynamics.cosine_annealing"),
        references=("Robbins, Monro (1951).", "Defazio, Cutkosky, Mehta, Mishchenko (2023), arXiv:2310.07831."),
        look=see.schedule_matters,
    ),
    Claim(
        id="bias_scope",
        statement=Message("claim.bias", "Inductive bias sets what a network can generalise to."),
        truth=Truth.TRUE,
        conditions=Message(
            "claim.bias.when",
            "Averaged over all targets no method beats another outside its examples; which assumptions a network makes "
            "is measured, and whether the data keep to them.",
        ),
        tests=("TL501", "TL507", "TL505"),
        references=("Wolpert (1996), Neural Comput. 8:1341.",),
        look=see.bias_scope,
    ),
    Claim(
        id="depth_composition",
        statement=Message(
            "claim.depth", "Depth represents compositions for which shallow networks need exponentially many units."
        ),
        truth=Truth.TRUE,
        conditions=Message(
            "claim.depth.when",
            "For particular functions, such as repeated folding. It is a statement about what can be represented, not "
            "about what training finds.",
        ),
        tests=("TL205",),
        references=("Telgarsky (2016), COLT.", "Eldan, Shamir (2016), COLT."),
        look=see.distributed_pieces,
    ),
)  # fmt: skip
