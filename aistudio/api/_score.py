"""Scores a catalogue from Python, as the job `score` does."""

from collections.abc import Sequence
from pathlib import Path

from aistudio.api._run import Run, overrides_of
from aistudio.config import JobConfig, load_config
from aistudio.errors import AIStudioError, ConfigError, FailingRowsError


def score(config: JobConfig | str | Path, overrides: Sequence[str] = (), *, yes: bool = False) -> Run:
    """Score a manifest of images, or go on with a run that was interrupted, and return the finished run.

    Args:
        config: settings, or the path of a conf file.
        overrides: settings on top of a conf file, each `section.key=value` as `--set` takes them.
        yes: confirms `start_over: true`, which empties the run folder.

    Raises:
        ConfigError, ManifestError, WeightsError, OutputError, RunMismatchError: what has to be changed; nothing was
            started.
        FailingRowsError: more rows failed than `engine.max_failed_share`. What was scored is stored: `open_run`.
        AIStudioError: the run failed part-way; what is stored is whole, and the same call resumes.
    """
    if not isinstance(config, JobConfig):
        config = load_config(config, overrides)
    elif overrides:
        raise ConfigError("overrides go with the path of a conf file; of settings that are loaded take `load_config`")
    if config.start_over and not yes:
        raise ConfigError("start_over empties the run folder; say yes=True as well to mean it")
    from aistudio.pipeline.score import prepare  # starts with Ray, which reading a run does not need
    from aistudio.pipeline.score import score as run_score
    from aistudio.pipeline.summary import exit_code

    result = run_score(prepare(config))
    if not result.ledger.complete:
        raise AIStudioError(f"{config.output}: what is stored does not add up; `aistudio verify --run` says what")
    if exit_code(result):
        counts = result.ledger.counts
        failed = sum(counts.values()) - counts.get("ok", 0)
        raise FailingRowsError(
            f"{config.output}: everything is stored, but {failed:,} of {sum(counts.values()):,} rows failed, more than "
            f"engine.max_failed_share ({config.engine.max_failed_share:g})"
        )
    return Run(config.output, overrides_of("store", config.store.model_dump(exclude_unset=True)))
