"""One bad item or a full device costs little; the error ends at the item that fails alone."""

import gc
import weakref

import pytest

from aistudio.scoring.isolate import DeviceLostError, in_halves


def test_nothing_is_called_for_no_items():
    assert in_halves(lambda items: pytest.fail("called"), []) == ({}, False)


def test_bad_items_are_found_and_good_ones_called_once_with_success():
    done = []

    def call(items):
        if {3, 11} & set(items):
            raise KeyError("bad item")
        done.extend(items)
        return {}

    errors, out_of_memory = in_halves(call, list(range(16)))
    assert errors == {3: "KeyError: 'bad item'", 11: "KeyError: 'bad item'"} and not out_of_memory
    assert sorted(done) == [i for i in range(16) if i not in (3, 11)]


def test_errors_that_the_call_returns_are_kept_without_a_retry():
    calls = []

    def call(items):
        calls.append(items)
        return {items[0]: "not finite"}

    assert in_halves(call, [5, 6]).errors == {5: "not finite"} and calls == [[5, 6]]


def test_a_full_device_gets_halves_until_they_fit():
    sizes = []

    def call(items):
        sizes.append(len(items))
        if len(items) > 3:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return {}

    assert in_halves(call, list(range(12))) == ({}, True)
    assert sizes == [12, 6, 3, 3, 6, 3, 3]


def test_the_failed_calls_memory_is_free_before_the_halves_run():
    class Tensor:
        pass

    held = []

    def call(items):
        assert all(ref() is None for ref in held), "the failed call's tensor is still in memory"
        if len(items) > 1:
            tensor = Tensor()
            held.append(weakref.ref(tensor))
            raise RuntimeError("out of memory")
        return {}

    gc.disable()  # it must go by itself: nobody collects between two batches
    try:
        in_halves(call, [1, 2])
    finally:
        gc.enable()
    assert held


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_a_full_device_is_known_by_all_its_names_and_is_not_a_lost_one(error):
    def call(items):
        if len(items) > 2:
            raise error
        return {}

    assert in_halves(call, list(range(4))) == ({}, True)


def test_a_lost_device_is_not_blamed_on_items():
    def call(items):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(DeviceLostError, match="illegal memory access"):
        in_halves(call, [1, 2, 3])
