"""`aistudio survey`: from a table of recommendations to a questionnaire, from answers to a page."""

import numpy as np
import pytest
from PIL import Image

from aistudio.errors import ConfigError, ManifestError
from aistudio.jobs.survey import main


def lists(folder, rows):
    for i in range(6):
        Image.fromarray(np.full((40, 30, 3), 40 * i, np.uint8)).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    path = folder / "lists.csv"
    path.write_text("question,system,rank,image,group\n" + "".join(f"{r}\n" for r in rows), encoding="utf-8")
    return str(path)


def rows_of(question, query="0.png", first="1.png"):
    return [
        f"{question},query,,{query},g",
        f"{question},a,2,2.png,g",
        f"{question},a,1,{first},g",
        f"{question},b,1,3.png,g",
    ]


def test_make(tmp_path, capsys):
    rows = [
        *rows_of("q1"),
        *rows_of("q2", "4.png"),
        *rows_of("q3", first="broken.png"),
        "q4,a,1,1.png,g",
        "q5,a,x,1.png,g",
    ]
    assert main(["make", "--lists", lists(tmp_path, rows), "--out", str(tmp_path / "site")]) == 0
    said = capsys.readouterr().out
    assert "2 questions" in said and "question q3" in said and "question q4: no rows of b, query" in said
    data = (tmp_path / "site/data/questionnaire.js").read_text(encoding="utf-8")
    assert '"repeat"' in data and '"copy"' in data and len(list((tmp_path / "site/pictures").iterdir())) >= 5


def test_make_draws_n_questions_by_the_seed(tmp_path):
    path = lists(tmp_path, [r for i in range(8) for r in rows_of(f"q{i}")])

    def drawn(seed):
        main(
            ["make", "--lists", path, "--n", "3", "--seed", str(seed), "--out", str(tmp_path / "s"), "--mode", "ranks"]
        )
        return (tmp_path / "s/data/questionnaire.js").read_bytes()

    assert drawn(1) == drawn(1) != drawn(2)


def test_analyse(tmp_path, capsys):
    rows = [f"r{r},q{q},g,a,b,{'a' if (q + r) % 3 else 'b'},," for r in range(5) for q in range(6)]
    rows += ["r0,q0,g,b,a,a,repeat,", "r1,c,g,copy,random,random,copy,copy", "r2,q1,g,a,b,zzz,,"]
    answers = tmp_path / "answers"
    answers.mkdir()
    (answers / "1.csv").write_text("respondent,question,group,left,right,choice,check,right_answer\n" + "\n".join(rows))
    assert main(["analyse", "--answers", str(answers), "--samples", "20", "--out", str(tmp_path / "r")]) == 0
    said = capsys.readouterr().out
    assert "a was preferred to b in 66.7%" in said and "1.csv, line 34: choice 'zzz'" in said
    html = (tmp_path / "r/survey.html").read_text(encoding="utf-8")
    assert "Without them:" in html and "copy of c" in html and "zzz" in html


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        (["make", "--out", "x"], ConfigError, "expected one of --runs and --lists"),
        (["analyse", "--out", "x"], ConfigError, "--answers is missing"),
        (["analyse", "--answers", "/no/such", "--out", "x"], ManifestError, "no such file"),
        (["make", "--lists", "/no/such.csv", "--out", "x"], ManifestError, "cannot be read"),
        (["make", "--lists", "x", "--n", "0", "--out", "x"], ConfigError, "--n"),
    ],
)
def test_mistakes_have_one_message(args, error, message):
    with pytest.raises(error, match=message) as e:
        main(args)
    assert e.value.exit_code == 2


def test_one_system_or_no_pictures_cannot_be_asked_about(tmp_path):
    one = lists(tmp_path, ["q,query,,0.png,g", "q,a,1,1.png,g"])
    with pytest.raises(ConfigError, match="1 systems"):
        main(["make", "--lists", one, "--out", str(tmp_path / "s")])
    broken = lists(tmp_path, rows_of("q", "broken.png"))
    with pytest.raises(ConfigError, match="no question whose pictures"):
        main(["make", "--lists", broken, "--out", str(tmp_path / "s")])
