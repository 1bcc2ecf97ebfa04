"""Settings: frozen, validated, and the only reader of YAML.

`load_config` reads one job file plus `--set section.key=value` overrides, `load_model_config` one
conf/models/*.yaml. Every mistake is a ConfigError that names the file, the key and what would be right.
Sizes and times carry their unit in the name. Settings hold values only; nothing here touches the
network, a model or a data path.
"""

import copy
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from aistudio.errors import ConfigError


class Settings(BaseModel):
    """Base of all settings: immutable, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


DatasetFormat = Literal["mitstates", "fashion200k", "fashioniq"]  # of composed retrieval; `path` is the root folder
Resize = Literal[
    "opencv_bilinear", "pil_bicubic_center_crop", "pil_bilinear_center_crop", "pil_bicubic", "pil_bilinear"
]


class ManifestSettings(Settings):
    """Where the catalogue is and how its columns are named."""

    path: str | list[str]  # file, glob, directory; local, s3:// or http(s)://
    # fmt: off
    format: Literal[
        "poi_recall", "ranking_pairs", "csv", "tsv", "jsonl", "parquet", "folder",
        "mitstates", "fashion200k", "fashioniq",  # as DatasetFormat
    ]
    # fmt: on
    columns: dict[str, str] = {}  # candidate column -> name in the manifest
    passthrough: list[str] | Literal["all"] = "all"  # manifest columns to keep beside the scores
    encoding: str = "utf-8"
    limit: int | None = Field(None, ge=1)  # score only the first N rows
    split: Literal["train", "val", "test"] | None = None  # of a data set; null: the one it is judged on
    categories: list[str] | None = None  # of a data set; null: all

    @model_serializer(mode="wrap")
    def _without_unset(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `split` and `categories` out where they are not set: runs recorded before they existed stay equal."""
        data: dict[str, Any] = dump(self)
        return {key: value for key, value in data.items() if key not in ("split", "categories") or value is not None}


class ModelsSettings(Settings):
    """conf/models/*.yaml of each stage; ranking may be null."""

    recall: str
    ranking: str | None = None
    poi_table: str | None = None  # Parquet made by jobs.poi_table; null: POIs have no vectors


class DownloadSettings(Settings):
    """HTTP, S3 and file fetching. Times in seconds, sizes in bytes."""

    connect_timeout_s: float = Field(5.0, gt=0)
    read_timeout_s: float = Field(10.0, gt=0)  # longest silence between two chunks
    timeout_s: float = Field(20.0, gt=0)  # one try, all of it
    retries: int = Field(3, ge=0)  # further tries after a time-out, lost connection, 429 or 5xx
    backoff_s: float = Field(0.5, ge=0)  # first wait; doubled each time, with jitter
    backoff_max_s: float = Field(10.0, ge=0)  # also the longest Retry-After that is honoured
    max_redirects: int = Field(5, ge=0)
    max_bytes: int = Field(20_000_000, ge=1)  # on the wire and after decompression
    concurrency: int = Field(64, ge=1)  # requests in flight per worker
    per_host_concurrency: int = Field(32, ge=1)  # of those, to one host
    user_agent: str = "aistudio/0.1"
    headers: dict[str, str] = {}
    trust_env_proxy: bool = True  # HTTP_PROXY, HTTPS_PROXY, NO_PROXY
    allow_private_addresses: bool = False  # loopback, link-local and private ranges
    url_map: dict[str, str] = {}  # prefix -> replacement, longest prefix first; http(s)://, s3://, file://


class ImagesSettings(Settings):
    """Decoding."""

    apply_exif_orientation: bool = False  # the published weights were trained without it
    max_pixels: int = Field(100_000_000, ge=1)  # width x height, checked before decoding
    thumbnail_px: int = Field(160, ge=0, le=1024)  # longer side; 0: none stored
    decode: Literal["exact", "fast"] = "exact"  # fast: DCT-scaled JPEG, see docs/performance.md
    decode_timeout_s: float = Field(20.0, gt=0)  # one image; a decoder that hangs is a failed row


class StoreSettings(Settings):
    """S3 access for everything in the run folder; credentials come from the ordinary chain, never from here."""

    endpoint_url: str | None = None  # MinIO and other compatible stores
    region: str | None = None
    retries: int = Field(8, ge=0)
    timeout_s: float = Field(30.0, gt=0)
    embedding_dtype: Literal["float32", "float16"] = "float32"


class EngineSettings(Settings):
    """How the work is cut and spread. `auto` is planned from the cluster's resources."""

    shard_rows: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"  # rows per score file: unit of commit and resume
    batch_size: int | Literal["auto"] = "auto"  # images per forward pass; auto: 16 on a CPU, found by trying on a GPU
    plan: Literal["auto", "fused", "staged"] = "auto"  # fused: CPU; staged: pixels go to GPU actors
    num_actors: int | Literal["auto"] = "auto"  # model actors
    shards_in_flight: int = Field(3, ge=1)  # per actor: hides one shard's slow downloads behind another's compute
    device: Literal["auto", "cpu", "cuda"] = "auto"  # of the models; auto: cuda when the actors are given GPUs
    num_gpus_per_actor: float = Field(1.0, gt=0)
    num_fetchers: int | Literal["auto"] = "auto"  # download + decode actors of the staged plan
    decode_threads: int = Field(2, ge=1)  # per fetcher; model actors with one core decode between their batches
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    compile: bool = False
    address: str | None = None  # Ray cluster; null: RAY_ADDRESS, else a local one is started
    schedule_timeout_s: float = Field(30.0, gt=0)  # wait for room on a busy cluster
    scale_up_timeout_s: float = Field(900.0, gt=0)  # the same where nodes can be added
    max_cpus: float | None = Field(None, ge=0)  # of a cluster that can grow; null: what its autoscaler says
    max_gpus: float | None = Field(None, ge=0)
    weights_cache: str | None = None  # folder on each node; null: $AISTUDIO_CACHE/weights, ~/.cache/aistudio/weights

    @field_validator("weights_cache")
    @classmethod
    def _cache_absolute(cls, folder: str | None) -> str | None:
        if folder is not None and not folder.startswith(("/", "~")):
            raise ValueError("expected an absolute path or one that begins with ~: each node has a folder of its own")
        return folder


class MetricsSettings(Settings):
    """What `aggregate` computes."""

    query: Literal["text", "image"] = "text"  # an item's text, or each ok image against all others
    max_queries: int | None = Field(None, ge=1)  # of more, a sample by the seed; images as queries: rows squared
    k: list[int] = [1, 5, 10]
    bootstrap_samples: int = Field(1000, ge=0)
    seed: int = 0
    confidence: float = Field(0.95, gt=0, lt=1)
    no_relevant: Literal["skip", "zero", "error"] = "skip"
    qrels: str | None = None  # Parquet or TSV: query, row_id, relevance; null: same item_id is relevant
    slices: list[str] = []  # columns of the scores to slice by
    min_slice_size: int = Field(20, ge=1)
    block_rows: int = Field(32_768, ge=1)  # gallery rows read and searched at once

    @field_validator("k")
    @classmethod
    def _k_positive(cls, k: list[int]) -> list[int]:
        if not k or any(x < 1 for x in k):
            raise ValueError("needs at least one K, each 1 or more")
        return sorted(set(k))


class SelectSettings(Settings):
    """Two-stage selection: recall gate, ranking order, near-duplicates out."""

    num_images: int = Field(3, ge=1)  # per item
    recall_threshold: float | None = None  # smallest recall_score that passes
    recall_top_m: int | None = Field(None, ge=1)  # of an item's images, so many reach the ranking
    duplicate_cosine: float | None = Field(0.97, gt=-1, le=1)  # more alike than this: duplicates; null: same bytes only


class ReportSettings(Settings):
    """How the report looks; nothing here changes a number."""

    title: str | None = None
    price_per_hour: float | None = Field(None, ge=0)  # of the machine or cluster, any currency
    queries_per_page: int = Field(50, ge=1)
    images_per_query: int = Field(12, ge=1)
    max_queries: int = Field(1000, ge=1)  # with pictures; of more, the worst, the best and a sample between
    map_images: int = Field(20_000, ge=0)  # on the embedding map; 0: no map
    paper: dict[str, float] = {}  # metric -> number the paper reports, shown beside ours


class JobConfig(Settings):
    """One job file."""

    manifest: ManifestSettings
    output: str
    models: ModelsSettings
    download: DownloadSettings = DownloadSettings()
    images: ImagesSettings = ImagesSettings()
    store: StoreSettings = StoreSettings()
    engine: EngineSettings = EngineSettings()
    metrics: MetricsSettings = MetricsSettings()
    select: SelectSettings = SelectSettings()
    report: ReportSettings = ReportSettings()
    start_over: bool = False  # together with --yes: empties a run folder made with other settings


class ImageSpec(Settings):
    """Pixels that a model was trained on: a property of its weights."""

    size: int = Field(224, ge=8)
    resize: Resize = "opencv_bilinear"
    resize_shortest: int | None = None  # for *_center_crop; null: the size itself
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


class WeightsFile(Settings):
    """One file that a model needs: where it is looked for first, and where it comes from when it is not there."""

    path: str  # its folder and name are those that the model asks for
    url: str | None = None  # http(s):// or s3://; every node without the file fetches it once (docs/cluster.md)
    size_bytes: int | None = None
    sha256: str | None = Field(None, pattern=r"^[0-9a-fA-F]{64}$")  # null: what the driver finds holds for all nodes
    licence: str | None = None

    @field_validator("url")
    @classmethod
    def _url_scheme(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("https://", "http://", "s3://")):
            raise ValueError("expected an address that begins with https://, http:// or s3://")
        return url


class ModelConfig(Settings):
    """One conf/models/*.yaml. `family` is the name of a file in aistudio/models/."""

    family: str
    name: str
    weights: WeightsFile
    tokenizer: str | None = None  # folder with vocab.txt (BERT) or a Hugging Face folder
    image: ImageSpec = ImageSpec()
    arch: dict[str, Any] = {}  # sizes; each family validates its own
    extra_files: dict[str, WeightsFile] = {}
    towers: dict[str, "ModelConfig"] = {}  # other models that this one is built on; a conf file's name in YAML
    licence: str | None = None
    notes: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _weights_of_a_tower(cls, data: Any) -> Any:
        """A model without weights of its own (a weighted sum, say) names those of its first tower."""
        if isinstance(data, dict) and "weights" not in data and isinstance(data.get("towers"), dict):
            first = next(iter(data["towers"].values()), None)
            weights = first.get("weights") if isinstance(first, dict) else getattr(first, "weights", None)
            return data if weights is None else {**data, "weights": weights}
        return data

    @property
    def files(self) -> tuple[WeightsFile, ...]:
        """Every file that is named here, those of the towers included."""
        own = (self.weights, *self.extra_files.values())
        return (*own, *(file for tower in self.towers.values() for file in tower.files))


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> JobConfig:
    """The job's settings from a YAML file and `section.key=value` overrides.

    Raises:
        ConfigError: file missing or not YAML, unknown or invalid setting; names file and key.
    """
    data = _read_yaml(Path(path))
    for item in overrides:
        _apply_override(data, item)
    return parse_config(data, str(path))


def parse_config(data: dict[str, Any], source: str, overrides: Sequence[str] = ()) -> JobConfig:
    """Validate a mapping (such as the config that a run recorded), overridden; `source` is the name in messages."""
    data = copy.deepcopy(data)
    for item in overrides:
        _apply_override(data, item)
    return _validate(JobConfig, data, source)


def load_model_config(path: str | Path) -> ModelConfig:
    """Settings of one model; `towers` may name other conf files. Raises ConfigError as `load_config` does."""
    data = _read_yaml(Path(path))
    towers = data.get("towers")
    if isinstance(towers, dict):
        data["towers"] = {key: _tower(value, f"{path}: towers.{key}") for key, value in towers.items()}
    return _validate(ModelConfig, data, str(path))


def _tower(value: Any, source: str) -> Any:
    """The settings of a tower. Raises ConfigError where it has towers of its own, which could name each other."""
    data = _read_yaml(Path(value)) if isinstance(value, str) else value
    if isinstance(data, dict) and data.get("towers"):
        raise ConfigError(f"{source}: {value} has towers of its own; a tower must be a model that stands alone")
    return data


T = TypeVar("T", bound=Settings)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.yaml")], n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise ConfigError(f"{path}: no such conf file{hint}") from None
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: cannot be read: {e}") from None
    except yaml.YAMLError as e:
        raise ConfigError(f"{path}: not valid YAML: {e}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected settings as 'key: value', found {type(data).__name__}")
    return data


def _apply_override(data: dict[str, Any], item: str) -> None:
    key, eq, value = item.partition("=")
    if not eq or not key:
        raise ConfigError(f"--set {item}: expected section.key=value")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as e:
        raise ConfigError(f"--set {item}: the value is not valid YAML: {e}") from None
    *parents, last = key.split(".")
    node: Any = data
    for part in parents:
        node = node.setdefault(part, {}) if isinstance(node, dict) else None
    if not isinstance(node, dict):
        raise ConfigError(f"--set {item}: {'.'.join(parents)} is a value, not a section")
    node[last] = parsed


def _validate(model: type[T], data: dict[str, Any], source: str) -> T:
    try:
        return model.model_validate(data)
    except ValidationError as e:
        raise ConfigError("\n".join(_explain(model, err, source) for err in e.errors())) from None


def _explain(model: type[Settings], err: Any, source: str) -> str:
    loc = [str(x) for x in err["loc"]]
    key = ".".join(loc)
    if err["type"] == "extra_forbidden":
        fields = _fields_at(model, loc[:-1])
        near = difflib.get_close_matches(loc[-1], fields, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(fields)}"
        return f"{source}: {key} is not a setting; {hint}"
    if err["type"] == "missing":
        return f"{source}: {key} is missing"
    return f"{source}: {key}: {err['msg'].removeprefix('Value error, ')} (found {err.get('input')!r})"


def _fields_at(model: type[Settings], loc: list[str]) -> list[str]:
    for part in loc:
        field = model.model_fields.get(part)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, Settings)):
            return []
        model = field.annotation
    return list(model.model_fields)
