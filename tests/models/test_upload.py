"""No byte is overwritten before it was copied, none is read before it has arrived; two buffers serve all batches."""

import threading

import numpy as np
import pytest
import torch

from aistudio.config import ImageSpec
from aistudio.models._encode import ImageRunner, LoadOptions
from aistudio.models._upload import PinnedFeed
from tests.models import fake_cuda

CPU = torch.device("cpu")


def batch(value: int, n: int = 3) -> np.ndarray:
    return np.full((n, 4, 4, 3), value, np.uint8)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> fake_cuda.FakeCuda:
    fake = fake_cuda.FakeCuda(eager=False)
    fake.install(monkeypatch)
    return fake


def compute(feed: PinnedFeed, cuda: fake_cuda.FakeCuda, pixels: np.ndarray, seen: list[np.ndarray]) -> None:
    """Queues a "kernel" that reads the pixels when the computing stream comes to it."""
    with feed.upload(pixels) as upload:
        x = upload.arrived()
        cuda.computing.todo.append(lambda: seen.append(x.numpy().copy()))


def finish(cuda: fake_cuda.FakeCuda) -> None:
    end = fake_cuda.FakeEvent()
    end.record(cuda.computing)
    end.synchronize()


def test_queued_batches_are_all_computed_on_their_own_bytes(cuda: fake_cuda.FakeCuda) -> None:
    feed, seen = PinnedFeed(CPU), []
    for value in range(1, 7):
        compute(feed, cuda, batch(value), seen)
    assert len(seen) == 4  # two slots: the fifth batch waited for the first, and the sixth for the second ... copies
    finish(cuda)
    np.testing.assert_array_equal(np.stack(seen), [batch(value) for value in range(1, 7)])


def test_results_are_fetched_when_they_are_there(cuda: fake_cuda.FakeCuda) -> None:
    feed, rows = PinnedFeed(CPU), torch.zeros(3)
    cuda.computing.todo.append(lambda: rows.fill_(7))
    np.testing.assert_array_equal(feed.fetch(rows), [7, 7, 7])


def test_buffers_are_reused_and_grow(cuda: fake_cuda.FakeCuda) -> None:
    feed, seen = PinnedFeed(CPU), []
    sizes = [3, 2, 3, 5, 1, 5, 4]
    for value, n in enumerate(sizes):
        compute(feed, cuda, batch(value, n), seen)
    finish(cuda)
    assert [len(x) for x in seen] == sizes and [int(x.flat[0]) for x in seen] == list(range(7))
    assert cuda.allocated == [3 * 48, 2 * 48, 5 * 48, 4 * 48]
    assert cuda.copies == [n * 48 for n in sizes]


def test_a_failure_gives_the_slot_back_and_leaves_no_copy_behind(cuda: fake_cuda.FakeCuda) -> None:
    feed, seen = PinnedFeed(CPU), []
    for value in range(5):
        with pytest.raises(RuntimeError, match="out of memory"), feed.upload(batch(value)):
            raise RuntimeError("CUDA out of memory")
    compute(feed, cuda, batch(9), seen)
    finish(cuda)
    np.testing.assert_array_equal(seen, [batch(9)])


def test_a_third_batch_waits_for_a_slot(cuda: fake_cuda.FakeCuda) -> None:
    feed, began = PinnedFeed(CPU), threading.Event()

    def third() -> None:
        with feed.upload(batch(3)):
            began.set()

    with feed.upload(batch(1)):
        with feed.upload(batch(2)):
            thread = threading.Thread(target=third, daemon=True)
            thread.start()
            assert not began.wait(0.1)
        assert began.wait(10)
    thread.join(10)


@pytest.fixture
def encoders(monkeypatch: pytest.MonkeyPatch) -> tuple[ImageRunner, ImageRunner, fake_cuda.FakeCuda]:
    """The same tower as on a CPU, and as on a GPU that takes four images at once."""
    fake = fake_cuda.FakeCuda(eager=True)
    fake.install(monkeypatch)
    torch.manual_seed(3)
    tower = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    cpu, gpu = (ImageRunner(tower, ImageSpec(size=8), 5, LoadOptions(images_per_pass=4)) for _ in range(2))
    gpu._feed = PinnedFeed(CPU)
    return cpu, gpu, fake


def images(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 8, 8, 3), np.uint8)


@pytest.mark.parametrize("n", [0, 1, 4, 5, 11])
def test_the_gpu_way_gives_the_vectors_of_the_cpu_way(encoders, n: int) -> None:
    cpu, gpu, fake = encoders
    np.testing.assert_allclose(gpu(images(0, n)), cpu(images(0, n)), atol=1e-6)
    assert fake.copies == [min(4, n - i) * 192 for i in range(0, n, 4)]


def test_threads_get_their_own_vectors(encoders) -> None:
    cpu, gpu, _ = encoders
    found: dict[int, np.ndarray] = {}

    def work(seed: int) -> None:
        for _ in range(5):
            found[seed] = gpu(images(seed, 9))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for seed in range(4):
        np.testing.assert_allclose(found[seed], cpu(images(seed, 9)), atol=1e-6)


def test_after_a_full_gpu_the_next_call_works(encoders, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu, _ = encoders
    forward, calls = gpu._forward, []

    def full(pixels: torch.Tensor) -> torch.Tensor:
        calls.append(len(pixels))
        if len(calls) <= 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(pixels)

    monkeypatch.setattr(gpu, "_forward", full)
    for _ in range(3):
        with pytest.raises(torch.OutOfMemoryError):
            gpu(images(1, 6))
    np.testing.assert_allclose(gpu(images(1, 6)), cpu(images(1, 6)), atol=1e-6)
