"""Grids: independent trainings in folders of their own, one table, nothing lost when one fails."""

import csv
from pathlib import Path

import pytest
import yaml

from aistudio.config import load_train_config, load_trainings
from aistudio.errors import AIStudioError, ConfigError
from aistudio.jobs.train import main
from aistudio.training import layout, programs
from aistudio.training.team import Team
from tests.training import tiny_training as tiny
from tests.training.test_resume import weights


def conf_with(tmp: Path, grid: object, **changes: object) -> Path:
    path = tmp / "grid.yaml"
    data = tiny.embedder(tmp, steps=2, epochs=None) | {"grid": grid} | changes
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


GRID = {"optimiser.learning_rate": [0.01, 0.001], "seed": [0, 1]}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f))


def test_every_combination_is_a_training_of_its_own(tmp_path, capsys):
    conf = conf_with(tmp_path, GRID)
    assert main(["--conf", str(conf)]) == 0
    out = tmp_path / "out"
    names = [f"optimiser.learning_rate={rate}__seed={seed}" for rate in (0.01, 0.001) for seed in (0, 1)]
    rows = table(out / "grid.csv")
    assert [row["run"] for row in rows] == names and {row["state"] for row in rows} == {"finished"}
    summary = table(out / "grid_summary.csv")
    assert len(summary) == 2 and {row["trainings"] for row in summary} == {"2"}
    for row in summary:
        mine = [float(r["map_at_r"]) for r in rows if r["optimiser.learning_rate"] == row["optimiser.learning_rate"]]
        assert float(row["map_at_r_mean"]) == pytest.approx(sum(mine) / 2)
        assert [float(row["map_at_r_min"]), float(row["map_at_r_max"])] == [min(mine), max(mine)]
    page = (out / "report/index.html").read_text(encoding="utf-8")
    assert "4 of 4 trainings finished" in page and f"../{names[0]}/report/index.html" in page
    assert (
        "| 2 |" in (out / "grid.md").read_text(encoding="utf-8")
        and "| optimiser.learning_rate |" in capsys.readouterr().out
    )
    alone = yaml.safe_load(conf.read_text("utf-8")) | {"output": str(tmp_path / "alone"), "seed": 1}
    alone.pop("grid")
    programs.train(tiny.parsed(alone | {"optimiser": {"learning_rate": 0.001}}), Team(), print, "-")
    mine, theirs = weights(str(tmp_path / "alone")), weights(str(out / names[3]))
    assert all((mine[name] == theirs[name]).all() for name in mine), "a fresh model and seed, whatever came before"
    capsys.readouterr()
    assert main(["--conf", str(conf), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "grid: 4 trainings" in said and said.count(": finished") == 4


def test_one_that_fails_does_not_end_the_others_and_is_said(tmp_path, capsys):
    conf = conf_with(tmp_path, {"loss": [{"name": "nosuch"}, {"name": "supcon"}]})
    assert main(["--conf", str(conf)]) == 1
    rows = table(tmp_path / "out/grid.csv")
    assert rows[0]["state"].startswith("failed: loss 'nosuch' is not known") and rows[1]["state"] == "finished"
    assert "failed: loss=" in capsys.readouterr().out
    assert "1 of 2 trainings finished, 1 failed" in (tmp_path / "out/report/index.html").read_text(encoding="utf-8")


def test_typed_again_it_goes_on_with_what_is_left(tmp_path, monkeypatch):
    conf = conf_with(tmp_path, {"seed": [0, 1]})
    real, seen = programs.train, []

    def once(settings, *more):
        seen.append(settings.seed)
        if settings.seed == 1 and len(seen) == 2:
            raise AIStudioError("the disk is full")
        return real(settings, *more)

    monkeypatch.setattr(programs, "train", once)
    assert [main(["--conf", str(conf)]), main(["--conf", str(conf)])] == [1, 0]
    attempts = [len(list((tmp_path / "out" / f"seed={s}" / "attempts").iterdir())) for s in (0, 1)]
    assert attempts == [1, 1], "what is finished is not begun again"
    assert (tmp_path / "out/seed=1" / layout.TRAIN).exists()


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ([1, 2], "expected settings with lists of values"),
        ({"seed": 3}, r"grid.seed: expected a list of values \(found 3\)"),
        ({"seed": []}, "grid.seed: expected a list of values"),
        ({"seed": [1, 1]}, "a list has a value twice"),
        ({"output": ["a", "b"]}, "output cannot be varied"),
        ({"sead": [1, 2]}, r"\(grid: sead=1\): sead is not a setting; did you mean seed"),
        ({"seed.x": [1, 2]}, "grid: seed.x: seed is a value, not a section"),
        ({"seed": list(range(40)), "epochs": list(range(1, 40))}, "1,560 trainings; at most 1,000"),
    ],
)
def test_grids_that_are_none(grid, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        load_trainings(conf_with(tmp_path, grid, seed=0))


def test_names_say_the_values_and_stay_short(tmp_path):
    [run, *_] = load_trainings(conf_with(tmp_path, {"loss": [{"name": "triplet", "options": {"margin": 0.2}}]}))
    assert run.name.startswith("loss=-name-triplet-options-") and len(run.name) < 120
    assert run.settings.output.endswith(f"/out/{run.name}")
    with pytest.raises(ConfigError, match="makes 2 trainings of it"):
        load_train_config(conf_with(tmp_path, {"seed": [0, 1]}))


def test_the_example_conf_is_a_grid(request):
    runs = load_trainings(request.config.rootpath / "conf/train/clothing_grid.yaml")
    assert len(runs) == 18 and len({run.settings.output for run in runs}) == 18
