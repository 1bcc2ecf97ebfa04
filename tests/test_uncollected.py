"""Large libraries are imported without the garbage collector, which is as before afterwards."""

import gc

import pytest

from aistudio.imports import uncollected


@pytest.fixture(autouse=True)
def _collector():
    yield
    gc.enable()


def test_nothing_is_collected_within_the_block_and_everything_after_it():
    gc.enable()
    with uncollected():
        assert not gc.isenabled()
        frozen = gc.get_freeze_count()
    assert gc.isenabled() and gc.get_freeze_count() == frozen


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_as_before_even_after_an_error(enabled):
    if not enabled:
        gc.disable()
    with pytest.raises(ImportError), uncollected(), uncollected():
        raise ImportError("torch")
    assert gc.isenabled() is enabled
