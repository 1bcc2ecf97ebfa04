"""The error tree: everything AI Studio raises on purpose.

    AIStudioError                 exit code 1
    ├── ConfigError               2   a setting, a conf file or a flag is wrong
    ├── ManifestError             2   the manifest cannot be used as it is
    ├── WeightsError              2   a weights file is missing, damaged or of another model
    ├── RunMismatchError          2   the run folder belongs to another configuration
    ├── FailingRowsError          1   so many rows fail that the run stopped before its end (engine.max_failed_share)
    └── StoreError                1   reading or writing stored data failed
        ├── OutputError           2   the output place cannot be written at all (found before the work starts)
        ├── ChangedError          2   what is being read was replaced in the meantime
        └── FencedError           1   a newer attempt owns the run folder
    (and plain AIStudioError      1   the run failed part-way)

A message says what was found, where, and what would be right, in one or a few lines; jobs print it
without a traceback. Failures of single rows are not errors: they are a `status` (see schema.py).
"""

TOO_MANY_FAILED = 3  # exit code: everything is stored, but more rows failed than engine.max_failed_share


class AIStudioError(Exception):
    """Base of all errors raised for users. `exit_code` is what a job ends with."""

    exit_code = 1


class ConfigError(AIStudioError):
    """A setting, conf file or command-line flag is wrong."""

    exit_code = 2


class ManifestError(AIStudioError):
    """The manifest cannot be read, or lacks what the job needs."""

    exit_code = 2


class WeightsError(AIStudioError):
    """A weights file is missing, damaged, untrusted or belongs to another model."""

    exit_code = 2


class RunMismatchError(AIStudioError):
    """The run folder was made with another manifest, model or output-shaping setting."""

    exit_code = 2


class FailingRowsError(AIStudioError):
    """The rows that were looked at first show that more fail than engine.max_failed_share lets."""


class StoreError(AIStudioError):
    """Stored data could not be read or written."""


class OutputError(StoreError):
    """The output place cannot be written; found before any work started."""

    exit_code = 2


class ChangedError(StoreError):
    """An object was replaced since it was listed or opened: what was read of it so far must be thrown away."""

    exit_code = 2


class FencedError(StoreError):
    """A newer attempt has taken over the run folder; this one must stop writing."""
