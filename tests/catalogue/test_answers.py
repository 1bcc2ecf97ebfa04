"""aistudio/catalogue/answers.py: both kinds, wrong rows, duplicates, files that are something else."""

import pytest

from aistudio.catalogue.answers import read_answers
from aistudio.errors import ManifestError

PAIRS = "respondent,question,group,left,right,choice\n"


def test_pairs_with_wrong_rows_set_aside(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        "\ufeff"
        + PAIRS
        + "r1,q1,wild,a,b,a\nr1,q2,,a,b,tie\nr1,q3,wild,a,b,c\nr1,q4,wild,a,a,a\n\nr1,q5\n,q6,w,a,b,a\n"
        'r2,"q,\n1",wild,b,a,a\n',
        encoding="utf-8",
    )
    table = read_answers(path)
    assert (table.kind, len(table)) == ("pairs", 3)
    assert table.columns["group"] == ["wild", "all", "wild"] and table.columns["question"][2] == "q,\n1"
    assert [(r.line, r.reason.split()[0]) for r in table.rejected] == [
        (4, "choice"),
        (5, "left"),
        (7, "2"),
        (8, "respondent"),
    ]


def test_ranks(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("respondent,question,system,rank,note\nr,q,a,1,fine\nr,q,b,nan,\nr,q,c,0,\nr,q,d,2.5,\nr,q,e,x,\n")
    table = read_answers(path)
    assert table.kind == "ranks" and table.columns["system"] == ["a", "d"]
    assert table.columns["note"] == ["fine", ""] and table.columns["group"] == ["all", "all"]
    assert len(table.rejected) == 3


def test_a_folder_of_files_and_the_same_file_twice(tmp_path):
    (tmp_path / "1.csv").write_text(PAIRS + "r1,q1,g,a,b,a\n")
    (tmp_path / "1 (1).csv").write_text(PAIRS + "r1,q1,g,a,b,a\n")
    (tmp_path / "2.csv").write_text(PAIRS.replace("group,", "") + "r1,q1,a,b,b\nr2,q1,b,a,b\n")
    table = read_answers(tmp_path)
    assert table.columns["respondent"] == ["r1", "r2"] and table.columns["choice"] == ["a", "b"]
    (rejected,) = table.rejected
    assert (rejected.file, rejected.line) == ("2.csv", 2) and "second answer" in rejected.reason


def test_checks_are_answers_of_their_own(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("respondent,question,left,right,choice,check\nr,q,a,b,a,\nr,q,b,a,b,repeat\n")
    assert read_answers(path).columns["check"] == ["", "repeat"]


@pytest.mark.parametrize(
    "content", ["", "x,y\n1,2\n", "respondent,question,left,right\n", "\xff\xfe\x00", PAIRS.replace("group", "left")]
)
def test_what_is_no_table_of_answers_is_refused(tmp_path, content):
    path = tmp_path / "a.csv"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ManifestError, match="not a table of answers"):
        read_answers(path)


def test_nothing_there_and_both_kinds(tmp_path):
    with pytest.raises(ManifestError, match="no answers"):
        read_answers(tmp_path)
    with pytest.raises(ManifestError, match="no such file"):
        read_answers(tmp_path / "none.csv")
    (tmp_path / "p.csv").write_text(PAIRS)
    (tmp_path / "r.csv").write_text("respondent,question,system,rank\n")
    with pytest.raises(ManifestError, match="both kinds"):
        read_answers(tmp_path)


def test_where_keeps_columns_together(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(PAIRS + "r1,q1,g,a,b,a\nr2,q1,g,a,b,b\n")
    kept = read_answers(path).where([False, True])
    assert kept.columns["respondent"] == ["r2"] and kept.origin == [("a.csv", 3)]
