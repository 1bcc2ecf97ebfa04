"""TensorBoard's event files: written locally, stored with each checkpoint. Without the package nothing happens."""

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from aistudio.store import Store
from aistudio.training import layout

TILE_PX = 96
SPRITE_PX = 48  # of the projector's points


@runtime_checkable
class ShowsPictures(Protocol):
    """A task that has pictures to show after a validation; not every task has."""

    def pictures(self) -> dict[str, NDArray[np.uint8]]:
        """Return (H, W, 3) pictures of what `validate` judged last, by TensorBoard tag."""


class Projection(NamedTuple):
    """Points for TensorBoard's projector."""

    vectors: NDArray[np.float32]  # (N, D)
    labels: list[str]
    pictures: list[bytes | None]  # image files


@runtime_checkable
class Projects(Protocol):
    """A task whose vectors can be looked at in TensorBoard's projector."""

    def projection(self) -> Projection:
        """Return points of what `validate` judged last."""


class Board:
    """The event file of this process; an earlier one's entries after the step that it goes on from are hidden."""

    def __init__(self, store: Store) -> None:
        self._store, self._folder = store, ""
        self._place: tempfile.TemporaryDirectory[str] | None = None  # gone with this object
        self._writer: Any = None

    def begin(self, step: int) -> None:
        """Open the file, if TensorBoard is installed."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._place = tempfile.TemporaryDirectory(prefix="aistudio-tensorboard-", ignore_cleanup_errors=True)
        self._folder = self._place.name
        self._writer = SummaryWriter(self._folder, purge_step=step + 1)

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Add a number."""
        if self._writer is not None:
            self._writer.add_scalar(tag, value, step)

    def text(self, tag: str, value: str) -> None:
        """Add a text, shown as it is."""
        if self._writer is not None:
            self._writer.add_text(tag, "".join(f"    {line}\n" for line in value.splitlines()))

    def picture(self, tag: str, pixels: NDArray[np.uint8], step: int) -> None:
        """Add a picture (H, W, 3)."""
        if self._writer is not None:
            self._writer.add_image(tag, pixels, step, dataformats="HWC")

    def projector(self, tag: str, points: Projection, step: int) -> None:
        """Add vectors with labels and small pictures to TensorBoard's projector."""
        if self._writer is None or not len(points.vectors):
            return
        squares = [tiled([[body]], SPRITE_PX) for body in points.pictures]
        pixels = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float() / 255
        labels = [label.replace("\t", " ").replace("\n", " ") or "-" for label in points.labels]
        self._writer.add_embedding(torch.from_numpy(points.vectors), labels, pixels, step, tag)

    def outcome(self, settings: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Add the row of this training to TensorBoard's table of trainings."""
        if self._writer is None:
            return
        plain = {name: value if isinstance(value, bool | int | float | str) else str(value)
                 for name, value in flattened(settings).items()}  # fmt: skip
        self._writer.add_hparams(plain, dict(metrics), run_name=".")

    def write(self) -> None:
        """Store the files. Raises StoreError."""
        if self._writer is None:
            return
        self._writer.flush()
        for file in sorted(path for path in Path(self._folder).rglob("*") if path.is_file()):
            name = file.relative_to(self._folder).as_posix()
            self._store.write_bytes(f"{layout.TENSORBOARD}{name}", file.read_bytes())


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings under dotted names."""
    out: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            out |= flattened(value, f"{prefix}{name}.")
        else:
            out[prefix + name] = value
    return out


def tiled(rows: list[list[bytes | None]], px: int = TILE_PX) -> NDArray[np.uint8]:
    """Lay image files out as a grid of squares, one row of the grid for each list; a missing or damaged one is grey."""
    width = max((len(row) for row in rows), default=1)
    out = np.full((max(1, len(rows)) * px, width * px, 3), 128, np.uint8)
    for y, row in enumerate(rows):
        for x, body in enumerate(row):
            try:
                picture = Image.open(io.BytesIO(body or b"")).convert("RGB").resize((px, px))
            except (OSError, ValueError):
                continue
            out[y * px : (y + 1) * px, x * px : (x + 1) * px] = np.asarray(picture)
    return out
