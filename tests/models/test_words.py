"""The composers' word vocabulary: splitting, ids by first occurrence, files."""

import json
from pathlib import Path

import pytest

from aistudio.errors import WeightsError
from aistudio.models._words import Vocabulary, build_vocabulary, read_vocabulary, split_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("v-neck red,blue", ["vneck", "redblue"]),  # no blank where punctuation was
        ("Café ÉTÉ naïve", ["caf", "t", "nave"]),  # dropped, not transliterated
        ("  a\tb\nc ", ["a", "b", "c"]),
        ("?! …", []),
        ("", []),
        ("雪 ж", []),
        ("\ud800 x \x00y", ["x", "\x00y"]),
        ("O'Neill's 2-in-1", ["oneills", "2in1"]),
    ],
)
def test_split_words(text: str, words: list[str]) -> None:
    assert split_words(text) == words


def test_ids_go_by_first_occurrence_and_unknown_words_are_0() -> None:
    words = build_vocabulary(["zebra apple", "Apple, ant!", "zebra"])
    assert words == ["<UNK>", "zebra", "apple", "ant"]
    assert Vocabulary(words, "here").tokenize(["ant bee zebra", "", "..."]) == [[3, 0, 1], [], []]


def test_an_iterable_of_letters_gives_letters() -> None:
    assert build_vocabulary(iter("a b!a")) == ["<UNK>", "a", "b"]


@pytest.mark.parametrize("words", [[], ["red", "<UNK>"], ["<UNK>", "red", "red"]])
def test_not_a_vocabulary(words: list[str]) -> None:
    with pytest.raises(WeightsError, match=r"words.txt: not a vocabulary"):
        Vocabulary(words, "words.txt")


def test_files(tmp_path: Path) -> None:
    words = ["<UNK>", "red", "blue"]
    (tmp_path / "lines.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    (tmp_path / "bare.txt").write_text("\n".join(words), encoding="utf-8")
    (tmp_path / "list.json").write_text(json.dumps(words), encoding="utf-8")
    for name in ("lines.txt", "bare.txt", "list.json"):
        assert read_vocabulary(tmp_path / name) == words


@pytest.mark.parametrize("content", ['{"red": 1}', "[1, 2]", "nonsense", "[" * 100_000])
def test_a_json_file_that_is_no_list_of_words(tmp_path: Path, content: str) -> None:
    (tmp_path / "words.json").write_text(content, encoding="utf-8")
    with pytest.raises(WeightsError, match=r"words.json: not a"):
        read_vocabulary(tmp_path / "words.json")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nowhere.txt"):
        read_vocabulary(tmp_path / "nowhere.txt")
