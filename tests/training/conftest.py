import jaxtyping
import pytest


@pytest.fixture
def unchecked_shapes():
    """Types unchecked, as for a user: the library's own refusals answer, not the tests' type checker."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
