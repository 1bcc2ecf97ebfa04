"""Checkpoints of a training: committed whole, by the newest attempt alone; the last two and the best are kept."""

import io
from collections.abc import Mapping
from typing import Any

import torch

from aistudio.errors import RunMismatchError, StoreError
from aistudio.runs.attempts import refuse_if_fenced
from aistudio.storable import error_text
from aistudio.store import Store
from aistudio.training import layout

KEPT = 2  # newest ones; a damaged last one costs the steps since the one before


class Checkpoints:
    """The checkpoints of one attempt; `fingerprint` is that of the settings which they belong to."""

    def __init__(self, store: Store, attempt: int, fingerprint: str) -> None:
        self._store, self._attempt, self._fingerprint = store, attempt, fingerprint

    def commit(self, step: int, state: Mapping[str, Any], best_step: int | None) -> None:
        """Store the state after `step` updates, then remove what is no longer needed.

        Another attempt that stored this step first has stored the same: it stays.

        Raises:
            FencedError: a newer attempt has taken over.
            StoreError: full disk or storage out of reach; the earlier checkpoints stay.
        """
        body = io.BytesIO()
        torch.save({**state, "fingerprint": self._fingerprint}, body)
        self.refuse_if_fenced()
        self._store.write_bytes(layout.checkpoint_key(step), body.getvalue(), overwrite=False)
        steps = layout.checkpoint_steps(self._store)
        keep = {best_step, *[s for s in steps if s <= step][-KEPT:]}
        for old in steps:
            if old not in keep:
                self._store.delete(layout.checkpoint_key(old))

    def refuse_if_fenced(self) -> None:
        """Raise FencedError when a newer attempt has taken over."""
        refuse_if_fenced(self._store, self._attempt)

    def newest(self) -> tuple[int, dict[str, Any]] | None:
        """Open the newest checkpoint that can be opened, and remove damaged newer ones; None where there is none.

        Raises:
            StoreError: there are checkpoints, and none can be opened.
        """
        problems: list[str] = []
        damaged: list[int] = []
        for step in reversed(layout.checkpoint_steps(self._store)):
            try:
                state = self.open(step)
            except StoreError as e:
                problems.append(str(e))
                damaged.append(step)
                continue
            for bad in damaged:  # else the first writer of that step would be the damaged file
                self._store.delete(layout.checkpoint_key(bad))
            return step, state
        if problems:
            raise StoreError("no checkpoint can be opened:\n  " + "\n  ".join(problems))
        return None

    def open(self, step: int) -> dict[str, Any]:
        """Open one checkpoint. Raises StoreError (damaged) and RunMismatchError (of other settings)."""
        key = layout.checkpoint_key(step)
        try:
            state = torch.load(io.BytesIO(self._store.read_bytes(key)), map_location="cpu", weights_only=True)
        except StoreError:
            raise
        except Exception as e:  # noqa: BLE001 - a damaged file raises whatever its bytes lead to
            raise StoreError(f"{self._store.path(key)}: damaged checkpoint: {error_text(e)}") from None
        if state["fingerprint"] != self._fingerprint:
            raise RunMismatchError(f"{self._store.path(key)}: a checkpoint of other settings or data")
        return dict(state)
