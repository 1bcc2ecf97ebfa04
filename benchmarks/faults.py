"""Fault campaign: a small scoring job is killed at random moments, resumed with the same command, and compared.

    python benchmarks/faults.py --minutes 25 --kinds driver,actor,worker,raylet,group,storage --target both

Kinds: `driver`, `raylet`, `actor` (a model actor), `worker` (any other process of Ray's: tasks, coordinator, idle
ones) and `group` (driver and all that it started) are killed with SIGKILL; `commit` kills the model actors the moment
that one has a file half written (on a local disk, with --kinds commit). `storage` in a bucket answers 500, 503, cut
bodies, errors after the fact and silence, enough of it to end some attempts; on a local disk it is a file system
that fills up (needs the right to mount a tmpfs).

Targets: `local`, `s3` (boto3, against moto), `gs` and `az` (obstore, against the stand-ins of tests/object_servers.py),
`both` (local and s3), `buckets` (the three).

With --trust content the killed runs are delta runs: the undisturbed one is their base.

Prints one table: fault, target, kills, lost, doubled and differing rows against an undisturbed run, attempts that
did not end by themselves, processes left behind, seconds from the fault to the finished run (median, worst).
Exit code 1 when a row was lost, doubled or different.
"""

import argparse
import contextlib
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from aistudio.config import StoreSettings
from aistudio.store import open_store
from benchmarks._tiny_job import server_module, write_conf, write_manifest, write_models

KINDS = ("driver", "actor", "worker", "raylet", "group", "storage")
COMMIT = "commit"
LIMIT_S = 240.0  # an attempt that has not ended by then hangs
TOLERANCE = 1e-5  # of scores: the batches differ after a resume, and so the order of float additions
TARGETS = {
    "local": ("local",), "s3": ("s3",), "gs": ("gs",), "az": ("az",), "both": ("local", "s3"),
    "buckets": ("s3", "gs", "az"),
}  # fmt: skip
STORAGE_FAULTS = ("slow_down", "error", "late_error", "cut", "hang")


SECRETS = {
    "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
    "GOOGLE_BEARER_TOKEN": "test",
}  # fmt: skip


@dataclass
class Tally:
    """What happened to one kind of fault on one target."""

    trials: int = 0
    kills: int = 0
    lost: int = 0
    doubled: int = 0
    differing: int = 0
    hung: int = 0
    left: int = 0
    recover_s: list[float] = field(default_factory=list)


class Campaign:
    """Everything that the trials share."""

    def __init__(
        self, work: Path, rows: int, rng: random.Random, kills: int | None = None, trust: str | None = None
    ) -> None:
        self.work, self.rng, self.rows, self.kills, self.trust = work, rng, rows, kills, trust
        self.images = server_module("image_server").ImageServer(latency_s=0.3)
        made = server_module("object_servers")
        self.servers = {"s3": server_module("s3_server").S3Server(hang_s=4.0)}
        self.servers |= {"gs": made.GsServer(hang_s=4.0), "az": made.AzServer(hang_s=4.0)}
        self.secrets = SECRETS | {"AZURE_STORAGE_ACCOUNT_KEY": made.AZ_KEY}
        os.environ |= self.secrets
        self.manifest = write_manifest(work / "manifest.csv", self.images, rows)
        self.models = write_models(work / "models")
        self.reference = pd.DataFrame()
        self.clean_s = 0.0

    def close(self) -> None:
        self.images.close()
        for server in self.servers.values():
            server.close()

    def place(self, target: str) -> dict[str, Any]:
        """Settings of the section `store` that reach a bucket."""
        if target == "s3":
            return {"endpoint_url": self.servers["s3"].url}
        return self.servers[target].settings().model_dump(exclude_defaults=True) if target in self.servers else {}

    def conf(self, name: str, target: str, output: str | None = None) -> str:
        store: dict[str, Any] = {"timeout_s": 2, "retries": 4, **self.place(target)}
        output = output or (f"{target}://bucket/{name}" if target in self.servers else str(self.work / name))
        delta: dict[str, Any] = {}
        if self.trust and name != "reference":
            delta = {"base": str(self.work / "reference"), "trust": self.trust}
        return write_conf(self.work / f"{name}.yaml", self.manifest, self.models, output, store=store, **delta)

    def stored(self, name: str, target: str, output: str | None = None) -> pd.DataFrame:
        """All stored rows, doubled ones included."""
        if target in self.servers:
            store = open_store(f"{target}://bucket/{name}", StoreSettings.model_validate(self.place(target)))
        else:
            store = open_store(output or str(self.work / name))
        columns = ["row_id", "status", "content_hash", "recall_score", "rank_score"]
        tables = [store.read_table(e.key, columns).to_pandas() for e in store.list("scores/")]
        return pd.concat(tables) if tables else pd.DataFrame(columns=columns)

    def undisturbed(self) -> None:
        started = time.monotonic()
        attempt = Attempt(self, self.conf("reference", "local"))
        code = attempt.wait()
        if code != 0:
            raise SystemExit(f"{attempt.output()}\nthe undisturbed run (above) ended with {code}")
        self.clean_s = time.monotonic() - started
        self.reference = self.stored("reference", "local").set_index("row_id").sort_index()


class Attempt:
    """One `python -m jobs.score` in a session of its own."""

    def __init__(self, campaign: Campaign, conf: str) -> None:
        self._log = (campaign.work / "log.txt").open("w+b")
        # Its own short folder: Ray's socket names must stay below 108 characters.
        environment = os.environ | {"RAY_TMPDIR": str(campaign.work / "ray"), "OMP_NUM_THREADS": "1"}
        environment |= campaign.secrets
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jobs.score", "--conf", conf],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            cwd=Path(__file__).resolve().parents[1],
            start_new_session=True,
        )

    def wait(self, limit_s: float = LIMIT_S) -> int | None:
        """Exit code; None when it had to be killed for taking too long."""
        try:
            return self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            for process in self.everybody():
                _kill(process)
            self.process.wait()
            return None

    def output(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def everybody(self) -> list[psutil.Process]:
        """Every process that the attempt started, alive or orphaned."""
        return in_session(self.process.pid)

    def wait_for_actors(self) -> None:
        """Until a model actor is there, or the attempt has ended."""
        while self.process.poll() is None and not self.victims("actor") and time.monotonic() < self.started + LIMIT_S:
            time.sleep(0.1)

    def victims(self, kind: str) -> list[psutil.Process]:
        if kind == "driver":
            return [psutil.Process(self.process.pid)] if self.process.poll() is None else []
        if kind == "group":
            return self.everybody()
        return [p for p in self.everybody() if _is_kind(p, kind)]


def _is_kind(process: psutil.Process, kind: str) -> bool:
    try:
        title = " ".join(process.cmdline())
    except psutil.Error:
        return False
    actor = title.startswith("ray::") and "Worker)" in title
    if kind == "raylet":
        return title.split(" ")[0].endswith("/raylet")
    return actor if kind == "actor" else (title.startswith("ray::") and not actor)


def in_session(session: int) -> list[psutil.Process]:
    """Processes of a session (the driver's pid names it): Ray's processes stay in their driver's."""
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(pid) == session and (process := psutil.Process(pid)).status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _kill(process: psutil.Process) -> bool:
    try:
        process.kill()
    except psutil.Error:
        return False
    return True


def strike(campaign: Campaign, attempt: Attempt, kind: str, left: int) -> tuple[int, float]:
    """Kill at random moments while the attempt lives; up to `left` times. Returns kills and the time of the last."""
    kills, last = 0, time.monotonic()
    once = kind in ("driver", "raylet", "group")
    moment = attempt.started + campaign.rng.uniform(0.3, 1.0) * campaign.clean_s
    if campaign.rng.random() < 0.7:  # most of an attempt is start-up; most faults should meet work
        attempt.wait_for_actors()
        moment = time.monotonic() + campaign.rng.uniform(0, 8.0)
    while kills < left and attempt.process.poll() is None and time.monotonic() < attempt.started + LIMIT_S:
        if time.monotonic() < moment:
            time.sleep(0.02)
            continue
        victims = attempt.victims(kind)
        if not victims:
            moment = time.monotonic() + 0.1
            continue
        chosen = victims if kind == "group" else [campaign.rng.choice(victims)]
        if sum(_kill(p) for p in chosen):
            kills, last = kills + 1, time.monotonic()
            if once:
                break
        moment = time.monotonic() + campaign.rng.uniform(0.5, 8.0)
    return kills, last


def half_written(output: Path) -> set[str]:
    """Names of files of results that are being written, or were when their writer died."""
    found: set[str] = set()
    for folder in ("scores", "texts"):
        with contextlib.suppress(OSError):
            found |= {f"{folder}/{e.name}" for e in os.scandir(output / folder) if e.name.endswith(".tmp")}
    return found


def strike_in_commit(attempt: Attempt, output: Path, left: int) -> tuple[int, float]:
    """Kill all actors when a file appears half written; up to `left` times. Counted is what is half written still."""
    kills, last = 0, time.monotonic()
    attempt.wait_for_actors()
    known = half_written(output)
    while kills < left and attempt.process.poll() is None and time.monotonic() < attempt.started + LIMIT_S:
        victims, until = attempt.victims("actor"), time.monotonic() + 0.5
        while time.monotonic() < until:
            if not (new := half_written(output) - known):
                continue
            for victim in victims:
                _kill(victim)
            time.sleep(0.2)
            if new & half_written(output):
                kills, last = kills + 1, time.monotonic()
            known |= new
            break
    return kills, last


def killing_trial(campaign: Campaign, kind: str, target: str, name: str, tally: Tally) -> None:
    conf = campaign.conf(name, target)
    kills = campaign.kills or campaign.rng.choice((4, 5, 6))
    last = time.monotonic()
    attempts: list[Attempt] = []
    for _ in range(20):
        attempt = Attempt(campaign, conf)
        if kills > 0:
            if kind == COMMIT:
                done, moment = strike_in_commit(attempt, campaign.work / name, kills)
            else:
                done, moment = strike(campaign, attempt, kind, kills)
            kills, tally.kills = kills - done, tally.kills + done
            last = moment if done else last
        code = attempt.wait()
        if code is None:
            tally.hung += 1
            print(f"{name}: hung; the end of its output:\n{attempt.output()[-3000:]}", file=sys.stderr)
        attempts.append(attempt)
        if code == 0:
            break
        if kills <= 0 and code not in (None, 0, -9):
            print(f"{name}: exit code {code}: {attempt.output()[-500:]}", file=sys.stderr)
    tally.recover_s.append(time.monotonic() - last)
    tally.left += leftovers(attempts)
    compare(campaign, name, target, tally)


def bucket_trial(campaign: Campaign, target: str, name: str, tally: Tally) -> None:
    """Storage that misbehaves: first so much that the attempt fails, then less."""
    conf, server = campaign.conf(name, target), campaign.servers[target]
    share = campaign.rng.choice((0.1, 0.3, 0.6))
    first = campaign.rng.randrange(200)
    requests = 0

    def fault(method: str, path: str) -> str | None:
        nonlocal requests
        requests += 1
        return campaign.rng.choice(STORAGE_FAULTS) if requests > first and campaign.rng.random() < share else None

    last = time.monotonic()
    attempts: list[Attempt] = []
    for _ in range(12):
        before = sum(server.faults.values())
        server.fault = fault
        attempt = Attempt(campaign, conf)
        code = attempt.wait()
        server.fault = None
        tally.kills += int(sum(server.faults.values()) > before)
        tally.hung += code is None
        attempts.append(attempt)
        if code == 0:
            break
        share, last = share / 3, time.monotonic()
    tally.recover_s.append(time.monotonic() - last)
    tally.left += leftovers(attempts)
    compare(campaign, name, target, tally)


def full_disk_trial(campaign: Campaign, name: str, tally: Tally) -> None:
    """An output of a few hundred kilobytes that is made larger once it is full."""
    place = campaign.work / f"{name}.disk"
    place.mkdir()
    size = campaign.rng.randrange(60, 300)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        raise SystemExit("storage on local needs the right to mount a tmpfs; leave it out with --kinds or --target s3")
    try:
        output = str(place / "run")
        conf, last = campaign.conf(name, "local", output), time.monotonic()
        attempts: list[Attempt] = []
        for _ in range(12):
            attempt = Attempt(campaign, conf)
            code = attempt.wait()
            tally.hung += code is None
            attempts.append(attempt)
            if code == 0:
                break
            tally.kills += "no space left" in attempt.output()
            size, last = size * 3, time.monotonic()
            subprocess.run(["mount", "-o", f"remount,size={size}k", str(place)], check=True)
        tally.recover_s.append(time.monotonic() - last)
        tally.left += leftovers(attempts)
        compare(campaign, name, "local", tally, output)
    finally:
        subprocess.run(["umount", str(place)], check=False)


def leftovers(attempts: list[Attempt]) -> int:
    """Processes that outlive the last attempt's end by more than a minute; they are killed.

    The next attempt does not wait for them: who types the command again does not either.
    """
    until = time.monotonic() + 60
    while (rest := [p for a in attempts for p in a.everybody()]) and time.monotonic() < until:
        time.sleep(0.5)
    for process in rest:
        print(f"left behind: {process}", file=sys.stderr)
        _kill(process)
    return len(rest)


def compare(campaign: Campaign, name: str, target: str, tally: Tally, output: str | None = None) -> None:
    """Count lost, doubled and differing rows against the undisturbed run."""
    rows = campaign.stored(name, target, output)
    twice = rows["row_id"].duplicated()
    rows = rows[~twice].set_index("row_id")
    reference = campaign.reference
    tally.trials += 1
    tally.doubled += int(twice.sum()) + len(rows.index.difference(reference.index))
    tally.lost += len(reference.index.difference(rows.index))
    both = rows.index.intersection(reference.index)
    a, b = rows.loc[both], reference.loc[both]
    same = (a["status"] == b["status"]) & (a["content_hash"].fillna("") == b["content_hash"].fillna(""))
    for column in ("recall_score", "rank_score"):
        same &= (a[column].isna() == b[column].isna()) & ~((a[column] - b[column]).abs() > TOLERANCE)
    tally.differing += int((~same).sum())
    if not same.all():
        print(f"{name}: differing:\n{a[~same]}\n{b[~same]}", file=sys.stderr)


def run(campaign: Campaign, kinds: list[str], targets: list[str], until: float) -> dict[tuple[str, str], Tally]:
    tallies: dict[tuple[str, str], Tally] = defaultdict(Tally)
    pairs = [(kind, target) for kind in kinds for target in targets]
    number = 0
    while time.monotonic() < until:
        kind, target = pairs[number % len(pairs)]
        tally, name = tallies[kind, target], f"t{number:03d}-{kind}"
        started = time.monotonic()
        if kind != "storage":
            killing_trial(campaign, kind, target, name, tally)
        elif target in campaign.servers:
            bucket_trial(campaign, target, name, tally)
        else:
            full_disk_trial(campaign, name, tally)
        print(f"{name} {target}: {time.monotonic() - started:.0f} s, {tally}", file=sys.stderr, flush=True)
        shutil.rmtree(campaign.work / name, ignore_errors=True)
        shutil.rmtree(campaign.work / "ray", ignore_errors=True)
        number += 1
    return dict(tallies)


def print_table(tallies: dict[tuple[str, str], Tally]) -> None:
    columns = "trials", "faults", "lost", "doubled", "differing", "hung", "left", "recover s (median)", "(worst)"
    print("| fault | target | " + " | ".join(columns) + " |")
    print("|---|---|" + "---|" * len(columns))
    for (kind, target), t in sorted(tallies.items()):
        middle, worst = statistics.median(t.recover_s), max(t.recover_s)
        numbers = t.trials, t.kills, t.lost, t.doubled, t.differing, t.hung, t.left, f"{middle:.0f}", f"{worst:.0f}"
        print(f"| {kind} | {target} | " + " | ".join(map(str, numbers)) + " |")
    every = list(tallies.values())
    totals = (
        sum(getattr(t, n) for t in every) for n in ("trials", "kills", "lost", "doubled", "differing", "hung", "left")
    )
    print("| all | | " + " | ".join(map(str, totals)) + " | | |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=25.0, help="no trial begins after that (default 25)")
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"of {','.join(KINDS)},{COMMIT}")
    parser.add_argument("--target", choices=TARGETS, default="both")
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--kills", type=int, help="in each run folder (default: 4, 5 or 6, drawn)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--trust", choices=("url", "validators", "content"), help="the undisturbed run is the base of all others"
    )
    args = parser.parse_args()
    kinds = args.kinds.split(",")
    if unknown := set(kinds) - {*KINDS, COMMIT}:
        parser.error(f"unknown kinds: {', '.join(sorted(unknown))}")
    work = Path(tempfile.mkdtemp(prefix="faults-"))
    campaign = Campaign(work, args.rows, random.Random(args.seed), args.kills, args.trust)
    try:
        campaign.undisturbed()
        print(f"undisturbed: {len(campaign.reference)} rows in {campaign.clean_s:.0f} s", file=sys.stderr, flush=True)
        tallies = run(campaign, kinds, [*TARGETS[args.target]], time.monotonic() + 60 * args.minutes)
    finally:
        campaign.close()
        shutil.rmtree(work, ignore_errors=True)
    print_table(tallies)
    return int(any(t.lost or t.doubled or t.differing for t in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
