"""Texts and vocabulary: every text of the demo is covered, captions say what the picture shows."""

import random

from aistudio.demo.draw import Attributes
from aistudio.demo.sights import SIGHTS
from aistudio.demo.texts import LIGHT_WORDS, caption, names_of, offer_texts, offer_title, vocabulary

SHOWN = Attributes("dusk", "snow", 0.5, 0.2, 0.5, 0.1, 0, False)


def test_vocabulary_covers_names_and_titles(tmp_path):
    from tokenizers import BertWordPieceTokenizer

    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary()) + "\n", encoding="utf-8")
    tokenizer = BertWordPieceTokenizer(str(tmp_path / "vocab.txt"), lowercase=True)
    rng = random.Random(0)
    for sight in SIGHTS:
        texts = [*names_of(sight), offer_title(sight, rng), caption(sight, SHOWN, rng)[0], *offer_texts(sight, rng)]
        for text in texts:
            assert "[UNK]" not in tokenizer.encode(text).tokens, text
    assert "[UNK]" in tokenizer.encode("龘").tokens
    assert len(set(vocabulary())) == len(vocabulary())


def test_the_demo_weights_were_trained_with_this_vocabulary(request):
    path = request.config.rootpath / "weights/demo/vocab.txt"
    assert path.read_text(encoding="utf-8").splitlines() == vocabulary()


def test_captions_speak_only_of_what_is_shown():
    rng = random.Random(1)
    found = [caption(SIGHTS[0], SHOWN, rng) for _ in range(200)]
    assert {light for _, light, _ in found} == {None, "dusk"}
    assert {weather for _, _, weather in found} == {None, "snow"}
    for text, light, _ in found:
        said = any(word in text for word in LIGHT_WORDS["dusk"])
        assert said == (light == "dusk")


def test_offers_name_the_sight_or_nothing():
    rng = random.Random(2)
    for _ in range(100):
        title, names = offer_texts(SIGHTS[4], rng)
        assert SIGHTS[4].zh in title
        assert not names or {SIGHTS[4].name, SIGHTS[4].zh} & set(names.split(","))
