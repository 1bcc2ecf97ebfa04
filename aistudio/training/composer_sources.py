"""Where a composer's questions come from: a data set, a table of one's own, or what drawn pictures show."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aistudio.catalogue import DATASET_FORMATS, Pair, read_pairs, read_queries, vocabulary_texts
from aistudio.config import ComposerTraining, ManifestSettings
from aistudio.config.train_data import SourceSettings
from aistudio.demo.changes import questions
from aistudio.errors import ConfigError, ManifestError
from aistudio.runs.dataset_files import dataset_files
from aistudio.search.query_table import Query, read_own_queries
from aistudio.training.composer_drawn import parse_shown
from aistudio.training.composer_pairs import DatasetPairs, Pairs, Question, QuestionPairs
from aistudio.training.dataset import Dataset

TARGETS = ("target", "target_row_id", "target_image_url")  # columns of a table, beside `relevant`
Refused = Callable[[list[str]], list[str | None]]  # why each text cannot be used, else None


@dataclass(frozen=True)
class Asked:
    """Where the questions of one side (training, validation) come from."""

    settings: ComposerTraining
    source: SourceSettings
    place: str | None  # settings.pairs or settings.validation_pairs
    training: bool

    @property
    def dataset(self) -> ManifestSettings | None:
        """The data set that is asked, None where it is a table or drawn pictures."""
        name, _, root = (self.place or "").partition(":")
        if name in DATASET_FORMATS and root:
            found = ManifestSettings.model_validate({"path": root, "format": name})
        elif self.place is None and self.source.manifest and self.source.manifest.format in DATASET_FORMATS:
            found = self.source.manifest
        else:
            return None
        return found if found.split or not self.training else found.model_copy(update={"split": "train"})


def training_pairs(asked: Asked, data: Dataset, usable: NDArray[np.bool_], refused: Refused) -> Pairs:
    """Find the training pairs.

    Args:
        usable: (N,) rows of `data` that may be trained on.

    Raises:
        ConfigError: there are none, or nothing says what they are.
    """
    if (dataset := asked.dataset) is not None:
        return _dataset_pairs(asked, dataset, data, usable, refused)
    found, left_out = _questions(asked, data, usable, refused)
    if not found:
        raise ConfigError(f"data: no pair is left{_because(left_out)}")
    return QuestionPairs(found, left_out)


def validation_questions(asked: Asked, data: Dataset, refused: Refused) -> QuestionPairs:
    """Find the questions to judge by. Raises ConfigError as `training_pairs`."""
    usable = np.ones(len(data), bool)
    dataset = asked.dataset
    ask = _questions if dataset is None else _dataset_questions
    found, left_out = ask(asked, data, usable, refused)
    if not found:
        raise ConfigError(f"data.validation: there is no question to judge by{_because(left_out)}")
    return QuestionPairs(found, left_out)


def _because(left_out: dict[str, int]) -> str:
    return ": " + "; ".join(f"{n:,} because {reason}" for reason, n in left_out.items()) if left_out else ""


def _row_numbers(data: Dataset, column: str, usable: NDArray[np.bool_]) -> dict[str, int]:
    """The first usable row of each value."""
    rows = np.flatnonzero(usable)
    names = data.readable(rows, column)
    return dict(zip(reversed(names), reversed(rows.tolist()), strict=True))


# --- data sets --------------------------------------------------------------------------------------------------------


def _dataset_pairs(
    asked: Asked, dataset: ManifestSettings, data: Dataset, usable: NDArray[np.bool_], refused: Refused
) -> DatasetPairs:
    try:
        pairs = read_pairs(dataset_files(dataset.path, asked.settings.store), dataset)
    except ManifestError as e:
        raise ConfigError(f"pairs: {e}") from None
    complete, known = asked.settings.text == "complete", dict[str, bool]()

    def said(pair: Pair) -> str | None:
        text = pair.complete_text if complete and pair.complete_text else pair.text
        if text not in known:
            known[text] = refused([text])[0] is None
        return text if known[text] else None

    texts = vocabulary_texts(pairs, asked.settings.vocabulary)
    return DatasetPairs(pairs, texts, _row_numbers(data, "row_id", usable), said)


def _dataset_questions(
    asked: Asked, data: Dataset, usable: NDArray[np.bool_], refused: Refused
) -> tuple[list[Question], dict[str, int]]:
    dataset = asked.dataset
    assert dataset is not None
    try:
        table = read_queries(dataset_files(dataset.path, asked.settings.store), dataset)
    except ManifestError as e:
        raise ConfigError(f"data.validation: {e}") from None
    queries = []
    for row in table.table.to_pylist():
        text = row["complete_text"] if asked.settings.text == "complete" and row["complete_text"] else row["text"]
        queries.append(Query(row["query_id"], text, None, row["row_id"], None, tuple(row["relevant"] or ())))
    found, left_out = _resolved(queries, data, usable, refused)
    return found, dict(Counter(table.left_out) + Counter(left_out))


# --- a table, or drawn pictures ---------------------------------------------------------------------------------------


def _questions(
    asked: Asked, data: Dataset, usable: NDArray[np.bool_], refused: Refused
) -> tuple[list[Question], dict[str, int]]:
    if asked.place is not None:
        queries = read_own_queries(asked.place, asked.settings.store).queries
        return _resolved(queries, data, usable, refused)
    if asked.source.drawn is None:
        raise ConfigError(
            "pairs is missing: expected a table (text, row_id or image_url of the reference, target), DATASET:ROOT, or "
            f"data.manifest.format one of {', '.join(DATASET_FORMATS)}"
        )
    rows = np.flatnonzero(usable)
    shown = [parse_shown(text) for text in data.readable(rows, "label")]
    drawn = questions(zip(data.readable(rows, "item_id"), shown, strict=True))
    numbers = rows.tolist()
    found = [Question(numbers[one.reference], one.change.texts, tuple(numbers[i] for i in one.right)) for one in drawn]
    return found, {}


def _resolved(
    queries: list[Query], data: Dataset, usable: NDArray[np.bool_], refused: Refused
) -> tuple[list[Question], dict[str, int]]:
    """Questions whose pictures are rows of `data`, and how many are none, by reason."""
    by_id, by_url = (_row_numbers(data, column, usable) for column in ("row_id", "image_url"))
    left_out: Counter[str] = Counter()
    problems = refused([query.text or "" for query in queries])
    found = []
    for query, problem in zip(queries, problems, strict=True):
        reference = by_id.get(query.row_id) if query.row_id else by_url.get(query.image_url or "")
        names = [*(query.relevant or ()), *(v for c in TARGETS if (v := query.values.get(c)))]
        right = dict.fromkeys(by_id.get(name, by_url.get(name)) for name in names)
        rows = tuple(row for row in right if row is not None)
        if query.problem is not None or not query.text or problem is not None:
            left_out[(query.problem or problem or "it has no text").partition(":")[0]] += 1
        elif reference is None or not rows:
            left_out[f"its {'reference' if reference is None else 'target'} is not among the usable pictures"] += 1
        else:
            found.append(Question(reference, (query.text,), rows))
    return found, dict(left_out)
