"""From a composer's settings to a checked, loaded one: files, vocabulary, towers, keys and shapes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from aistudio.config import ModelConfig
from aistudio.errors import ConfigError, WeightsError
from aistudio.models import ImageEncoder, Kind, check_weights, kind, load_model
from aistudio.models._checkpoint import fit, load_into, read_weights, save_weights
from aistudio.models._composer import ImageSide, LoadedComposer
from aistudio.models._composer_parts import ComposerArch, ComposerModel
from aistudio.models._composer_stages import TRUNK, load_stages, require_width
from aistudio.models._composer_texts import BertSide, LstmSide, TextSide, TowerSide
from aistudio.models._encode import ImageRunner, LoadOptions
from aistudio.models._hub import WANTED
from aistudio.models._opening import tensors_fingerprint
from aistudio.models._settings import parse_arch
from aistudio.models._skeleton import without_numbers
from aistudio.models._words import Vocabulary, read_vocabulary
from aistudio.weights.files import WeightsInfo, file_sha256, model_fingerprint, require_file

VOCABULARY = "vocabulary"  # the extra file that gives the words where the weights file does not
EMBEDDING = "text_model.embedding_layer.weight"


class Build(Protocol):
    """A family's model class."""

    def __call__(self, arch: ComposerArch, num_words: int | None, own_images: bool = True) -> ComposerModel: ...


@dataclass(frozen=True)
class OpenedComposer:
    """A checked composer: its tensors, its vocabulary, and what was found about it and its towers."""

    cfg: ModelConfig
    arch: ComposerArch
    info: WeightsInfo
    tensors: Mapping[str, torch.Tensor]
    vocabulary: Vocabulary | None
    build: Build

    def model(self) -> ComposerModel:
        """The model in eval mode with the file's numbers, float32, on the CPU; it can be trained."""
        model = self.build(self.arch, num_words(self.vocabulary), "image" not in self.cfg.towers)
        load_into(model, self.tensors, {name: name for name in self.tensors}, self.cfg.weights.path)
        return model.eval()


def open_composer(cfg: ModelConfig, build: Build) -> OpenedComposer:
    """Check files, towers, vocabulary, keys and shapes; no tower is built.

    Raises:
        ConfigError: an invalid size; a tower is named and not wanted, or wanted and not named.
        WeightsError: a file is missing or not what it should be.
    """
    arch = parse_arch(ComposerArch, cfg)
    towers = check_arch_towers(cfg, arch)
    files = own_files(cfg) | (bert_files(cfg) if arch.text == "bert" else {})
    state, words = read_weights(cfg.weights.path)
    vocabulary = _vocabulary(cfg, words, state) if arch.text == "lstm" else None
    with without_numbers():
        skeleton = build(arch, num_words(vocabulary), "image" not in towers)
    shapes = {n: v.shape for n, v in skeleton.state_dict().items() if not n.endswith("num_batches_tracked")}
    foreign = (*(("img_model.",) if "image" in towers else ()), *(("text_model.",) if vocabulary is None else ()))
    tensors = fit({n: t for n, t in state.items() if not n.startswith(foreign)}, shapes, cfg.weights.path)
    without = {"text_dropout", "image_dropout"} | (set() if arch.stages else {"stages"})
    settings = arch.model_dump(mode="json", exclude=without) | {"vocabulary": vocabulary and vocabulary.words}
    info = composer_info(cfg, files, towers, settings, tensors)
    return OpenedComposer(cfg, arch, info, tensors, vocabulary, build)


def num_words(vocabulary: Vocabulary | None) -> int | None:
    """Rows of the embedding table; None: the text side is not the LSTM."""
    return None if vocabulary is None else len(vocabulary)


def check_arch_towers(cfg: ModelConfig, arch: ComposerArch) -> dict[str, WeightsInfo]:
    """The towers that a composer with these settings has. Raises ConfigError where they do not fit; WeightsError."""
    required = [*(["text"] if arch.text == "tower" else []), *([TRUNK] if arch.stages else [])]
    towers = check_towers(cfg, optional=() if arch.stages else ("image",), required=required)
    for key, width in (("image", arch.dim), ("text", arch.text_dim)):
        if key in towers and towers[key].dim != width:
            name = "dim" if key == "image" else "text_dim"
            raise ConfigError(f"{cfg.name}: towers.{key} is {towers[key].dim} wide, arch.{name} is {width}")
    if arch.stages:
        require_width(cfg, arch.stages)
    return towers


_GIVES_TEXTS = {"base", "text"}  # towers whose text side is used


def check_towers(
    cfg: ModelConfig, optional: Sequence[str] = (), required: Sequence[str] = ()
) -> dict[str, WeightsInfo]:
    """Check each model that `towers` names. Raises ConfigError, and WeightsError for their files."""
    missing, unknown = set(required) - set(cfg.towers), set(cfg.towers) - {*optional, *required}
    if missing:
        raise ConfigError(f"{cfg.name}: towers.{min(missing)} is missing; expected a conf file of conf/models")
    if unknown:
        known = ", ".join([*required, *optional]) or "none with these settings"
        raise ConfigError(f"{cfg.name}: towers.{min(unknown)} is not used; known: {known}")
    for key in _GIVES_TEXTS & cfg.towers.keys():
        if (found := kind(cfg.towers[key])) is not Kind.RECALL:
            raise ConfigError(f"{cfg.name}: towers.{key}: expected a {Kind.RECALL}, whose texts count; found a {found}")
    return {key: check_weights(tower) for key, tower in cfg.towers.items()}


def own_files(cfg: ModelConfig) -> dict[str, str]:
    """path -> sha256 of the composer's own files; those of its towers are theirs to check."""
    own = (cfg.weights, *cfg.extra_files.values())
    return {str(Path(file.path)): require_file(file, cfg.name) for file in own}


def bert_files(cfg: ModelConfig) -> dict[str, str]:
    """path -> sha256 of what lies in the BERT's folder, which `tokenizer` names."""
    if cfg.tokenizer is None or not Path(cfg.tokenizer).is_dir():
        raise ConfigError(
            f"{cfg.name}: tokenizer is {cfg.tokenizer or 'not set'}; with arch.text: bert, expected the folder of a "
            "BERT as transformers saves it"
        )
    return {str(p): file_sha256(p) for pattern in WANTED for p in sorted(Path(cfg.tokenizer).glob(pattern))}


def _vocabulary(cfg: ModelConfig, inside: list[str] | None, state: Mapping[str, torch.Tensor]) -> Vocabulary:
    """The words of the weights file or of the file beside it. Raises WeightsError when there are none, or two kinds."""
    beside = cfg.extra_files.get(VOCABULARY)
    words = inside if beside is None else read_vocabulary(beside.path)
    if words is None:
        raise WeightsError(
            f"{cfg.weights.path}: holds no vocabulary, and without it the text encoder's word ids mean nothing; give "
            f"the words in the order of their ids as extra_files: {{{VOCABULARY}: {{path: ...}}}}, one per line"
        )
    source = cfg.weights.path if beside is None else beside.path
    if inside is not None and inside != words:
        raise WeightsError(f"{source}: another vocabulary than the one inside {cfg.weights.path}")
    table = state.get(EMBEDDING)
    if table is not None and table.ndim == 2 and len(table) != len(words):
        raise WeightsError(f"{source}: {len(words)} words, but {cfg.weights.path} has {len(table)} word embeddings")
    return Vocabulary(words, source)


def composer_info(
    cfg: ModelConfig,
    files: dict[str, str],
    towers: Mapping[str, WeightsInfo],
    settings: dict[str, Any],
    tensors: Mapping[str, torch.Tensor],
) -> WeightsInfo:
    """Summarise a check; `settings` are those that decide the numbers, "dim" among them."""
    image, trunk = towers.get("image") or towers.get("base"), towers.get(TRUNK)
    own = {name: value for name, value in tensors.items() if name.startswith("img_model.")}
    spec = (image or trunk).image_spec if image or trunk else cfg.image  # type: ignore[union-attr]
    use = {"arch": "resnet18", "dim": settings["dim"], "image": spec.identity()}
    if trunk is not None:
        use |= {"arch": "stages", "trunk": trunk.image_tower_fingerprint}
    parts = settings | {"towers": {key: tower.fingerprint for key, tower in towers.items()}}
    return WeightsInfo(
        name=cfg.name,
        family=cfg.family,
        fingerprint=model_fingerprint(cfg.model_copy(update={"image": spec}), list(files.values()), parts),
        image_tower_fingerprint=image.image_tower_fingerprint if image else tensors_fingerprint(own, use),
        dim=settings["dim"],
        image_spec=spec,
        num_tensors=len(tensors),
        num_parameters=sum(t.numel() for t in tensors.values()),
        files=files | {path: digest for tower in towers.values() for path, digest in tower.files.items()},
        normalised=image.normalised if image else False,
    )


def load_tower(cfg: ModelConfig, options: LoadOptions) -> ImageEncoder:
    """Load the model of a tower's settings, to be run as the composer is."""
    return load_model(
        cfg,
        device=options.device,
        precision=options.precision,
        optimize=options.optimize,
        compile=options.compile,
        images_per_pass=options.images_per_pass,
    )


def tower_images(tower: ImageEncoder) -> ImageSide:
    """Return the image side of another model."""
    return ImageSide(tower.image_spec, tower.dim, tower.normalised, tower.image_tower_fingerprint, tower.encode_images)


def check_composer(cfg: ModelConfig, build: Build) -> WeightsInfo:
    """Check files, keys, shapes and vocabulary; nothing is built. Raises WeightsError or ConfigError."""
    return open_composer(cfg, build).info


def load_composer(cfg: ModelConfig, build: Build, options: LoadOptions) -> LoadedComposer:
    """Load a composer with its towers. Raises WeightsError or ConfigError."""
    opened = open_composer(cfg, build)
    model = opened.model()
    texts = _text_side(opened, model, options)
    if texts.dim != opened.arch.text_dim:
        raise WeightsError(f"{cfg.name}: text vectors are {texts.dim} wide, arch.text_dim is {opened.arch.text_dim}")
    images = _image_side(opened, model, options)
    for taken in ("img_model", "text_model"):
        if hasattr(model, taken):
            delattr(model, taken)  # taken over by its side
    return LoadedComposer(images, texts, model, opened.info.fingerprint, options)


def _image_side(opened: OpenedComposer, model: ComposerModel, options: LoadOptions) -> ImageSide:
    if "image" in opened.cfg.towers:
        return tower_images(load_tower(opened.cfg.towers["image"], options))
    if opened.arch.stages:
        trunk = opened.cfg.towers[TRUNK]
        encoder = load_stages(trunk, options, model.img_model)  # type: ignore[arg-type]
        return ImageSide(trunk.image, opened.arch.dim, False, opened.info.image_tower_fingerprint, encoder)
    encoder = ImageRunner(model.img_model, opened.cfg.image, opened.arch.dim, options, normalised=False)
    return ImageSide(opened.cfg.image, opened.arch.dim, False, opened.info.image_tower_fingerprint, encoder)


def _text_side(opened: OpenedComposer, model: ComposerModel, options: LoadOptions) -> TextSide:
    if opened.vocabulary is not None:
        return LstmSide(model.text_model, opened.vocabulary, options)
    if opened.arch.text == "bert":
        return BertSide(str(opened.cfg.tokenizer), options)
    return TowerSide(load_tower(opened.cfg.towers["text"], options))


def save_composer(model: ComposerModel, path: str | Path, words: Sequence[str] | None) -> None:
    """Write the model as `load_model` opens it: safetensors of the published names, the vocabulary inside.

    `words`: by id, for a model with an LSTM; None for one without.
    """
    tensors = {n: t for n, t in model.state_dict().items() if not n.endswith("num_batches_tracked")}
    save_weights(tensors, path, vocabulary=words)
