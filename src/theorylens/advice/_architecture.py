"""Advice about the architecture: whether it assumes what the data were measured to have."""

from __future__ import annotations

from theorylens.results import Message, Recommendation

from ._findings import UNTESTED, Advice, Findings, Strength, again, message, said


def assume_neighbourhoods(found: Findings) -> Advice | None:
    """A small convolution loses when neighbourhoods are destroyed, and the network has no convolution."""
    structure, dense = found.result("TL508"), message(found.result("TL501"), "TL501.dense")
    if structure is None or dense is None or message(structure, "TL508.local") is None:
        return None
    change = (
        "Compare with a convolutional network (bias.select_architecture on training and validation data): the data have"
        " neighbourhoods, and this network does not assume them."
    )
    return Advice(
        strength=Strength.SUGGESTED,
        recommendation=Recommendation(
            id="assume_neighbourhoods",
            change=Message("advice.neighbourhoods", change),
            supports=(said("TL508", structure.reason), said("TL501", dense)),
            effect=UNTESTED,
            command=again("TL508", "TL501"),
        ),
    )
