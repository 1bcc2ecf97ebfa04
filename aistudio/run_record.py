"""Defines what run.json holds, as frozen types. No I/O: runs/record.py reads and writes it.

A key that this version does not know is kept, so what another version stored survives being read and written again.
null stands for a key that is absent. Everything has a default: a run that stopped half-way recorded little.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

FORMAT_VERSION = 2  # a run.json without `format_version` has format 1: runs/migrations.py brings it to this one

Number = int | float  # as it was stored: an integer stays one
State = Literal["unknown", "running", "complete", "incomplete", "stopped", "failed"]
Kind = Literal["score", "retry"]


class Part(BaseModel):
    """A part of run.json."""

    model_config = ConfigDict(frozen=True, extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        needs_value = {name for name, field in cls.model_fields.items() if field.default is not None}
        return {k: v for k, v in data.items() if v is not None or k not in needs_value}

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data for JSON: what was given, without defaults, in the order of the fields."""
        return self.model_dump(mode="json", exclude_unset=True)


class ModelFacts(Part):
    """One of the run's models. Addresses stay out: they may carry keys."""

    conf: str | None = None  # path of its YAML
    name: str | None = None
    family: str | None = None
    fingerprint: str | None = None
    normalised: bool = True  # its vectors are unit rows as they are stored
    files: dict[str, str] = {}  # path -> sha256
    image_tower: str | None = None  # of a ranking model: "own" or "shared"
    image_tower_fingerprint: str | None = None  # equal where two models give the same vectors; None: not known
    pixels: dict[str, Any] | None = None  # that it wants: ImageSpec.identity


class RowTotals(Part):
    """Rows by where they are."""

    manifest: int | None = None  # candidate rows of the snapshot
    rejected: int | None = None
    stored: int | None = None
    read: dict[str, Any] | None = None  # what the manifest's lines became: catalogue.Reading as a mapping


class Timings(Part):
    """Seconds, rows and bytes of one attempt; `decode_s` and the other steps are sums over actors and threads."""

    wall_s: Number | None = None
    first_row_s: Number | None = None
    startup_s: Number | None = None  # to the first finished rows
    steady_s: Number | None = None  # between the first finished rows and the last
    num_rows: int | None = None  # that the attempt gave an outcome
    images_per_s: Number | None = None  # of the steady work; None: too little of it
    num_bytes: int = 0  # of images downloaded, or found in the byte cache (download.cache)
    cache_hit: int = 0  # images that the byte cache had, without a request
    cache_same: int = 0  # that it had, and the server said so
    cache_miss: int = 0  # that were fetched, and are kept now
    cache_failed: int = 0  # that were fetched, or confirmed, and could not be kept
    decode_s: Number = 0
    model_s: Number = 0
    wait_s: Number = 0
    write_s: Number = 0

    def steps(self) -> dict[str, float]:
        """Return the seconds of each step, without the `_s`: decode, model, wait, write."""
        clocks = ("wall_s", "first_row_s", "startup_s", "steady_s", "images_per_s", "rows_per_s")
        found = {k: v for k, v in self.model_dump().items() if k.endswith("_s") and k not in clocks}
        return {k.removesuffix("_s"): float(v) for k, v in found.items() if isinstance(v, int | float)}


class Work(Part):
    """What one attempt did."""

    attempt: int | None = None
    kind: Kind = "score"
    rows: int | None = None
    timings: Timings = Timings()


class SilentHost(Part):
    """The one host that did not answer, and kept the run waiting."""

    host: str
    rows: int


class Sources(Part):
    """Where the images came from, by a sample of rows."""

    looked_at: int = 0
    kinds: dict[str, int] = {}  # http, file, s3, other -> rows
    silent_host: SilentHost | None = None


class TextFacts(Part):
    """What a sample of the texts says of them all."""

    looked_at: int = 0
    without_text: int = 0
    unknown_share: Number | None = None  # of tokens that the model does not know
    warning: str | None = None


class PlanFacts(Part):
    """How the work was laid out: pipeline.plan.Plan as it is stored."""

    kind: str | None = None
    device: str | None = None
    num_actors: int | None = None
    cpus_per_actor: Number = 0
    gpus_per_actor: Number = 0
    num_fetchers: int = 0
    torch_threads: int | None = None
    batch_size: int | None = None
    shards_in_flight: int | None = None
    min_actors: int | None = None
    min_fetchers: int | None = None
    cpus_per_fetcher: Number = 0


class DeltaFacts(Part):
    """What a run took from its base."""

    base: str | None = None  # where it lay
    fingerprint: str | None = None  # of the base
    trust: str | None = None  # url, validators or content
    pictures: str | None = None  # why no picture's results were taken; None: they were
    matched: int | None = None  # rows whose address the base has scored
    gone: int | None = None  # rows of the base that this run's manifest does not have
    unread: int | None = None  # score files of the base that cannot be read
    join_s: Number | None = None  # seconds of the join; None: an earlier attempt made it


class DuplicateFacts(Part):
    """How often the manifest names an address, where the rows of one were put together (engine.deduplicate: run)."""

    addresses: int | None = None  # different ones: as many pictures are fetched and encoded
    frequent: int | None = None  # of these, on more rows than a shard holds
    order_s: Number | None = None  # seconds that putting them together took


class Host(Part):
    """The machine of the driver."""

    name: str | None = None
    platform: str | None = None
    python: str | None = None
    cpus: int | None = None


class RunRecord(Part):
    """run.json: what a run was made from, and how its last attempt ended."""

    format_version: int = FORMAT_VERSION
    state: State = "unknown"
    started_at: str | None = None  # UTC, ISO 8601
    finished_at: str | None = None
    error: str | None = None
    command: tuple[str, ...] = ()
    config: dict[str, Any] = {}  # the job's settings without secrets, as the version that made the run knew them
    shape: dict[str, Any] = {}  # what decides rows and scores (runs/shape.py); compared, never looked into
    fingerprint: str = ""  # sha256 of the shape; every score file carries it
    models: dict[str, ModelFacts] = {}  # by role: recall, ranking, encoders.<name>
    versions: dict[str, str] = {}
    host: Host = Host()
    attempt: int = 0
    plan: PlanFacts = PlanFacts()
    texts: TextFacts = TextFacts()
    work: tuple[Work, ...] = ()  # by all attempts, in order
    facts: dict[str, str] = {}  # that the actors found out
    timings: Timings = Timings()  # of the last attempt at scoring; a retry leaves them
    timeline: tuple[tuple[Number, ...], ...] = ()  # seconds, rows done, rows ok
    rows: RowTotals = RowTotals()
    counts: dict[str, int] = {}  # stored rows by status
    duplicates: DuplicateFacts = DuplicateFacts()
    delta: DeltaFacts = DeltaFacts()
    reused: dict[str, int] = {}  # stored rows by schema.Reused; {}: the run has no such column
    crops: dict[str, dict[str, int]] = {}  # column of boxes -> how it was cropped (schema.Crop) -> ok rows
    sources: Sources = Sources()

    @model_validator(mode="before")
    @classmethod
    def _null_model_is_absent(cls, data: object) -> object:
        if not isinstance(data, dict) or not isinstance(data.get("models"), dict):
            return data
        return data | {"models": {role: model for role, model in data["models"].items() if model is not None}}

    @property
    def manifest_identity(self) -> dict[str, Any]:
        """The part of the shape that says which manifest the run was made from; empty where it is not recorded."""
        found = self.shape.get("manifest")
        return found if isinstance(found, dict) else {}

    def setting(self, section: str, key: str) -> Any:
        """Return a recorded setting, None where it is not recorded."""
        found = self.config.get(section)
        return found.get(key) if isinstance(found, dict) else None
