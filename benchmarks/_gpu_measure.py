"""What gpu.py's parts share: rates, utilisation by nvidia-smi, lines of Markdown tables."""

import argparse
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from statistics import mean
from typing import Any

import torch


class Utilisation:
    """`with Utilisation() as gpu: ...`; then `gpu.text()`: what nvidia-smi saw meanwhile, or that there is none."""

    def __init__(self) -> None:
        self.percent: list[float] = []
        self.watts: list[float] = []

    def __enter__(self) -> "Utilisation":
        self._process: subprocess.Popen[str] | None = None
        if shutil.which("nvidia-smi"):
            query = ["--query-gpu=utilization.gpu,power.draw", "--format=csv,noheader,nounits"]
            self._process = subprocess.Popen(
                ["nvidia-smi", "-i", "0", *query, "-lms", "200"], stdout=subprocess.PIPE, text=True
            )
            self._thread = threading.Thread(target=self._read, daemon=True)
            self._thread.start()
        return self

    def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            try:
                percent, watts = (float(x) for x in line.split(","))
            except ValueError:
                continue  # [N/A] in a virtual machine
            self.percent.append(percent)
            self.watts.append(watts)

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._thread.join(5)

    def text(self) -> str:
        if not self.percent:
            return "not measured"
        return f"{mean(self.percent):.0f} % (busiest {max(self.percent):.0f} %), {mean(self.watts):.0f} W"


def on_gpu(args: argparse.Namespace) -> bool:
    return bool(args.device.startswith("cuda"))


def rate(call: Callable[[], Any], num_images: int, args: argparse.Namespace, least_s: float = 1.0) -> float:
    """Images per second: one call to warm up, then at least three and `least_s`; the fastest counts."""
    wait = torch.cuda.synchronize if on_gpu(args) else (lambda: None)
    call()
    wait()
    best, passes, began = float("inf"), 0, time.perf_counter()
    while passes < 3 or (time.perf_counter() - began < least_s and not args.tiny):
        start = time.perf_counter()
        call()
        wait()
        best, passes = min(best, time.perf_counter() - start), passes + 1
    return num_images / best


def table(*columns: str) -> list[str]:
    return [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]


def row(*values: Any) -> str:
    line = f"| {' | '.join(str(v) for v in values)} |"
    print(line, flush=True)
    return line


def why(e: Exception) -> str:
    """An error in a table's cell."""
    return f"{type(e).__name__}: {(str(e).splitlines() or [''])[0][:60]}".replace("|", "/")
