"""The rule about neighbourhoods: it needs data that have them and a network that does not assume them."""

import pytest

from theorylens.advice import recommend
from theorylens.results import About, Done, Estimate, Exact, Kind, Message, Result, Verdict


def done(code, reading):
    result = Result(
        estimate=Estimate(value=0.1, uncertainty=Exact()), kind=Kind.DESCRIPTION, verdict=Verdict.DESCRIPTIVE,
        reason=Message(f"{code}.found", "a reason"), reading=reading, code=code,
    )  # fmt: skip
    return Done(about=About(code=code, name="bias.it", question="What?"), result=result)


LOCAL = done("TL508", Message("TL508.local", "Yes."))
NOT_SHOWN = done("TL508", Message("TL508.not_shown", "Not shown."))
DENSE = done("TL501", Message("TL501.reading", "{layers}", layers=Message("TL501.dense", "No convolution.")))
CONVOLUTION = done("TL501", Message("TL501.reading", "{layers}", layers=Message("TL501.exact_inside", "Exactly.")))


@pytest.mark.parametrize("structure", [LOCAL, NOT_SHOWN, None])
@pytest.mark.parametrize("network", [DENSE, CONVOLUTION, None])
def test_a_convolution_is_advised_to_dense_networks_on_local_data_only(structure, network):
    outcomes = [o for o in (structure, network) if o is not None]
    found = [r for r in recommend(outcomes) if r.id == "assume_neighbourhoods"]
    if structure is LOCAL and network is DENSE:
        assert [e.code for e in found[0].supports] == ["TL508", "TL501"]
    else:
        assert not found
