"""Which stored vectors a job works on: the recall model's, or those of an encoder by name."""

from dataclasses import dataclass

from aistudio.errors import ConfigError
from aistudio.runs import layout
from aistudio.runs.record import recorded
from aistudio.schema import EMBEDDING, ENCODER_PREFIX, encoder_column
from aistudio.store import Store


@dataclass(frozen=True)
class VectorColumn:
    """A stored column of image vectors."""

    name: str = EMBEDDING
    normalised: bool = True  # unit rows as they are stored; otherwise readers divide by the norms


RECALL_VECTORS = VectorColumn()


def vector_column(store: Store, encoder: str | None, setting: str) -> VectorColumn:
    """Return the column of `encoder`, or of the recall model for None.

    Args:
        setting: that names the encoder, for messages: `metrics.encoder`.

    Raises:
        ConfigError: the run has no such vectors; names those that it has.
    """
    keys = layout.score_keys(store)
    stored = store.read_metadata(keys[0])[0].names if keys else [EMBEDDING]
    wanted = EMBEDDING if encoder is None else encoder_column(encoder)
    if wanted in stored:
        model = recorded(store).models.get(f"encoders.{encoder}")
        return VectorColumn(wanted, model.normalised if model else True)
    known = [name.removeprefix(ENCODER_PREFIX) for name in stored if name.startswith(ENCODER_PREFIX)]
    if encoder is None and known:
        raise ConfigError(f"{store.root} has no recall model: choose an encoder with --set {setting}={known[0]}")
    has = f"its encoders: {', '.join(known)}" if known else "it has no encoders"
    raise ConfigError(f"{setting}: {store.root} has no vectors of {encoder or 'a recall model'}; {has}")
