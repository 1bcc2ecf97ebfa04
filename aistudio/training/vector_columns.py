"""Which column of a run holds vectors of a given image tower."""

from aistudio.config import load_model_config
from aistudio.config.train import TrainSettings
from aistudio.errors import ConfigError, WeightsError
from aistudio.models import check_weights
from aistudio.run_record import ModelFacts
from aistudio.runs import layout as run_layout
from aistudio.runs.record import recorded
from aistudio.schema import EMBEDDING, RANK_EMBEDDING, encoder_column
from aistudio.store import Store
from aistudio.training.sources import RunSource, Source


def vector_column(settings: TrainSettings, source: Source, tower: str | None) -> str:
    """Return the run's column that holds vectors of the image tower with the fingerprint `tower`.

    Raises:
        ConfigError: none can be shown to be, and data.vectors does not name one.
    """
    if settings.data.vectors:
        return settings.data.vectors
    assert isinstance(source, RunSource)
    record = recorded(source.store)
    models = record.config.get("models", {})
    candidates = [(EMBEDDING, "recall", models.get("recall")), (RANK_EMBEDDING, "ranking", models.get("ranking"))]
    candidates += [(encoder_column(n), f"encoders.{n}", conf) for n, conf in (models.get("encoders") or {}).items()]
    stored = _columns(source.store)
    tried = []
    for column, role, conf in candidates:
        if conf is None or column not in stored:
            continue
        problem = _differs(conf, record.models.get(role, ModelFacts()), tower)
        if problem is None:
            return column
        tried.append(f"{column}: {problem}")
    raise ConfigError(
        f"{source.name}: no stored vectors are known to come from the image tower that is trained on "
        f"({'; '.join(tried) or 'no vectors are stored'}). Score the catalogue with this tower, or, if you know that "
        "a column fits, name it in data.vectors"
    )


def _columns(store: Store) -> list[str]:
    return store.read_metadata(run_layout.score_keys(store)[0])[0].names


def _differs(conf: str, model: ModelFacts, tower: str | None) -> str | None:
    """Return why the run's model has another image tower than ours, or None."""
    try:
        info = check_weights(load_model_config(conf))
    except (ConfigError, WeightsError) as e:
        return f"its model {conf} cannot be looked at here ({str(e).splitlines()[0]})"
    if info.fingerprint != model.fingerprint:
        return f"{conf} is no longer the model of the run"
    if info.image_tower_fingerprint != tower:
        return f"{conf} has another image tower"
    return None
