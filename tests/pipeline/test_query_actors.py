"""Queries encoded on Ray's actors: the same bits as in this process, each distinct text once, errors of their own."""

from collections import Counter
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from aistudio.config import parse_config
from aistudio.errors import WeightsError
from aistudio.pipeline import mapping, query_actors
from aistudio.pipeline.query_actors import actor_encoder
from aistudio.scoring.pinned_models import pin_model
from aistudio.scoring.query_vectors import QueryEncoder
from tests.models.test_composers import DIM, saved
from tests.pipeline.test_composed_datasets import write_conf


@pytest.fixture(scope="module")
def composer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("composer")
    conf = write_conf(saved(folder, "tirg"), folder / "tirg.yaml")
    config = parse_config({
        "manifest": {"path": "m.csv", "format": "csv"}, "output": str(folder / "run"),
        "models": {"recall": None, "encoders": {"compose": conf}},
        "download": {"allow_private_addresses": True, "retries": 0},
        "engine": {"num_actors": 2, "plan": "fused", "start_timeout_s": 240},
    }, "test")  # fmt: skip
    return config, pin_model(conf, config, "models.encoders.compose")


def same(ours, theirs):
    assert ours.problems == theirs.problems
    np.testing.assert_array_equal(ours.vectors_ND, theirs.vectors_ND)


def test_actors_give_the_same_bits_and_read_each_text_once(composer, local_ray, monkeypatch, image_server):
    config, model = composer
    monkeypatch.setattr(query_actors, "_TEXTS", 3)
    monkeypatch.setattr(query_actors, "_ROWS", 5)
    monkeypatch.setattr(query_actors, "_PICTURES", 2)
    words = ["red", "blue", "dress", "long collar", "?!", "stripes", "a red dress"]
    texts = [words[i % len(words)] for i in range(23)]
    images = np.random.default_rng(0).normal(size=(23, DIM)).astype(np.float32)
    images[4] = np.nan
    here = QueryEncoder(config, model)
    urls = [(image_server.url(f"ok/{i}.jpg"), None) for i in range(3)] + [(image_server.url("404/x.jpg"), None)]
    sent = Counter()
    with actor_encoder(config, model) as there:
        each = there._each

        def counted(method, parts):
            parts = [*parts]
            for part in parts:
                if method == "text_vectors":
                    sent.update(part[0])
            return each(method, parts)

        there._each = counted
        same(there.compose(images, texts), here.compose(images, texts))
        found = there.compose(images, texts)
        assert found.problems[4] is not None and {i for i, p in enumerate(found.problems) if p} == {4, 11, 18}
        assert sent == dict.fromkeys(words, 2)  # of two calls
        same(there.compose(images[:0], []), here.compose(images[:0], []))
        fresh, local = ({f.row.number: f for f in e.images(urls, 2)} for e in (there, here))
    assert fresh.keys() == local.keys() == {0, 1, 2, 3}
    for number, image in fresh.items():
        assert image.row.status == local[number].row.status
        if image.vector_D is not None:
            np.testing.assert_array_equal(image.vector_D, local[number].vector_D)


def test_a_model_that_is_not_the_runs_is_told_as_it_is_here(composer, local_ray):
    config, model = composer
    config = config.model_copy(update={"engine": config.engine.model_copy(update={"num_actors": 1})})
    with pytest.raises(WeightsError, match="not those of the run"), \
            actor_encoder(config, model._replace(fingerprint="other")) as there:  # fmt: skip
        there.compose(np.zeros((1, DIM), np.float32), ["red"])


@pytest.mark.parametrize(
    ("texts", "pictures", "where"), [(10, 0, "here"), (25_000, 0, "actors"), (0, 1_200, "actors"), (5_000, 10, "here")]
)
def test_few_queries_stay_in_this_process(composer, monkeypatch, texts, pictures, where):
    config, model = composer
    started = []
    monkeypatch.setattr(mapping, "QueryEncoder", lambda *_: started.append("here"))
    monkeypatch.setattr(query_actors, "ActorEncoder", lambda *_: started.append("actors") or SimpleNamespace(close=int))
    monkeypatch.setattr(query_actors.cluster, "connect", lambda _: nullcontext())
    monkeypatch.setattr(query_actors, "make_plan", lambda *_: SimpleNamespace(bundles=list))
    monkeypatch.setattr(query_actors.cluster, "wait_for_room", lambda *_: None)
    with mapping.encoder_for(config, model, texts, pictures):
        assert started == [where]
