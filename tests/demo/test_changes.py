"""What may be asked of drawn pictures, and the query table of a written catalogue."""

import csv
from typing import Any

from aistudio.demo.catalogue import write_catalogue
from aistudio.demo.changes import CHANGES, questions
from aistudio.demo.composed import PER_KIND, read_truth, write_questions
from aistudio.demo.draw import Attributes, draw_image
from aistudio.demo.sights import SIGHTS


def shown(**changes: Any) -> Attributes:
    values = {
        "light": "day", "weather": "clear", "brightness": 0.5, "saturation": 0.2, "subject_size": 0.5,
        "off_centre": 0.1, "num_people": 0, "badge": False,
    }  # fmt: skip
    return Attributes(**values | changes)


def test_the_right_answers_are_other_pictures_of_the_sight_that_show_it():
    pictures = [
        ("a", shown(num_people=2)),
        ("a", shown(light="night", weather="snow", subject_size=0.65)),
        ("b", shown(light="night")),
        ("a", shown(light="night", num_people=1)),
    ]
    found = {(q.reference, q.change.kind, q.change.name): q.right for q in questions(pictures)}
    of_first = {key[1:]: right for key, right in found.items() if key[0] == 0}
    assert of_first == {
        ("hour", "night"): (1, 3), ("weather", "snow"): (1,), ("passers-by", "none"): (1,),
        ("composition", "closer"): (1,),
    }  # fmt: skip
    assert not any(key[0] == 2 for key in found), "its sight has no other picture"
    assert found[1, "composition", "farther"] == (0, 3) and found[1, "passers-by", "some"] == (0, 3)
    assert {kind for _, kind, _ in found} <= {change.kind for change in CHANGES}
    assert all(len(set(change.texts)) == len(change.texts) >= 5 for change in CHANGES)
    assert not any(change.can_be_asked(shown()) for change in CHANGES if change.name in ("day", "clear", "none"))


def test_a_catalogues_questions_name_rows_of_its_run(tmp_path):
    write_catalogue(tmp_path, seed=3, num_sights=2, images_per_sight=5, num_pairs=2)
    truth = read_truth(tmp_path)
    assert len(truth) == 10 and next(iter(truth.values())) == (SIGHTS[0].item_id, draw_image(SIGHTS[0], 3, 0)[1])
    scored = {url: f"row {i}" for i, url in enumerate(truth) if i}  # the first picture failed
    num = write_questions(tmp_path / "q.csv", tmp_path, scored)
    with (tmp_path / "q.csv").open() as f:
        rows = list(csv.DictReader(f))
    assert num == len(rows) > 4 and len({row["query_id"] for row in rows}) == num
    of_row = {name: truth[url] for url, name in scored.items()}
    for row in rows:
        sight, _ = of_row[row["row_id"]]
        right = row["relevant"].split("|")
        assert row["row_id"] not in right and all(of_row[name][0] == sight for name in right)
        if row["change"] == "hour":
            assert len({of_row[name][1].light for name in right}) == 1
    kinds = [row["change"] for row in rows]
    assert all(kinds.count(kind) <= PER_KIND for kind in kinds)
