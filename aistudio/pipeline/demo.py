"""The demo: draw a catalogue, serve it over HTTP on this machine, run the whole job on it, twice.

Once over its recall manifest (every picture of every sight, some broken on purpose), once over its A/B pairs. The first
run also answers composed questions ("the same place at night"), whose right answers the drawings know.
Nothing is special about these runs but the address permission and the port.
"""

from pathlib import Path
from typing import Any, NamedTuple

from aistudio.config import JobConfig, load_config
from aistudio.demo.catalogue import DEMO_SEED, CatalogueInfo, write_catalogue
from aistudio.demo.composed import write_questions
from aistudio.demo.server import CatalogueServer
from aistudio.errors import ConfigError
from aistudio.evaluation.aggregate import aggregate
from aistudio.pipeline.cluster import connect
from aistudio.pipeline.report import write_report
from aistudio.pipeline.score import Result, prepare, score
from aistudio.pipeline.search import plan_search, run_search
from aistudio.pipeline.select import select_run
from aistudio.runs import layout
from aistudio.schema import Status
from aistudio.store import open_store

CONFS = {"sights": "demo", "pairs": "demo_pairs"}  # built-in ones
SEARCH = "composed"  # name of the search, and of the composer among the run's encoders
# a sight's other pictures are the answers, so only the asking picture itself is left out
SEARCH_SETTINGS = ("search.per=row", "search.leave_out=[row]", "search.relevant_by=row_id")


class DemoRun(NamedTuple):
    """One of the demo's two runs."""

    result: Result
    metrics: dict[str, dict[str, Any]]
    report: str  # path of index.html
    folder: str


class Composed(NamedTuple):
    """What was asked with a picture and a text."""

    num_questions: int
    hit_rate_at_1: dict[str, Any]  # value, low, high, n


class Demo(NamedTuple):
    """Everything that the demo did."""

    catalogue: CatalogueInfo
    runs: dict[str, DemoRun]
    composed: Composed | None  # None: so small a catalogue that nothing can be asked

    @property
    def as_expected(self) -> bool:
        """The ledgers add up, and the broken pictures ended as they had to."""
        whole = all(run.result.ledger.complete for run in self.runs.values())
        return whole and self.runs["sights"].result.ledger.counts == self.catalogue.expected_status


def run_demo(
    folder: str | Path,
    *,
    seed: int = DEMO_SEED,
    num_sights: int | None = None,
    images_per_sight: int = 10,
    num_pairs: int = 400,
    say: Any = print,
) -> Demo:
    """Draw, serve, score, aggregate, select, report below `folder`; earlier results there are replaced.

    Args:
        seed: equal seeds draw equal pictures; those of different seeds share none.
        num_sights, images_per_sight, num_pairs: of the catalogue; None: all sights.
        say: called with one line per step.

    Raises:
        ConfigError: no such catalogue can be drawn.
    """
    catalogue = Path(folder) / "catalogue"
    say(f"drawing the catalogue into {catalogue} …")
    try:
        info = write_catalogue(catalogue, seed, num_sights, images_per_sight, num_pairs)
    except ValueError as e:  # a negative seed, more pairs than the pictures form
        raise ConfigError(f"the catalogue cannot be drawn: {e}") from None
    say(f"{info.num_images} pictures of {info.num_sights} sights, {info.num_rows} rows, {info.num_pairs} pairs")
    manifests = {"sights": info.recall_manifest, "pairs": info.pairs_manifest}
    with CatalogueServer(catalogue) as server:
        configs = {
            name: load_config(conf, _overrides(Path(folder) / name, catalogue / manifests[name], server))
            for name, conf in CONFS.items()
        }
        say(f"serving it on {server.url}")
        with connect(configs["sights"].engine) as resources:
            say(f"Ray: {resources}")
            results = {name: _score(name, config, say) for name, config in configs.items()}
            composed = _ask(configs["sights"].output, catalogue, say)
    return Demo(info, {name: _finish(configs[name], result, say) for name, result in results.items()}, composed)


def _overrides(output: Path, manifest: Path, server: CatalogueServer) -> list[str]:
    [(prefix, target)] = server.url_map.items()
    return [
        f"manifest.path={manifest}",
        f"output={output}",
        f'download.url_map={{"{prefix}": "{target}"}}',
        "download.allow_private_addresses=true",
        "start_over=true",
    ]


def _score(name: str, config: JobConfig, say: Any) -> Result:
    say(f"\nscoring {name} …")
    return score(prepare(config))


def _ask(run: str, catalogue: Path, say: Any) -> Composed | None:
    """Ask composed questions of a run by the ordinary search; its results lie in the run, its page in the report."""
    store = open_store(run)
    rows = [store.read_table(key, ["row_id", "image_url", "status"]).to_pylist() for key in layout.score_keys(store)]
    scored = {row["image_url"]: row["row_id"] for part in rows for row in part if row["status"] == Status.OK}
    table = catalogue / "composed.csv"
    num = write_questions(table, catalogue, scored)
    if not num:
        return None
    say(f"\nasking {num} composed questions …")
    plan = plan_search(run, SEARCH, SEARCH_SETTINGS, model=SEARCH, queries=str(table))
    metrics = run_search(plan).metrics
    return Composed(num, next(m for name, m in metrics.items() if name.endswith("hit_rate@1")))


def _finish(config: JobConfig, result: Result, say: Any) -> DemoRun:
    store = open_store(config.output, config.store)
    metrics = aggregate(store, config.metrics)["metrics"]
    select_run(store, config)
    report = write_report(store, config.report)
    return DemoRun(result, metrics, report, config.output)
