"""Which results of a base run hold for another run: decided by the fingerprints in both runs' run.json, nothing else.

Whether a row's picture is still the same one is another question (images/validators.py, scoring/base_rows.py). Where
one model's tower or the pixels differ, no vector is taken: the picture has to be fetched and decoded anyway.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from aistudio.run_record import ModelFacts, RunRecord
from aistudio.schema import EMBEDDING, RANK_EMBEDDING, crop_column, encoder_column


class Reuse(NamedTuple):
    """What may be taken of a base's row whose picture is the same. Picklable."""

    vectors: Mapping[str, str] = {}  # column of each model's vectors here -> in the base; {}: pictures are scored anew
    crops: Mapping[str, str] = {}  # column of boxes here -> in the base
    exact: bool = True  # the base stores vectors as they were computed, so scores can be made from them
    recall_score: bool = False  # holds where the text is the same, too
    rank_score: bool = False  # holds where text and POI names are the same, too
    texts: bool = False  # vectors of texts
    why_not: str | None = None  # vectors is {}


def find_reuse(
    base: RunRecord,
    base_columns: Collection[str],
    shape: Mapping[str, Any],
    models: Mapping[str, ModelFacts],
    *,
    compiled: bool = False,
) -> Reuse:
    """Compare a base with a run of the given shape and models.

    Args:
        base: its run.json, of any version.
        base_columns: of its score files.
        shape: as runs/shape.py makes it.
        models: of the run, by role.
        compiled: engine.compile of the run.
    """
    recall, rank = _same(base, models, "recall"), _same(base, models, "ranking")
    rank = rank and _poi_table(base.shape) == _poi_table(shape)
    found = Reuse(recall_score=recall, rank_score=rank, texts=recall)
    if why := _other_pixels(base, shape, models, compiled):
        return found._replace(why_not=why)
    vectors: dict[str, str] = {}
    crops: dict[str, str] = {}
    for role, model in models.items():
        twin = _twin(model, models, base)
        column = twin and _column_of(twin, base_columns)
        if twin is None or not column:
            return found._replace(why_not=f"{role}: the base has no vectors of this model's image tower")
        vectors[role_column(role)] = column
        if (boxes := crop_column(twin)) in base_columns:
            crops[crop_column(role)] = boxes
        elif _crops(model):
            return found._replace(why_not=f"{role}: the base does not say what was cropped")
    exact = base.shape.get("embedding_dtype") == "float32"
    unknown = [r for r, same in (("recall", recall), ("ranking", rank)) if r in models and not same]
    if not exact and unknown:
        return found._replace(why_not=f"the base stores rounded vectors, and {unknown[0]} is another model")
    return found._replace(vectors=vectors, crops=crops, exact=exact)


def role_column(role: str) -> str:
    """Return the name of a role's vectors: the column that they have where the role has its own."""
    own = {"recall": EMBEDDING, "ranking": RANK_EMBEDDING}
    return own.get(role) or encoder_column(role.removeprefix("encoders."))


def _column_of(role: str, columns: Collection[str]) -> str | None:
    """The base's column with a role's vectors; a ranking model on the recall model's tower has none of its own."""
    candidates = [role_column(role)] + ([EMBEDDING] if role == "ranking" else [])
    return next((name for name in candidates if name in columns), None)


def _twin(model: ModelFacts, models: Mapping[str, ModelFacts], base: RunRecord) -> str | None:
    """The base's role with a model's image tower, be it known by another of this run's models that shares it."""
    own = [model, *(other for other in models.values() if _same_tower(model, other))]
    return next((role for one in own for role, theirs in base.models.items() if _same_tower(one, theirs)), None)


def _same(base: RunRecord, models: Mapping[str, ModelFacts], role: str) -> bool:
    """Whether both runs have the same model in a role."""
    ours, theirs = models.get(role), base.models.get(role)
    return ours is not None and theirs is not None and _equal(ours.fingerprint, theirs.fingerprint)


def _same_tower(ours: ModelFacts, theirs: ModelFacts) -> bool:
    towers = _equal(ours.image_tower_fingerprint, theirs.image_tower_fingerprint)
    return _equal(ours.fingerprint, theirs.fingerprint) or (towers and _equal(ours.pixels, theirs.pixels))


def _equal(a: object, b: object) -> bool:
    """Whether two values are known and equal."""
    return bool(a) and a == b


def _crops(model: ModelFacts) -> bool:
    return bool((model.pixels or {}).get("crop", "none") != "none")


def _poi_table(shape: Mapping[str, Any]) -> object:
    models = shape.get("models")
    return models.get("poi_table") if isinstance(models, dict) else None


def _other_pixels(
    base: RunRecord, shape: Mapping[str, Any], models: Mapping[str, ModelFacts], compiled: bool
) -> str | None:
    """Say which setting gives all pictures other pixels or vectors, or thumbnails; None where none does."""
    for name in ("images", "precision"):
        if base.shape.get(name) != shape.get(name):
            return f"{name} differs: {base.shape.get(name)} in the base, {shape.get(name)} now"
    if bool(base.setting("engine", "compile")) != compiled:
        return "engine.compile differs"
    stored, wanted = base.shape.get("embedding_dtype"), shape.get("embedding_dtype")
    if stored not in ("float32", wanted):
        return f"the base stores vectors as {stored}"
    if shape.get("images", {}).get("decode") == "fast" and _formats(base.models) != _formats(models):
        return "images.decode: fast decodes for all models' pictures at once, and they want other sizes"
    return None


def _formats(models: Mapping[str, ModelFacts]) -> list[str]:
    """The pixel formats of some models, sorted; a model that does not say them stands for its own."""
    return sorted({str(m.pixels or m.fingerprint) for m in models.values()})
