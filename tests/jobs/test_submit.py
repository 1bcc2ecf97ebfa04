"""jobs.submit: what it refuses to send, what it ships, and whole jobs on a head node with an access token."""

import contextlib
import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from ray.job_submission import JobStatus

from aistudio.errors import AIStudioError, ConfigError
from aistudio.jobs.submit import _entrypoint, build_parser
from aistudio.pipeline import submission
from aistudio.pipeline.shipping import copy_shipped, leaves, requirements, ships
from aistudio.pipeline.submission import JobServer
from aistudio.secrets import refuse_secrets
from tests.training import tiny_training

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "0123456789abcdef0123456789abcdef"
NODE_SECRET = "node-secret-that-must-not-travel"


def entrypoint(*argv: str) -> str:
    return _entrypoint(build_parser().parse_args(["--address", "http://127.0.0.1:1", *argv]))


@pytest.mark.parametrize(
    "item",
    [
        "download.headers={Authorization: Bearer abcdefgh}",
        "download.headers.Authorization=x",
        "download.headers.X-Api-Key=x",
        "store.secret_access_key=x",
        "store.password=x",
        "models.hub_token=x",
        "output=s3://AKIAIOSFODNN7EXAMPLE/x",
        "manifest.path=https://user:pass@host/m.csv",
        "manifest.path=https://b.s3.amazonaws.com/m.csv?X-Amz-Signature=abc",
        'download.url_map={"https://a/": "https://u:p@b/"}',
    ],
)
def test_nothing_that_looks_like_a_secret_travels_and_the_message_does_not_repeat_it(item):
    with pytest.raises(ConfigError, match="looks like a secret") as e:
        refuse_secrets([item])
    assert item.partition("=")[2] not in str(e.value)


def test_ordinary_settings_travel():
    refuse_secrets(
        [
            "output=s3://bucket/run",
            "download.url_map={'https://monkey.example/a': 's3://bucket/a'}",
            "download.user_agent=crawler/1.0 (+https://example.com)",
            "store.endpoint_url=http://minio:9000",
            "download.headers.Referer=https://example.com/",
            "models.tokenizer=x",
            *leaves({"download": {"headers": {}, "retries": 3}, "manifest": {"columns": {"item_id": "key"}}}),
        ]
    )


def test_the_command_is_checked_here_before_anything_is_sent(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    model = {"family": "align", "name": "m", "weights": {"path": "weights/big/m.safetensors"}}
    (tmp_path / "conf/m.yaml").write_text(yaml.safe_dump(model))
    conf = {
        "manifest": {"path": "s3://b/m.csv", "format": "csv"}, "output": "s3://b/run",
        "models": {"recall": "conf/m.yaml"},
    }  # fmt: skip
    (tmp_path / "conf/x.yaml").write_text(yaml.safe_dump(conf))
    use = ("--conf", "conf/x.yaml")
    with pytest.raises(ConfigError, match=r"weights/big/m.safetensors is not shipped.*--ship"):
        entrypoint(*use)
    model["weights"]["url"] = "s3://bucket/m.safetensors"  # the nodes fetch it
    (tmp_path / "conf/m.yaml").write_text(yaml.safe_dump(model))
    assert entrypoint(*use) == "python -m aistudio score --conf conf/x.yaml"
    model["weights"]["url"] = "https://bucket.example.com/m.safetensors?X-Amz-Signature=abc"
    (tmp_path / "conf/m.yaml").write_text(yaml.safe_dump(model))
    with pytest.raises(ConfigError, match="looks like a secret") as e:
        entrypoint(*use)
    assert "abc" not in str(e.value)
    del model["weights"]["url"]
    (tmp_path / "conf/m.yaml").write_text(yaml.safe_dump(model))
    ready = (*use, "--ship", "weights/big")
    assert entrypoint(*ready, "--set", "engine.shard_rows=9", "--", "--dry-run") == (
        "python -m aistudio score --conf conf/x.yaml --set engine.shard_rows=9 --dry-run"
    )
    for wrong, message in [
        (("--set", "output=reports/run"), "output: reports/run would lie in a temporary folder"),
        (("--set", "base=reports/run"), "base: reports/run would lie in a temporary folder"),
        (("--set", "manifest.path=data/m.csv"), "manifest.path: data/m.csv is not shipped"),
        (("--set", "engine.address=ray://x"), "engine.address: a submitted job runs on the cluster"),
        (("--set", "engine.shard_row=9"), "did you mean shard_rows"),
        (("--job", "aggregate"), "takes --run, not --conf"),
        (("--run", "s3://b/r"), "takes --conf, not --run"),
    ]:
        with pytest.raises(ConfigError, match=message):
            entrypoint(*ready, *wrong)
    with pytest.raises(ConfigError, match="not inside the working directory"):
        entrypoint("--conf", str(ROOT / "conf/demo.yaml"))
    with pytest.raises(ConfigError, match="--run: reports/x would lie in a temporary folder"):
        entrypoint("--job", "report", "--run", "reports/x")
    assert entrypoint("--job", "report", "--run", "s3://b/r") == "python -m aistudio report --run s3://b/r"


def test_code_and_conf_are_shipped_and_nothing_else(tmp_path):
    here = tmp_path / "here"
    for name in ("aistudio/a.py", "conf/x.yaml", "weights/demo/r.safetensors", "weights/big/w.bin", "data/m.csv",
                 "reports/run/scores/0.parquet", ".git/config", ".env", "conf/.env", "conf/id.pem", ".venv/x",
                 "aistudio/__pycache__/a.pyc", "aistudio/data/kept.txt"):  # fmt: skip
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text("x")
    (here / "gone").symlink_to(here / "nowhere")
    target = tmp_path / "target"
    size = copy_shipped(here, target, [Path("weights/big")])
    shipped = {str(p.relative_to(target)) for p in target.rglob("*") if p.is_file()}
    wanted = {"aistudio/a.py", "aistudio/data/kept.txt", "conf/x.yaml", "weights/demo/r.safetensors",
              "weights/big/w.bin"}  # fmt: skip
    assert shipped == wanted and size == len(wanted)
    every = [str(p.relative_to(here)) for p in here.rglob("*") if p.is_file()]
    assert {p for p in every if ships(Path(p), [Path("weights/big")])} == wanted
    with pytest.raises(ConfigError, match="--ship nothing: no such file"):
        copy_shipped(here, tmp_path / "other", [Path("nothing")])


def test_too_much_to_ship_is_refused_by_name(tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    with (here / "huge.bin").open("wb") as f:
        f.truncate(201_000_000)  # sparse
    with pytest.raises(ConfigError, match=r"201 MB would be shipped, at most 200: huge.bin 201 MB"):
        copy_shipped(here, tmp_path / "target")


def test_requirements_are_exact_and_leave_ray_to_the_cluster():
    found = dict(r.split("==") for r in requirements())
    assert {"torch", "pyarrow", "aiohttp"} <= found.keys() and "ray" not in found and "pytest" not in found
    assert all(v and "+" not in v for v in found.values())


def _free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def _clean_env(home: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "AWS_")) and "proxy" not in k.lower()}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return {**kept, "PATH": path, "HOME": str(home), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}


def _children(pid: int) -> list[int]:
    """Processes that `pid` started, and theirs."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for parent in found:
        found += [child for child, its_parent in parents.items() if its_parent == parent]
    return found[1:]


class Head:
    """A head node of its own: token required, a secret in its environment, dashboard on 127.0.0.1."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        gcs, dashboard, agent = _free_ports(3)
        self.address = f"http://127.0.0.1:{dashboard}"
        secrets = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "AWS_SECRET_ACCESS_KEY": NODE_SECRET}
        # Unix sockets lie in the temp dir and their paths are short: not below pytest's.
        self.temp = Path(f"/tmp/ray-submit-{os.getpid()}")
        self.log = folder / "head.log"
        command = [
            "ray", "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={gcs}",
            "--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
            f"--dashboard-agent-listen-port={agent}", f"--temp-dir={self.temp}", "--num-cpus=2",
            "--object-store-memory=200000000", "--disable-usage-stats",
        ]  # fmt: skip
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, env=_clean_env(self.home) | secrets, stdout=log, stderr=log, start_new_session=True
            )

    def wait_until_ready(self) -> None:
        request = urllib.request.Request(f"{self.address}/api/jobs/", headers={"Authorization": f"Bearer {TOKEN}"})
        deadline = time.monotonic() + 60
        while True:
            assert self.process.poll() is None, self.log.read_text()
            try:
                urllib.request.urlopen(request, timeout=5).read()
                return
            except OSError:
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.3)

    def close(self) -> None:
        # A polite end takes Ray half a minute; its children are found first, for they outlive a parent that is killed.
        started = [self.process.pid, *_children(self.process.pid)]
        for pid in started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(30)
        shutil.rmtree(self.temp, ignore_errors=True)

    def submit(self, cwd: Path, *argv: str, token: str | None = TOKEN) -> subprocess.CompletedProcess[str]:
        env = _clean_env(self.home) | {"PYTHONPATH": str(ROOT)} | ({"RAY_AUTH_TOKEN": token} if token else {})
        command = [sys.executable, "-m", "jobs.submit", "--address", self.address, *argv]
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=250)

    def text(self, path: str) -> str:
        request = urllib.request.Request(f"{self.address}{path}", headers={"Authorization": f"Bearer {TOKEN}"})
        return urllib.request.urlopen(request, timeout=20).read().decode()


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    node = Head(tmp_path_factory.mktemp("head"))
    try:
        node.wait_until_ready()
        yield node
    finally:
        node.close()


@pytest.fixture
def project(tmp_path, tiny_models):
    """A working directory with its own copy of the code and a conf on tiny models."""
    here = tmp_path / "project"
    for package in ("aistudio", "jobs"):
        shutil.copytree(ROOT / package, here / package, ignore=shutil.ignore_patterns("__pycache__"))
    (here / "conf").mkdir()
    conf = {
        "manifest": {"path": str(tmp_path / "m.csv"), "format": "csv"},
        "output": str(tmp_path / "run"),
        "models": {"recall": tiny_models["recall"]},
        "download": {"allow_private_addresses": True, "retries": 0, "timeout_s": 90, "read_timeout_s": 90},
        "engine": {"shard_rows": 8, "num_actors": 1, "batch_size": 4},
    }
    (here / "conf/x.yaml").write_text(yaml.safe_dump(conf))
    return here


def write_manifest(path: Path, urls: list[str]) -> None:
    with path.open("w", newline="") as f:
        csv.writer(f).writerows([("item_id", "image_url", "text"), *((f"i{n}", u, "a") for n, u in enumerate(urls))])


@pytest.mark.campaign
@pytest.mark.cluster
@pytest.mark.timeout(280)
def test_jobs_on_a_cluster_end_as_they_would_here(head, project, image_server, tmp_path):
    conf = ("--conf", "conf/x.yaml")
    refused = head.submit(project, *conf, token=None)
    assert refused.returncode == 2 and "ray get-auth-token" in refused.stderr and "Traceback" not in refused.stderr

    write_manifest(tmp_path / "m.csv", [image_server.url(f"ok/{i % 5}.jpg") for i in range(20)])
    planned = head.submit(project, *conf, "--", "--dry-run")
    assert planned.returncode == 0 and "1 node(s), 2 CPUs, 0 GPUs" in planned.stdout, planned.stdout + planned.stderr
    assert not image_server.hits and not (tmp_path / "run/scores").exists()
    done = head.submit(project, *conf)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rows in = rows out: 20 = 20" in done.stdout  # the ledger, streamed
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["state"] == "complete" and record["counts"] == {"ok": 20}

    next((tmp_path / "run/scores").iterdir()).unlink()
    failed = head.submit(project, "--job", "verify", "--run", str(tmp_path / "run"))
    assert failed.returncode == 1 and "missing" in failed.stdout, failed.stdout + failed.stderr
    wrong = head.submit(project, *conf, "--set", f"manifest.path={tmp_path}/none.csv")
    assert wrong.returncode == 2 and "none.csv" in wrong.stdout, wrong.stdout + wrong.stderr

    jobs = head.text("/api/jobs/")
    listed = subprocess.run(
        ["ray", "job", "list", "--address", head.address],
        env=_clean_env(head.home) | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    ids = [j["submission_id"] for j in json.loads(jobs) if j["submission_id"]]
    logs = "".join(head.text(f"/api/jobs/{i}/logs") for i in ids)
    assert len(ids) == 4 and "rows in = rows out" in logs and ids[0] in listed.stdout + listed.stderr
    everything = jobs + listed.stdout + listed.stderr + logs + (tmp_path / "run/run.json").read_text() + done.stderr
    assert TOKEN not in everything and NODE_SECRET not in everything


@pytest.mark.cluster
@pytest.mark.timeout(280)
def test_a_detached_job_can_be_asked_after_and_stopped(head, project, image_server, tmp_path):
    write_manifest(tmp_path / "m.csv", [image_server.url(f"timeout/{i}.jpg") for i in range(4)])
    job = head.submit(project, "--conf", "conf/x.yaml", "--detach")
    assert job.returncode == 0, job.stderr
    name = job.stdout.strip()
    deadline = time.monotonic() + 60
    while not image_server.hits:  # it works now
        assert time.monotonic() < deadline, head.text(f"/api/jobs/{name}/logs")
        time.sleep(0.2)
    assert "RUNNING" in head.submit(project, "--status", name).stdout
    stopped = head.submit(project, "--stop", name)
    assert stopped.returncode == 0 and "STOPPED" in stopped.stdout, stopped.stdout + stopped.stderr
    assert head.submit(project, "--logs", name).returncode == 1
    unknown = head.submit(project, "--status", "score-none")
    assert unknown.returncode == 2 and "there is no job score-none" in unknown.stderr


class _Client:
    """Stands for Ray's client of a job server that gives these answers."""

    def __init__(self, refusals: int = 0, code: int = 0, log: str = "") -> None:
        self.refusals, self.code, self.log = refusals, code, log

    def submit_job(self, submission_id: str, **_: object) -> str:
        if self.refusals:
            self.refusals -= 1
            raise RuntimeError(
                "Request failed with status code 500: No available agent to submit job, please try again"
            )
        return submission_id

    async def tail_job_logs(self, _: str):
        yield self.log

    def get_job_status(self, _: str) -> JobStatus:
        return JobStatus.FAILED if self.code else JobStatus.SUCCEEDED

    def get_job_info(self, job_id: str) -> SimpleNamespace:
        return SimpleNamespace(status=self.get_job_status(job_id), driver_exit_code=self.code, message="")


def _server(client: _Client) -> submission.JobServer:
    server = object.__new__(submission.JobServer)
    server.address, server._tail, server._client = "http://head:8265", "", client
    return server


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_the_jobs_exit_code_is_the_submissions(code, capsys):
    assert _server(_Client(code=code)).follow("score-1") == code
    assert capsys.readouterr().err == ""


def test_a_head_whose_job_agent_is_not_up_yet_is_waited_for_and_one_without_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(submission, "_POLL_S", 0.001)
    assert _server(_Client(refusals=3)).submit("python -m aistudio score", tmp_path, [], "score").startswith("score-")
    monkeypatch.setattr(submission, "_AGENT_S", 0.01)
    with pytest.raises(AIStudioError, match=r"(?s)its job agent is not running.*--dashboard-agent-listen-port"):
        _server(_Client(refusals=10**9)).submit("python -m aistudio score", tmp_path, [], "score")


@pytest.mark.parametrize("package", ["aistudio", "pydantic.fields"])
def test_a_head_without_our_packages_is_said_with_the_way_out(package, capsys):
    log = f"/usr/bin/python3: No module named {package}\n"
    assert _server(_Client(code=1, log=log)).follow("score-1") == 1
    err = capsys.readouterr().err
    assert f"lack the Python package {package.partition('.')[0]}." in err and "--install" in err


@pytest.mark.campaign
@pytest.mark.cluster
@pytest.mark.timeout(580)
def test_a_training_on_workers_of_the_cluster(head, project, tmp_path):
    training = tiny_training.ranking(
        tmp_path, epochs=None, steps=6, validation={"every_epochs": None, "every_steps": 6}
    )
    training["workers"] = {"num_workers": 2, "cpus_per_worker": 0.5}
    (project / "conf/train.yaml").write_text(yaml.safe_dump(training))
    command = ("--job", "train", "--conf", "conf/train.yaml")
    done = head.submit(project, *command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "training on 2 workers" in done.stdout and "finished: 6 updates" in done.stdout
    record = json.loads((tmp_path / "out/train.json").read_text())
    assert record["state"] == "finished" and record["workers"] == 2
    again = head.submit(project, *command)
    assert again.returncode == 0 and "this training is finished already" in again.stdout, again.stdout + again.stderr
    wrong = head.submit(project, *command, "--set", "batch_size=7", "--set", f"output={tmp_path}/other")
    assert wrong.returncode == 2 and "cannot be shared evenly by 2 workers" in wrong.stdout, wrong.stdout


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (2, 2), (3, 3), (137, 1), (None, 1)])
def test_the_exit_code_is_the_jobs_own(code, expected):
    info = SimpleNamespace(status=JobStatus.SUCCEEDED, driver_exit_code=code, message="m")
    server = object.__new__(JobServer)
    server.address, server._client = "http://head", SimpleNamespace(get_job_info=lambda job_id: info)
    assert server.exit_code("score-1") == expected


def test_an_address_without_a_server_is_said_at_once(tmp_path, capsys):
    (port,) = _free_ports(1)
    env = _clean_env(tmp_path) | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "jobs.submit", "--address", f"http://127.0.0.1:{port}", "--status", "x"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "no Ray job server answers there" in done.stderr and "Traceback" not in done.stderr
