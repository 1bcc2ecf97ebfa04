"""Plans for the clusters there are: never more than there is, never a deadlock, growth where it is possible."""

import pytest

from aistudio.config import EngineSettings
from aistudio.errors import ConfigError
from aistudio.pipeline.limits import usable_cpus
from aistudio.pipeline.plan import Plan, Resources, local_resources, make_plan, memory_warning, needed_bytes

LAPTOP = Resources(2, 0, 1)
GPU_BOX = Resources(16, 1, 1)
CLUSTER = Resources(32 + 8 * 8, 8, 12)  # a head without CPUs, four CPU and eight GPU workers


def plan(resources: Resources, **settings) -> Plan:
    return make_plan(EngineSettings(**settings), resources)


def cpus(p: Plan, *, least: bool = False) -> float:
    actors, fetchers = (p.min_actors, p.min_fetchers) if least else (p.num_actors, p.num_fetchers)
    return actors * p.cpus_per_actor + fetchers * p.cpus_per_fetcher


def test_two_cores_run_one_pool_of_whole_jobs():
    p = plan(LAPTOP)
    assert (p.kind, p.device, p.num_actors, p.num_fetchers, p.gpus_per_actor) == ("fused", "cpu", 2, 0, 0)
    assert p.torch_threads == 1 and p.bundles() == [{"CPU": 1.0}]


def test_one_gpu_gets_one_model_and_eight_fetchers():
    p = plan(GPU_BOX)
    assert (p.kind, p.device, p.num_actors, p.num_fetchers, p.batch_size) == ("staged", "cuda", 1, 8, 0)
    assert p.bundles() == [{"CPU": 0.5, "GPU": 1.0}, {"CPU": 1.0}]


def test_a_cluster_uses_all_its_gpus_and_cpus():
    p = plan(CLUSTER)
    assert (p.num_actors, p.num_fetchers) == (8, 64) and cpus(p) <= CLUSTER.cpus


def test_fractions_of_a_gpu_make_more_actors_but_no_more_fetchers_a_gpu():
    p = plan(GPU_BOX, num_gpus_per_actor=0.5)
    assert (p.num_actors, p.gpus_per_actor, p.num_fetchers) == (2, 0.5, 8)


@pytest.mark.parametrize("cpus_there", [1, 1.5, 2, 3, 4, 16])
@pytest.mark.parametrize("gpus", [0, 0.5, 1, 2, 8])
def test_both_kinds_of_actors_always_fit_side_by_side(cpus_there, gpus):
    p = plan(Resources(cpus_there, gpus, 1), plan="staged", num_gpus_per_actor=0.5)
    assert p.num_actors >= 1 and p.num_fetchers >= 1
    assert cpus(p) <= cpus_there and p.num_actors * p.gpus_per_actor <= gpus


@pytest.mark.parametrize("nodes", [1, 2, 3])
@pytest.mark.parametrize("actors", [1, 2, 3, 8])
def test_model_threads_of_a_node_are_not_more_than_its_cores(nodes, actors):
    p = plan(Resources(8 * nodes, 0, nodes), num_actors=actors)
    assert p.torch_threads >= 1 and p.torch_threads * -(-actors // nodes) <= 8
    assert plan(Resources(8, 0, 1), num_actors=1).torch_threads == 8


def test_pools_reach_from_what_is_there_to_what_can_be_added():
    p = plan(Resources(8, 0, 2, max_cpus=136, max_gpus=8))
    assert (p.kind, p.device, p.min_actors, p.num_actors, p.min_fetchers, p.num_fetchers) == (
        "staged", "cuda", 1, 8, 7, 64)  # fmt: skip
    assert cpus(p) <= 136 and cpus(p, least=True) <= 8
    assert "1 to 8 model actor(s)" in " ".join(p.lines())
    fused = plan(Resources(0, 0, 1, max_cpus=64))
    assert (fused.kind, fused.min_actors, fused.num_actors) == ("fused", 1, 64)


@pytest.mark.parametrize(
    ("resources", "settings", "message"),
    [
        (LAPTOP, {"num_actors": 3}, "need 3 CPUs and 0 GPUs at once, the cluster has 1 node"),
        (GPU_BOX, {"num_actors": 2}, "need 9|2 GPUs at once"),
        (GPU_BOX, {"num_gpus_per_actor": 2}, "2 GPUs at once"),
        (GPU_BOX, {"num_fetchers": 16}, "need 16.5 CPUs"),
        (Resources(0, 0, 1), {}, "no CPUs for tasks.*start worker nodes"),
        (Resources(4, 0, 1, max_cpus=8), {"num_actors": 9}, "need 9 CPUs"),
    ],
)
def test_what_can_never_be_had_is_refused_with_the_numbers(resources, settings, message):
    with pytest.raises(ConfigError, match=message):
        plan(resources, **settings)


def test_settings_win():
    p = plan(GPU_BOX, batch_size=7, device="cpu", num_fetchers=3, shards_in_flight=5)
    assert (p.batch_size, p.device, p.num_fetchers, p.shards_in_flight) == (7, "cpu", 3, 5)


def test_a_gpus_batch_size_is_left_to_its_actor_unless_it_is_set():
    auto, staged_cpu = plan(GPU_BOX), plan(GPU_BOX, device="cpu")
    assert auto.batch_size == 0 and "batches of what the GPU takes" in " ".join(auto.lines())
    assert plan(LAPTOP).batch_size == staged_cpu.batch_size == 16 and "batches of 16" in " ".join(staged_cpu.lines())
    assert plan(GPU_BOX, batch_size=300).batch_size == 300


def test_this_machine_has_its_cores():
    assert local_resources().cpus >= 1 and local_resources().nodes == 1
    assert local_resources().cpus == usable_cpus()


GB = 1_000_000_000


@pytest.mark.parametrize(
    ("memory", "weights", "actors"),
    [(0, 0, 8), (64 * GB, 0, 8), (3 * GB, 0, 3), (1.5 * GB, 0, 1), (GB // 2, 0, 1), (6 * GB, 0.7 * GB, 4)],
)
def test_memory_limits_the_actors_of_a_local_run(memory, weights, actors):
    has = Resources(8, 0, 1, memory=int(memory))
    assert make_plan(EngineSettings(), has, int(weights)).num_actors == actors
    assert make_plan(EngineSettings(num_actors=8), has, int(weights)).num_actors == 8  # settings win


@pytest.mark.parametrize("memory", [GB, 3 * GB, 6 * GB, 64 * GB])
def test_memory_limits_actors_and_fetchers_together(memory):
    p = make_plan(EngineSettings(), Resources(16, 2, 1, memory=memory), GB)
    assert p.num_actors >= 1 and p.num_fetchers >= 1
    least = p.num_actors == 1 and p.num_fetchers == 1
    assert least or needed_bytes(p, GB) <= memory
    assert bool(memory_warning(p, Resources(16, 2, 1, memory=memory), GB)) == (needed_bytes(p, GB) > memory)


def test_a_cluster_whose_memory_is_not_known_is_not_warned_of():
    assert memory_warning(plan(LAPTOP), LAPTOP, 100 * GB) is None
    assert "3.0 GB of memory" in str(Resources(2, 0, 1, memory=3 * GB)) and "memory" not in str(LAPTOP)
