"""The vocabulary of the studied: Subject, Split, Task, Recipe, and the probe that turns one into a Result.

Design: a Subject is a frozen set of what the user gave plus a handful of views (objective, scores, predictions,
features, initial, at, once); a probe is a decorated function that lends the model out and gives it back as it was.
"""

from ._controls import controls
from ._data_files import read_split
from ._errors import RefusedError, UnsuitableError
from ._estimators import from_sklearn
from ._hashing import NoFingerprintError, digest, hash_callable, hash_code, hash_tensors
from ._identity import judged_hash, model_hash, recipe_hash
from ._isolation import modules_in_training, studied
from ._ledger import TestSetLedger, judged_on_test, labels_in_order, state_folder, tried_on_training
from ._loading import load
from ._measuring import check_finite, objective
from ._probing import Need, Probe, probe
from ._randomness import global_randomness_kept, key_seed, rng_for, seed_everything
from ._recipe import Initial, Recipe
from ._split import Batches, Split
from ._subject import ROLES, Subject, read_state
from ._task import Task, call_first, zero_one
from ._views import Scores
from ._weights import read_weights
from ._work import RUNGS, Work

__all__ = [
    "ROLES",
    "RUNGS",
    "Batches",
    "Initial",
    "Need",
    "NoFingerprintError",
    "Probe",
    "Recipe",
    "RefusedError",
    "Scores",
    "Split",
    "Subject",
    "Task",
    "TestSetLedger",
    "UnsuitableError",
    "Work",
    "call_first",
    "check_finite",
    "controls",
    "digest",
    "from_sklearn",
    "global_randomness_kept",
    "hash_callable",
    "hash_code",
    "hash_tensors",
    "judged_hash",
    "judged_on_test",
    "key_seed",
    "labels_in_order",
    "load",
    "model_hash",
    "modules_in_training",
    "objective",
    "probe",
    "read_split",
    "read_state",
    "read_weights",
    "recipe_hash",
    "rng_for",
    "seed_everything",
    "state_folder",
    "studied",
    "tried_on_training",
    "zero_one",
]
