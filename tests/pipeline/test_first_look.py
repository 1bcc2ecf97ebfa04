"""What a dry run says of texts and addresses; version 8b17918 said that all was in order."""

import pytest

from aistudio.config import load_model_config
from aistudio.models import open_tokenizer
from aistudio.pipeline import first_look
from aistudio.pipeline.first_look import dry_run_lines, look_at_texts
from aistudio.pipeline.score import prepare

TEXTS = ["wooden chair", "red hotel", "西湖 West Lake"]


@pytest.fixture
def prepared(make_config, tmp_path):
    def make(rows, header="item_id,image_url,text", **sections):
        (tmp_path / "m.csv").write_text(header + "\n" + "".join(f"{r}\n" for r in rows), encoding="utf-8")
        return prepare(make_config(tmp_path / "m.csv", ranking=None, **sections))

    return make


def test_a_tokenizer_that_knows_nothing_is_said(prepared):
    p = prepared(["a,http://127.0.0.1/x.jpg,a"])
    found = look_at_texts(["a b", "x"], p.pinned.recall, p.config)
    assert found.unknown_share == 0 and found.warning is None
    foreign = look_at_texts(["стул дубовый", "лампа", "a", ""], p.pinned.recall, p.config)
    assert foreign.unknown_share == 0.75 and foreign.without_text == 1
    assert "does not know 75% of the tokens" in foreign.warning and "'стул дубовый'" in foreign.warning


def test_no_text_at_all_is_no_unknown_token(prepared):
    p = prepared(["a,http://127.0.0.1/x.jpg,"])
    assert look_at_texts(["", "\u3000"], p.pinned.recall, p.config).unknown_share is None


def test_a_text_that_breaks_the_tokenizer_ends_nothing(prepared, monkeypatch):
    class Breaks:
        def unknown_tokens(self, texts):
            raise RuntimeError("broken")

    monkeypatch.setattr(first_look, "open_pinned_tokenizer", lambda *_: Breaks())
    p = prepared(["a,http://127.0.0.1/x.jpg,a"])
    assert look_at_texts(["a"], p.pinned.recall, p.config).unknown_share is None


def test_a_dry_run_knows_blocked_addresses_before(prepared):
    p = prepared([f"a,http://127.0.0.1/{i}.jpg," for i in range(4)], download={"allow_private_addresses": False})
    text = "\n".join(dry_run_lines(p))
    for part in ("4 rows looked at: 4 http(s), 1 host", "4 of 4 would fail with blocked_address", "exit code 3",
                 "none of 4 rows looked at have a text"):  # fmt: skip
        assert part in text, text
    allowed = "\n".join(dry_run_lines(prepared([f"a,http://127.0.0.1/{i}.jpg,a" for i in range(4)])))
    assert "would fail" not in allowed and "warning" not in allowed


def test_the_plan_says_which_columns_are_numbers(prepared):
    rows = [f"a,http://127.0.0.1/{i}.jpg,a,{i}.5,00{i},{'' if i else 'x'}" for i in range(3)]
    text = "\n".join(dry_run_lines(prepared(rows, "item_id,image_url,text,price,sku,note")))
    assert "numbers     price: in every row looked at" in text


def test_a_word_that_is_spelled_letter_by_letter_is_unknown():
    """The demo's vocabulary has every letter, so that it has no [UNK] for a shop's words; it knows none of them."""
    tokenizer = open_tokenizer(load_model_config("conf/models/demo_recall.yaml"))
    counts = dict(zip(TEXTS, tokenizer.unknown_tokens(TEXTS), strict=True))
    assert counts["wooden chair"] == (11, 11) and counts["red hotel"][0] == 0 and counts["西湖 West Lake"][0] == 0


def test_byte_pieces_are_unknown():
    """A tokenizer that falls back to bytes has no unknown token; parts of a character say the same."""
    from aistudio.models.hf_dual import _Tokenizer

    class Bytes:
        unk_token_id = None

        def __call__(self, texts, **_):
            return {"input_ids": [list(t.encode()) for t in texts]}

        def decode(self, ids):
            return bytes(ids).decode(errors="replace")

    tokenizer = _Tokenizer.__new__(_Tokenizer)
    vars(tokenizer).update(_tokenizer=Bytes(), _limit=50)
    assert tokenizer.unknown_tokens(["ab", "西", ""]) == [(0, 2), (3, 3), (0, 0)]
    assert tokenizer.unknown_tokens([]) == []
