"""What only a GPU can show: the same vectors as on a CPU, from several threads, in every precision; memory foreseen.

Needs no Ray, so that it runs on a borrowed machine: `python -m pytest tests/test_gpu.py`.
"""

import threading

import numpy as np
import pytest
import torch
from torch import nn

from aistudio.config import ImageSpec
from aistudio.models._efficientnet import ImageArch, build_image_tower
from aistudio.models._encode import ImageRunner, LoadOptions
from aistudio.scoring.batch_size import CudaMemory, find_batch_size

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]
SIZE = 64


def encoder(**options) -> ImageRunner:
    torch.manual_seed(0)
    tower = build_image_tower(ImageArch(width_mult=0.25, depth_mult=0.2, dim=24, static_size=SIZE))
    for module in tower.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        tower(torch.randn(16, 3, SIZE, SIZE))  # as trained: else activations shrink to what float16 cannot hold
    return ImageRunner(nn.Sequential(tower), ImageSpec(size=SIZE), 24, LoadOptions(**options))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, SIZE, SIZE, 3), np.uint8)


def test_vectors_are_those_of_the_cpu_whatever_the_batch(images):
    want = encoder()(images)
    for size in (1, 7, 50):
        np.testing.assert_allclose(encoder(device="cuda", images_per_pass=size)(images), want, atol=1e-5)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_low_precision_stays_near(images, precision):
    if precision == "bfloat16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        pytest.skip("this GPU has no bfloat16")
    got = encoder(device="cuda", precision=precision)(images)
    assert ((got * encoder()(images)).sum(1) > 0.99).all()


def test_threads_get_their_own_vectors(images):
    gpu, wrong = encoder(device="cuda", images_per_pass=8), []
    want = gpu(images)

    def work(seed: int) -> None:
        order = np.random.default_rng(seed).permutation(len(images))
        for _ in range(20):
            if not np.allclose(gpu(images[order]), want[order], atol=1e-5):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not wrong and not any(t.is_alive() for t in threads)


def test_a_batch_is_found_without_running_into_the_end_of_memory():
    """The process may take 2 GB; the share is told to be that, and no trial may fail."""
    total = torch.cuda.mem_get_info()[1]
    share = 2e9 / total
    gpu, sizes = encoder(device="cuda", images_per_pass=1024), []

    def run(n: int) -> None:
        sizes.append(n)
        gpu(np.zeros((n, SIZE, SIZE, 3), np.uint8))
        sizes[-1] = -n  # it went well

    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(share)
    try:
        found = find_batch_size(run, CudaMemory(share))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert all(n < 0 for n in sizes) and found.batch_size >= 8
    assert all(t.peak_bytes <= found.budget <= 2e9 for t in found.trials)
