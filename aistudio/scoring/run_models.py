"""The models of a stored run, as run.json records them, and their pinning for asking with them."""

from collections.abc import Sequence
from dataclasses import dataclass

from aistudio.config import JobConfig, ModelConfig, WeightsFile
from aistudio.errors import ConfigError
from aistudio.models import Kind, kind
from aistudio.run_record import ModelFacts
from aistudio.runs.record import recorded
from aistudio.schema import EMBEDDING, ENCODER_PREFIX
from aistudio.scoring.pinned_models import PinnedModel, pin_model
from aistudio.store import Store


@dataclass(frozen=True)
class RunModel:
    """A model whose vectors a run has stored."""

    name: str  # recall, or the encoder's
    role: str  # its key in run.json
    kind: Kind
    facts: ModelFacts

    @property
    def encoder(self) -> str | None:
        """The encoder's name, None for the recall model."""
        return None if self.role == "recall" else self.name


def run_models(store: Store, columns: Sequence[str]) -> list[RunModel]:
    """Return all models that have stored vectors, the recall model first. `columns`: those of the scores."""
    encoders = [c.removeprefix(ENCODER_PREFIX) for c in columns if c.startswith(ENCODER_PREFIX)]
    names = [*(["recall"] if EMBEDDING in columns else []), *encoders]
    models = recorded(store).models
    return [_model(models, name, "recall" if i == 0 and EMBEDDING in columns else f"encoders.{name}")
            for i, name in enumerate(names)]  # fmt: skip


def find_model(store: Store, columns: Sequence[str], wanted: str | None) -> RunModel:
    """Return the model of that name; None: the recall model, or the only encoder.

    Raises:
        ConfigError: no such model, or no recall model and several encoders; names those that there are.
    """
    models = recorded(store).models
    encoders = [c.removeprefix(ENCODER_PREFIX) for c in columns if c.startswith(ENCODER_PREFIX)]
    name = wanted
    if name is None and EMBEDDING not in columns:
        if len(encoders) != 1:
            raise ConfigError(
                f"{store.root} has no recall model: choose an encoder with --model {' | '.join(encoders)}"
            )
        name = encoders[0]
    role = "recall" if name in (None, "recall") and "recall" not in encoders else f"encoders.{name}"
    if role != "recall" and name not in encoders:
        known = ", ".join(encoders) or "none"
        raise ConfigError(f"--model {name}: {store.root} has no vectors of it; its encoders: {known}")
    return _model(models, name or "recall", role)


def _model(models: dict[str, ModelFacts], name: str, role: str) -> RunModel:
    facts = models.get(role) or ModelFacts()
    what = Kind.RECALL if role == "recall" else Kind.ENCODER
    if facts.family is not None:
        nothing = WeightsFile(path="-")
        what = kind(ModelConfig(family=facts.family, name=facts.name or role, weights=nothing))
    return RunModel(name, role, what, facts)


def pin_run_model(model: RunModel, config: JobConfig, root: str) -> PinnedModel:
    """Pin a run's model, to encode with it. `root`: the run's folder, for messages.

    Raises:
        ConfigError: run.json does not say which model it is, or its conf is another model's now. WeightsError.
    """
    conf = model.facts.conf
    if conf is None:
        raise ConfigError(f"{root}/run.json does not say which model {model.name} is: it cannot ask")
    pinned = pin_model(conf, config, f"models.{model.role}")
    if pinned.fingerprint != model.facts.fingerprint:
        raise ConfigError(
            f"{conf}: not the model that {root} was scored with (fingerprint {pinned.fingerprint}, "
            f"the run's {model.facts.fingerprint})"
        )
    return pinned
