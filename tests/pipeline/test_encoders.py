"""What the model actors' front door does at the start on a GPU, without one: the warm-up and the batch size."""

import threading

import numpy as np
import pytest

from aistudio.config import EngineSettings, ImageSpec
from aistudio.pipeline.encoders import Encoders, gpu_share
from aistudio.pipeline.engine import Resources
from aistudio.pipeline.plan import make_plan
from aistudio.pipeline.workers import _limit_threads

SIZE = 8


class FakeModel:
    """Remembers what it was asked; more than `room` images are too many."""

    dim, image_spec = 4, ImageSpec(size=SIZE)

    def __init__(self, room=10_000):
        self.room, self.images, self.texts, self.ranked = room, [], [], []

    def encode_images(self, pixels):
        assert pixels.dtype == np.uint8 and pixels.shape[1:] == (SIZE, SIZE, 3)
        self.images.append(len(pixels))
        if len(pixels) > self.room:
            raise RuntimeError("CUDA out of memory")
        return np.ones((len(pixels), self.dim), np.float32)

    def encode_texts(self, texts):
        self.texts.append(list(texts))
        return np.ones((len(texts), self.dim), np.float32)

    def rank(self, vectors, texts, poi_names):
        self.ranked.append(len(vectors))
        return np.zeros(len(vectors), np.float32)


class FakeMemory:
    """More than enough, and every pass takes a megabyte."""

    def name(self):
        return "Pretended GPU"

    def budget(self):
        return 10**9

    def peak_of(self, call):
        call()
        return 10**6

    def release(self):
        pass


def encoders(recall, ranking=None, shared=True, batch_size=0) -> Encoders:
    made = Encoders.__new__(Encoders)  # loading needs files, and a device
    made.recall, made.ranking, made.shared = recall, ranking, shared
    made._lock = made._turn = threading.Lock()
    made.batch_size, made._facts = batch_size, {}
    return made


@pytest.mark.parametrize("shared", [True, False])
def test_every_model_is_warm_and_the_batch_size_is_found_on_all_towers(shared):
    recall, ranking = FakeModel(), FakeModel(room=40)
    made = encoders(recall, ranking, shared)
    made._warm_up(FakeMemory(), largest=128)
    assert recall.texts == [[""]] and ranking.ranked == [1]
    assert max(recall.images) == (128 if shared else 64) and max(ranking.images, default=0) == (0 if shared else 64)
    assert 8 <= made.batch_size <= (128 if shared else 32)
    assert made.facts()["batch_size on Pretended GPU"].startswith(f"{made.batch_size} (tried 8 to ")
    assert made.facts()["image_tower"] == ("shared" if shared else "own")


def test_a_batch_size_that_is_set_is_kept_and_the_towers_run_once():
    recall = FakeModel()
    made = encoders(recall, batch_size=300)
    made._warm_up(FakeMemory(), largest=128)
    assert recall.images == [8] and made.batch_size == 300 and made.facts() == {}


def test_a_model_that_cannot_run_at_all_is_not_taken_for_a_full_gpu():
    class Broken(FakeModel):
        def encode_images(self, pixels):
            raise RuntimeError("no kernel image is available for execution on the device")

    with pytest.raises(RuntimeError, match="no kernel image"):
        encoders(Broken())._warm_up(FakeMemory(), largest=128)


@pytest.mark.parametrize(
    ("resources", "settings", "share"),
    [
        (Resources(16, 1, 1), {}, 1.0),
        (Resources(16, 1, 1), {"num_gpus_per_actor": 0.25}, 0.25),
        (Resources(16, 2, 1), {"num_gpus_per_actor": 2}, 1.0),
        (Resources(4, 0, 1), {"device": "cuda", "num_actors": 4}, 0.25),  # Ray was not told of the GPU
    ],
)
def test_an_actors_share_of_its_gpu(resources, settings, share):
    assert gpu_share(make_plan(EngineSettings(**settings), resources)) == share


def test_a_model_actors_threads_hold_in_its_other_threads_too():
    import cv2
    import torch

    before = torch.get_num_threads(), cv2.getNumThreads()
    found = []
    try:
        _limit_threads(3)
        thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))  # as shards in flight are
        thread.start()
        thread.join(10)
        assert [torch.get_num_threads(), *found, cv2.getNumThreads()] == [3, 3, 1]
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
