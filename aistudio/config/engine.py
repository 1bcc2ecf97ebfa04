"""Settings of the section `engine`."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from aistudio.config.base import Settings


class EngineSettings(Settings):
    """How the work is cut and spread. `auto` is planned from the cluster's resources."""

    shard_rows: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"  # rows per score file: unit of commit and resume
    batch_size: int | Literal["auto"] = "auto"  # images per forward pass; auto: 16 on a CPU, found by trying on a GPU
    plan: Literal["auto", "fused", "staged"] = "auto"  # fused: CPU; staged: pixels go to GPU actors
    num_actors: int | Literal["auto"] = "auto"  # model actors
    shards_in_flight: int = Field(3, ge=1)  # per actor: hides one shard's slow downloads behind another's compute
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"  # of the models; auto: cuda, else mps (a Mac's), else cpu
    num_gpus_per_actor: float = Field(1.0, gt=0)
    num_fetchers: int | Literal["auto"] = "auto"  # download + decode actors of the staged plan
    decode_threads: int = Field(2, ge=1)  # per fetcher; model actors with one core decode between their batches
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    compile: bool = False
    address: str | None = None  # Ray cluster, or "local"; null: RAY_ADDRESS, else a local one is started
    start_timeout_s: float = Field(60.0, gt=0)  # for Ray to start here, or for the cluster to let us in
    schedule_timeout_s: float = Field(30.0, gt=0)  # wait for room on a busy cluster
    scale_up_timeout_s: float = Field(900.0, gt=0)  # the same where nodes can be added
    max_cpus: float | None = Field(None, ge=0)  # of a cluster that can grow; null: what its autoscaler says
    max_gpus: float | None = Field(None, ge=0)
    max_failed_share: float | None = Field(
        0.25, ge=0, le=1
    )  # of the rows; more: exit code 3, and early when sure; null: off
    max_drift: float | None = Field(None, ge=0)  # that fast settings may cause, see --probe; more: refused; null: any
    canaries: bool = True  # each shard carries a fixed picture and text whose answers are compared with float32's
    max_wrong_workers: int = Field(3, ge=0)  # so many may be replaced because their numbers were wrong; one more: stop
    weights_cache: str | None = None  # folder on each node; null: $AISTUDIO_CACHE/weights, ~/.cache/aistudio/weights

    @field_validator("weights_cache")
    @classmethod
    def _cache_absolute(cls, folder: str | None) -> str | None:
        if folder is not None and not folder.startswith(("/", "~")):
            raise ValueError("expected an absolute path or one that begins with ~: each node has a folder of its own")
        return folder
