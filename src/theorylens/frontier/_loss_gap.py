"""How much higher is the loss on examples that training did not see?"""

from __future__ import annotations

import math
from typing import Any

from scipy import stats
from torch import nn

from theorylens.core import Subject, Task
from theorylens.results import Estimate, Message, Statistical

FEWEST = 30  # validation rows: below that Student's t says little about skewed losses


def loss_gap(model: nn.Module, train: Any, validation: Any, loss: Any, *, level: float = 0.95) -> Estimate:
    """Mean loss on validation less that on training, with Student's interval over the validation rows.

    The training loss is a known number, not a sample. Rows that were used to choose the network make the gap too small.

    Raises
    ------
    ValueError
        Fewer than 30 validation rows.
    """
    subject = Subject(
        model=model, task=loss if isinstance(loss, Task) else Task(loss=loss), train=train, validation=validation
    )
    known = float(subject.scores("train").losses.mean())
    losses = subject.scores("validation").losses
    n = len(losses)
    if n < FEWEST:
        raise ValueError(f"a gap needs at least {FEWEST} validation rows for its interval, got {n}")
    value = float(losses.mean()) - known
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * float(losses.std()) / math.sqrt(n)
    method = Message("frontier.gap", "Student's t over {n} validation rows, less the training loss", n=n)
    return Estimate(
        value=value, uncertainty=Statistical(lower=value - half, upper=value + half, level=level, method=method)
    )  # fmt: skip
