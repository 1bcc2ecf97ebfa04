"""Settings of the section `engine`."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from aistudio.config.base import Settings


class EngineSettings(Settings):
    """How the work is cut and spread. `auto` is planned from the cluster's resources."""

    shard_rows: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"  # rows per score file: unit of commit and resume
    deduplicate: Literal["shard", "run"] = "shard"
    """Within what equal addresses are fetched and encoded once: `shard`, or `run`, which puts the rows of an address
    into one shard: for catalogues where many rows share pictures.
    """
    batch_size: int | Literal["auto"] = "auto"  # images per forward pass; auto: 16 on a CPU, found by trying on a GPU
    plan: Literal["auto", "fused", "staged"] = "auto"
    """`fused`: each worker downloads, decodes and encodes, for CPUs; `staged`: some fetch and decode, others hold the
    models, for GPUs.
    """
    num_actors: int | Literal["auto"] = "auto"
    """How many workers hold the models."""
    shards_in_flight: int = Field(3, ge=1)  # per actor: hides one shard's slow downloads behind another's compute
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"  # of the models; auto: cuda, else mps (a Mac's), else cpu
    num_gpus_per_actor: float = Field(1.0, gt=0)
    """Share of a GPU that each worker with models reserves; 0.5 puts two of them on one GPU."""
    num_fetchers: int | Literal["auto"] = "auto"
    """How many workers download and decode in the staged plan."""
    decode_threads: int = Field(2, ge=1)  # per fetcher; model actors with one core decode between their batches
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format inside the models; results are float32. Less than float32 is for GPUs, and changes scores a
    little.
    """
    compile: bool = False
    """Whether the image towers are compiled by torch: needs a C++ compiler, and the first batch takes a minute."""
    address: str | None = None
    """Ray cluster to join, or `local`; null: what RAY_ADDRESS says, else a Ray is started on this machine. Example:
    `ray-head:6379`
    """
    start_timeout_s: float = Field(60.0, gt=0)  # for Ray to start here, or for the cluster to let us in
    schedule_timeout_s: float = Field(30.0, gt=0)  # wait for room on a busy cluster
    scale_up_timeout_s: float = Field(900.0, gt=0)  # the same where nodes can be added
    max_cpus: float | None = Field(None, ge=0)
    """CPUs that a cluster can grow to; null: what its autoscaler says."""
    max_gpus: float | None = Field(None, ge=0)
    """GPUs that a cluster can grow to; null: what its autoscaler says."""
    max_failed_share: float | None = Field(
        0.25, ge=0, le=1
    )  # of the rows; more: exit code 3, and early when sure; null: off
    max_drift: float | None = Field(None, ge=0)  # that fast settings may cause, see --probe; more: refused; null: any
    canaries: bool = True  # a fixed picture and text go with what a shard asks of models; judged by float32's answers
    max_wrong_workers: int = Field(3, ge=0)  # how many may be replaced because their numbers were wrong; one more: stop
    weights_cache: str | None = None  # folder on each node; null: $AISTUDIO_CACHE/weights, ~/.cache/aistudio/weights

    @field_validator("weights_cache")
    @classmethod
    def _cache_absolute(cls, folder: str | None) -> str | None:
        if folder is not None and not folder.startswith(("/", "~")):
            raise ValueError("expected an absolute path or one that begins with ~: each node has a folder of its own")
        return folder
