"""Batch sizes found on pretended GPUs: by memory, by a share of it, by speed; a full device is foreseen, not met."""

import pytest
import torch

from aistudio.scoring.batch_size import CudaMemory, Found, find_batch_size, largest_useful

GB, MB = 10**9, 10**6


class FakeGpu:
    """A device with `free` bytes, a model that takes `fixed + per_image * n` of them and `launch_s + n * image_s`."""

    def __init__(self, free=24 * GB, per_image=10 * MB, fixed=100 * MB, launch_s=0.02, image_s=0.001):
        self.free, self.per_image, self.fixed = free, per_image, fixed
        self.launch_s, self.image_s = launch_s, image_s
        self.now, self.sizes, self.peak, self.released = 0.0, [], 0, 0
        self.first_s = 60.0  # compiling, once

    def budget(self):
        return int(0.8 * self.free)

    def name(self):
        return "pretended"

    def release(self):
        self.released += 1

    def peak_of(self, call):
        self.peak = 0
        call()
        return self.peak

    def run(self, n):
        self.sizes.append(n)
        needed = self.needed(n)
        if needed > self.free:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        self.peak = max(self.peak, needed)
        self.now += self.launch_s + n * self.image_s + self.first_s
        self.first_s = 0.0

    def needed(self, n):
        return self.fixed + n * self.per_image

    def find(self, **options) -> Found:
        return find_batch_size(self.run, self, clock=lambda: self.now, **options)


def test_a_large_gpu_gets_the_smallest_batch_that_is_about_as_fast_as_any():
    gpu = FakeGpu()
    found = gpu.find()
    assert gpu.sizes == [n for size in (8, 16, 32, 64, 128, 256, 512, 1024) for n in [size] * 3]
    rates = {t.size: t.images_per_s for t in found.trials}
    assert found.batch_size == 512  # 1.02 ms an image with 1024, 1.04 with 512, 1.08 with 256
    assert rates[1024] < 1.05 * rates[512] and rates[1024] > 1.05 * rates[256]
    assert gpu.released == 8


def test_a_gpu_that_gains_nothing_by_size_gets_small_batches():
    assert FakeGpu(launch_s=0.0).find().batch_size == 8


def test_memory_stops_growth_before_the_device_is_full():
    gpu = FakeGpu(free=2 * GB)
    found = gpu.find()
    assert found.batch_size == 128 and max(gpu.sizes) == 128  # 256 would take 2.66 GB, of which 1.6 may be used
    assert all(t.peak_bytes <= found.budget for t in found.trials)


def test_memory_that_grows_faster_than_expected_is_not_used():
    gpu = FakeGpu(free=2 * GB)
    gpu.needed = lambda n: n * 10 * MB if n < 128 else int(1.9 * GB)  # fits, but leaves no reserve
    assert gpu.find().batch_size == 64 and max(gpu.sizes) == 128
    gpu = FakeGpu(free=2 * GB)
    gpu.needed = lambda n: n * 10 * MB if n < 128 else 3 * GB  # does not fit
    assert gpu.find().batch_size == 64 and gpu.sizes[-1] == 128


def test_no_room_for_the_smallest_batch_means_single_images():
    found = FakeGpu(free=50 * MB).find()
    assert found.batch_size == 1 and found.text() == "1 (no larger one fits into 0.0 GB)"


def test_a_slow_model_is_not_tried_for_minutes():
    gpu = FakeGpu(image_s=0.1)
    assert gpu.find().batch_size <= 32
    assert gpu.now - 60 < 25


def test_nothing_larger_than_asked_is_tried():
    gpu = FakeGpu()
    gpu.find(largest=64)
    assert max(gpu.sizes) == 64


@pytest.mark.parametrize(("rows", "size"), [(1, 8), (8, 8), (9, 16), (500, 512), (1000, 1024), (100_000, 1024)])
def test_a_batch_never_needs_to_hold_more_than_a_shard(rows, size):
    assert largest_useful(rows) == size


def test_another_error_than_memory_is_not_hidden():
    def broken(n):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal memory access"):
        find_batch_size(broken, FakeGpu())


def test_what_is_told_of_the_choice():
    assert FakeGpu(free=2 * GB).find().text() == "128 (tried 8 to 128: 10.8 MB an image of 1.6 GB, 865 images/s)"


@pytest.mark.parametrize(
    ("free_gb", "share", "reserved_gb", "allocated_gb", "budget_gb"),
    [
        (22, 1.0, 1, 1, 0.8 * 22),  # alone on a 24 GB device with a model of 1 GB
        (20, 1.0, 3, 1, 0.8 * 22),  # what this process has cached counts as free
        (22, 0.5, 1, 1, 0.8 * 11),  # half a device: half of it, the model included, however much is free
        (4, 0.5, 1, 1, 0.8 * 4),  # the neighbour came first and took more than its half
        (0, 0.1, 3, 3, 0),  # the model alone is more than the share
    ],
)
def test_budget_is_the_smaller_of_what_is_free_and_of_the_share(
    monkeypatch, free_gb, share, reserved_gb, allocated_gb, budget_gb
):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free_gb * GB, 24 * GB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: reserved_gb * GB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: allocated_gb * GB)
    assert CudaMemory(share).budget() == pytest.approx(budget_gb * GB)


def test_peak_is_what_a_call_takes_on_top(monkeypatch):
    state = {"allocated": 3 * GB, "peak": 9 * GB}
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: state["allocated"])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: state.update(peak=state["allocated"]))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: state["peak"])
    assert CudaMemory(1.0).peak_of(lambda: state.update(peak=5 * GB)) == 2 * GB
