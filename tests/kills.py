"""Workers that die, or fail, while a run is under way."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

from aistudio.errors import AIStudioError
from aistudio.pipeline.actors import FusedWorker


def dies_before_storing(chosen: Callable[[str], bool]) -> type[FusedWorker]:
    """A worker that is killed once with a chosen shard scored and not yet stored; then the driver stops too."""

    class Dies(FusedWorker):
        def finish(self, work, scorer, images):
            if chosen(work.name):
                marker = Path(f"{self.config.output}.died")
                if not marker.exists():
                    marker.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                raise RuntimeError("the machine is going down")
            return super().finish(work, scorer, images)

    return Dies


def stops_before_storing(chosen: Callable[[str], bool]) -> type[FusedWorker]:
    """A worker that fails with a chosen shard scored and not yet stored, and the run with it."""

    class Stops(FusedWorker):
        def finish(self, work, scorer, images):
            if chosen(work.name):
                raise AIStudioError("the machine is going down")
            return super().finish(work, scorer, images)

    return Stops
