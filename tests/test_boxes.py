"""data_manifests/imagenet_lite_boxes.csv: boxes drawn by eye on 64 photographs of the paper's 393 classes.

The photographs are not part of the project, so what is tested is the list itself: that each row can be a box
in a photograph of its class. `data_manifests/make_manifests.py` says how the boxes were drawn.
"""

import csv

import pytest

from c2f_lrp.datasets import splits
from c2f_lrp.hierarchy import Hierarchy
from c2f_lrp.paths import manifest_path

COLUMNS = "name width height x0 y0 x1 y1 secondary_coarse sx0 sy0 sx1 sy1".split()
HIERARCHY = Hierarchy.from_csv(manifest_path("imagenet_c2f_393.csv"))

with open(manifest_path("imagenet_lite_boxes.csv"), newline="", encoding="utf-8") as _file:
    _reader = csv.DictReader(_file)
    ROWS = list(_reader)
    HEADING = _reader.fieldnames
NAMES = [row["name"] for row in ROWS]
SECONDARY = [row for row in ROWS if row["secondary_coarse"]]


def box(row, prefix=""):
    return [int(row[prefix + column]) for column in ("x0", "y0", "x1", "y1")]


def check_inside(row, corners):
    """Corners belong to the box, so that the last column and row of a photograph are width - 1 and height - 1."""
    x0, y0, x1, y1 = corners
    width, height = int(row["width"]), int(row["height"])
    assert 0 <= x0 <= x1 < width
    assert 0 <= y0 <= y1 < height
    assert 0.01 <= (x1 - x0 + 1) * (y1 - y0 + 1) / (width * height) <= 1


def test_at_least_forty_photographs_have_a_box_and_none_has_two():
    assert HEADING == COLUMNS
    assert len(ROWS) >= 40
    assert len(set(NAMES)) == len(NAMES)


def test_photographs_are_listed_in_the_projects_own_order():
    assert NAMES == sorted(NAMES, key=splits.position)


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_photograph_is_of_a_class_of_the_manifest_and_its_box_lies_inside(row):
    wnid, file = row["name"].split("/")
    HIERARCHY.locate(wnid)  # raises for a class that is none of the 393
    assert file.startswith(wnid)
    check_inside(row, box(row))


@pytest.mark.parametrize("row", SECONDARY, ids=[row["name"] for row in SECONDARY])
def test_second_object_is_of_another_coarse_class_and_its_box_lies_inside(row):
    coarse, _ = HIERARCHY.locate(row["name"].split("/")[0])
    assert row["secondary_coarse"] in HIERARCHY.coarse_names
    assert row["secondary_coarse"] != HIERARCHY.coarse_names[coarse]
    check_inside(row, box(row, "s"))


def test_without_a_second_object_its_box_is_empty():
    for row in ROWS:
        if not row["secondary_coarse"]:
            assert not any(row[column] for column in COLUMNS[8:]), row["name"]


def test_there_are_photographs_with_a_second_object():
    assert SECONDARY
