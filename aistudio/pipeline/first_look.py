"""A look at some rows before and after the work: their addresses, and what the tokenizer knows of their texts."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from aistudio.config import EngineSettings
from aistudio.errors import AIStudioError
from aistudio.images.addresses import Look, look_at
from aistudio.pipeline.sample import take_sample
from aistudio.run_record import TextFacts
from aistudio.runs import layout
from aistudio.runs.own_columns import number_columns
from aistudio.runs.snapshot import Snapshot, copies_pictures
from aistudio.schema import has_text
from aistudio.scoring.pinned_models import PinnedModel, open_pinned_tokenizer
from aistudio.store import Store

if TYPE_CHECKING:
    from aistudio.config import JobConfig
    from aistudio.pipeline.score import Prepared

ROWS = 500  # looked at
SHARDS = 10  # of a run, that they are taken from
# Above, the text's vector is made from what little is left. Texts in a tokenizer's own language have less than 0.02;
# catalogue texts with many model numbers up to 0.1; texts in another script than the vocabulary's nearly 1.
UNKNOWN_LIMIT = 0.3
_KINDS = {
    "http": "http(s)", "file": "local files", "s3": "s3", "gs": "gs", "az": "az", "hf": "the hub",
    "other": "no address",
}  # fmt: skip


class Texts(NamedTuple):
    """What is known of some rows' texts."""

    rows: int
    without_text: int
    unknown_share: float | None  # of their tokens; None: no text, or the tokenizer cannot tell
    example: str  # the text of which least is known

    @property
    def warning(self) -> str | None:
        """Say that the model hardly knows these texts, None where it does."""
        if self.unknown_share is None or self.unknown_share <= UNKNOWN_LIMIT:
            return None
        return (
            f"the recall model's tokenizer does not know {self.unknown_share:.0%} of the tokens of these texts, e.g. "
            f"{self.example[:60]!r}: text scores mean next to nothing; use a model of the texts' language"
        )


def look_at_texts(texts: Sequence[str], model: PinnedModel | None, config: "JobConfig") -> Texts:
    """Count texts that say nothing, and tokens that the model's tokenizer does not know in the others."""
    says = has_text(pa.array(texts, pa.string())).to_pylist()
    distinct = list(dict.fromkeys(text for text, yes in zip(texts, says, strict=True) if yes))
    without = len(texts) - sum(says)
    tokenizer = open_pinned_tokenizer(model, config) if distinct and model is not None else None
    if tokenizer is None:
        return Texts(len(texts), without, None, "")
    try:
        counts = tokenizer.unknown_tokens(distinct)
    except Exception:  # noqa: BLE001 - a look must never end a run; a text that breaks the tokenizer is a failed row
        return Texts(len(texts), without, None, "")
    unknown, known = sum(u for u, _ in counts), sum(n for _, n in counts)
    if not known:
        return Texts(len(texts), without, 1.0, distinct[0])  # nothing of them is left at all
    worst = max(range(len(distinct)), key=lambda i: (counts[i][0], -i))
    return Texts(len(texts), without, round(unknown / known, 4), distinct[worst])


def text_facts(store: Store, snapshot: Snapshot, model: PinnedModel | None, config: "JobConfig") -> TextFacts:
    """Look at the texts of some rows of shards all over the manifest."""
    places = np.unique(np.linspace(0, len(snapshot.shards) - 1, min(SHARDS, len(snapshot.shards))).astype(int))
    texts: list[str] = []
    for i in places:
        column = store.read_table(layout.manifest_key(snapshot.shards[i].name), ["text"])["text"]
        texts += column.slice(0, ROWS // len(places)).to_pylist()
    found = look_at_texts(texts, model, config)
    return TextFacts(
        looked_at=found.rows,
        without_text=found.without_text,
        unknown_share=found.unknown_share,
        warning=found.warning,
    )


def dry_run_lines(prepared: "Prepared") -> Iterator[str]:
    """Return a dry run's lines about the first rows: kinds of addresses, those that would fail and why, their texts."""
    config, columns = prepared.config, prepared.columns
    copied = columns is not None and copies_pictures(config, prepared.files, columns)
    try:
        rows = take_sample(prepared, ROWS, look=copied).rows
    except AIStudioError as e:
        yield f"  warning     no row could be looked at: {e}"
        return
    if copied:
        yield f"  pictures    are in the manifest itself; the run copies them to {layout.MANIFEST_PICTURES} first"
    else:
        yield from _about_addresses(rows, config)
    yield from _about_texts(rows, prepared)


def _about_addresses(rows: pa.Table, config: "JobConfig") -> Iterator[str]:
    requests = list(zip(rows["image_url"].to_pylist(), rows["fallback_url"].to_pylist(), strict=True))
    yield from _address_lines(look_at(requests, config.download), config.engine)


def _about_texts(rows: pa.Table, prepared: "Prepared") -> Iterator[str]:
    texts = look_at_texts(rows["text"].to_pylist(), prepared.pinned.recall, prepared.config)
    if texts.without_text:
        share = "none" if texts.without_text == texts.rows else f"{texts.rows - texts.without_text:,}"
        yield (
            f"  texts       {share} of {texts.rows:,} rows looked at have a text; rows without one get no "
            "recall_score and are no query"
        )
    if texts.warning:
        yield f"  warning     {texts.warning}"
    if numbers := number_columns(rows):
        yield f"  numbers     {', '.join(numbers)}: in every row looked at; so they are in results if all values are"


def _address_lines(look: Look, engine: EngineSettings) -> Iterator[str]:
    kinds = ", ".join(f"{n:,} {_KINDS[kind]}" for kind, n in look.kinds.items())
    hosts = f", {len(look.hosts):,} host{'s' if len(look.hosts) != 1 else ''}" if look.hosts else ""
    yield f"  addresses   {look.rows:,} row{'s' if look.rows != 1 else ''} looked at: {kinds}{hosts}"
    for problem in look.problems[:5]:
        yield f"  warning     {problem.rows:,} of {look.rows:,} would fail with {problem.status}: {problem.reason}"
        yield f"              e.g. {problem.example}"
    if len(look.problems) > 5:
        rest = look.problems[5:]
        yield f"  warning     {len(rest):,} further reasons, {sum(p.rows for p in rest):,} rows"
    limit = engine.max_failed_share
    if limit is not None and look.failing > limit * look.rows:
        yield (
            f"  warning     that is more than engine.max_failed_share ({limit:g}): the run would end with exit code 3"
        )
    if look.note:
        yield f"  note        {look.note}"
