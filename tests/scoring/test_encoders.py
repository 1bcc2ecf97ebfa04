"""What the model actors' front door does at the start on a GPU, without one: the warm-up and the batch size."""

import threading

import numpy as np
import pytest

from aistudio.config import EngineSettings, ImageSpec, parse_config
from aistudio.pipeline.actors import _limit_threads
from aistudio.pipeline.plan import Resources, make_plan
from aistudio.scoring import encoders as encoders_module
from aistudio.scoring.core_lock import CoreLock
from aistudio.scoring.encoders import Device, Encoders, Models, find_towers
from aistudio.scoring.pinned_models import PinnedModels

SIZE = 8


class FakeModel:
    """Remembers what it was asked; more than `room` images are too many."""

    dim, normalised = 4, True

    def __init__(self, room=10_000, tower="tower", spec=ImageSpec(size=SIZE)):  # noqa: B008 - frozen
        self.image_spec, self.image_tower_fingerprint = spec, tower
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


def encoders(recall=None, ranking=None, batch_size=0, **named) -> Encoders:
    made = Encoders.__new__(Encoders)  # loading needs files, and a device
    made.recall, made.ranking = recall, ranking
    made.towers = find_towers(Models(recall, ranking, named))
    made._core_lock, made._thread = CoreLock(), None
    made.batch_size, made._facts = batch_size, {}
    made._specs = tuple(dict.fromkeys(model.image_spec for model in made.towers.models))
    return made


def test_each_vector_column_has_its_tower_and_equal_towers_run_once():
    wide = ImageSpec(size=SIZE * 2)
    recall, own = FakeModel(tower="a"), FakeModel(tower="b")
    named = {
        "look": FakeModel(tower="c"), "same": FakeModel(tower="a"), "wide": FakeModel(tower="a", spec=wide),
        "x": FakeModel(tower=None), "y": FakeModel(tower=None),
    }  # fmt: skip
    towers = find_towers(Models(recall, own, named))
    assert towers.columns == {
        "embedding": 0, "rank_embedding": 1, "embedding_look": 2, "embedding_same": 0, "embedding_wide": 3,
        "embedding_x": 4, "embedding_y": 5,
    }  # fmt: skip
    assert towers.rank == 1 and towers.widths["embedding_look"] == 4
    shared = find_towers(Models(recall, FakeModel(tower="a"), {}))
    assert shared.columns == {"embedding": 0} and shared.rank == 0
    alone = find_towers(Models(None, own, {}))
    assert alone.columns == {"rank_embedding": 0} and alone.rank == 0
    assert find_towers(Models(None, None, {"look": named["look"]})).columns == {"embedding_look": 0}


def test_each_tower_gets_its_own_pixels_once():
    small = ImageSpec(size=8)

    class Sized(FakeModel):
        def encode_images(self, pixels):
            self.images.append(pixels.shape[1])
            return np.full((len(pixels), self.dim), pixels.shape[1], np.float32)

    big = ImageSpec(size=16)
    recall, look, same = Sized(tower="a", spec=big), Sized(tower="b", spec=small), Sized(tower="a", spec=big)
    made = encoders(recall, look=look, same=same)
    image = (np.zeros((16, 16, 3), np.uint8), np.zeros((8, 8, 3), np.uint8))
    first, second = made.encode([image, image])
    assert first.tolist() == [[16] * 4] * 2 and second.tolist() == [[8] * 4] * 2
    assert recall.images == [16] and look.images == [8] and same.images == []
    assert made.facts() == {"shared_towers": "embedding = embedding_same"}


@pytest.mark.parametrize("shared", [True, False])
def test_every_model_is_warm_and_the_batch_size_is_found_on_all_towers(shared):
    recall, ranking = FakeModel(), FakeModel(room=40, tower="tower" if shared else "another")
    made = encoders(recall, ranking)
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


CONFIG = {"manifest": {"path": "-", "format": "csv"}, "output": "-", "models": {"recall": "-"}}


@pytest.fixture
def load(monkeypatch):
    """`load(device, model, **engine)`: Encoders as an actor makes them; `load.options`: how the model was loaded."""

    def load_pinned(model, config, load_it):
        load_it(None)  # as load_recall would be called
        return model

    def load_recall(cfg, **options):
        load.options = options

    def load(device, model, **settings):
        config = parse_config(CONFIG | {"engine": settings | {"device": device}}, "test")
        plan = make_plan(config.engine, Resources(16, 1, 1))
        return Encoders(config, Device(plan.device, plan.batch_size, plan.gpu_share), PinnedModels(model))

    monkeypatch.setattr(encoders_module, "load_pinned", load_pinned)
    monkeypatch.setattr(encoders_module, "load_recall", load_recall)
    monkeypatch.setattr(encoders_module, "CudaMemory", lambda share: FakeMemory())
    return load


def test_on_a_gpu_the_actor_finds_what_the_plan_left_open(load):
    model = FakeModel()
    made = load("cuda", model, shard_rows=60)
    assert load.options["images_per_pass"] == 1024 and load.options["device"] == "cuda"
    assert max(model.images) == 64 and 8 <= made.batch_size <= 64 and made.facts()
    assert load("cuda", FakeModel(), batch_size=1500).batch_size == load.options["images_per_pass"] == 1500


def test_on_a_cpu_nothing_is_tried(load):
    model = FakeModel()
    made = load("cpu", model)
    assert made.batch_size == 16 and made.facts() == {} and not (model.images or model.texts)


@pytest.mark.parametrize(("device", "callers"), [("cpu", 1), ("cuda", 2)])
def test_images_are_given_to_a_gpu_by_several_threads_and_to_a_cpu_by_one(load, device, callers):
    made = load(device, FakeModel(), batch_size=8)
    inside, most, both = [], [], threading.Event()

    def encode_images(pixels):
        inside.append(1)
        most.append(len(inside))
        if len(inside) == 2:
            both.set()
        both.wait(10 if callers == 2 else 0.2)
        inside.pop()
        return np.ones((len(pixels), 4), np.float32)

    made.towers.models[0].encode_images = encode_images
    image = (np.zeros((SIZE, SIZE, 3), np.uint8),)
    threads = [threading.Thread(target=made.encode, args=([image],)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(most) == 2 and max(most) == callers


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
    assert make_plan(EngineSettings(**settings), resources).gpu_share == share


def test_a_model_actors_threads_hold_in_its_other_threads_too():
    cv2 = pytest.importorskip("cv2")
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
