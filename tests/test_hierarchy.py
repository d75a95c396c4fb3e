"""The partition of fine labels into coarse ones (paper, eqs. 1-2) and the manifests that hold it."""

import csv
import re

import pytest

from c2f_lrp.datasets import scenes
from c2f_lrp.hierarchy import Hierarchy
from c2f_lrp.paths import manifest_path

# in the paper's order
COARSE = ("fish", "bird", "reptile", "clothes", "food", "vehicle", "electrical device", "dog")
SIZES = {
    "imagenet_c2f_393.csv": (16, 59, 36, 49, 27, 67, 21, 118),
    "tiny_imagenet_c2f.csv": (1, 4, 2, 15, 10, 12, 4, 6),
    "scenes_c2f.csv": (4, 4, 4, 4, 4, 4, 4, 4),
}


def flat(groups):
    return [value for group in groups for value in group]


@pytest.mark.parametrize("name", SIZES)
def test_manifest_is_a_partition_of_the_expected_size(name):
    hierarchy = Hierarchy.from_csv(manifest_path(name))
    assert hierarchy.coarse_names == COARSE
    assert hierarchy.n_coarse == 8
    assert hierarchy.n_fine == SIZES[name]
    for values in (hierarchy.ids, hierarchy.class_indices):
        assert len(set(flat(values))) == sum(SIZES[name])  # no class lies in two coarse classes
    for i, group in enumerate(hierarchy.ids):
        assert [hierarchy.locate(id_) for id_ in group] == [(i, j) for j in range(len(group))]
        assert len(set(hierarchy.fine_names[i])) == len(group)  # a figure can tell them apart
        assert list(hierarchy.class_indices[i]) == sorted(hierarchy.class_indices[i])


def test_imagenet_has_the_papers_393_classes():
    hierarchy = Hierarchy.from_csv(manifest_path("imagenet_c2f_393.csv"))
    assert sum(hierarchy.n_fine) == 393
    # Places in ImageNet's list of 1000: the first class, the two birds of Figure 2, and one from the far end.
    index = hierarchy.index_by_id()
    assert index["n01440764"] == 0  # tench
    assert index["n01537544"] == 14  # indigo bunting
    assert index["n01580077"] == 17  # jay
    assert index["n07871810"] == 962  # meat loaf
    assert hierarchy.fine_names[1][hierarchy.locate("n01537544")[1]] == "indigo bunting"


def test_tiny_imagenet_lies_within_the_393():
    full = Hierarchy.from_csv(manifest_path("imagenet_c2f_393.csv"))
    tiny = Hierarchy.from_csv(manifest_path("tiny_imagenet_c2f.csv"), known=full.index_by_id())
    assert sum(tiny.n_fine) == 54
    for id_ in flat(tiny.ids):
        i, j = tiny.locate(id_)
        k, m = full.locate(id_)
        assert i == k
        assert tiny.fine_names[i][j] == full.fine_names[k][m]


def test_scenes_manifest_is_what_is_drawn():
    hierarchy = Hierarchy.from_csv(manifest_path("scenes_c2f.csv"))
    assert hierarchy.coarse_names == tuple(scenes.COARSE_NAMES)
    assert hierarchy.fine_names == tuple(tuple(names) for names in scenes.FINE_NAMES)
    assert flat(hierarchy.class_indices) == list(range(32))


GOOD = [
    "wnid,class_index,name,coarse,fine_index",
    "n01440764,0,tench,fish,0",
    "n01443537,1,goldfish,fish,1",
    "n01514668,7,cock,bird,0",
    "n01484850,2,great white shark,fish,2",
]


def written(tmp_path, lines):
    path = tmp_path / "manifest.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_rows_may_come_in_any_order_and_coarse_classes_count_from_their_first(tmp_path):
    lines = [GOOD[0], GOOD[3], GOOD[4], "", GOOD[2], GOOD[1]]
    hierarchy = Hierarchy.from_csv(written(tmp_path, lines))
    assert hierarchy.coarse_names == ("bird", "fish")
    assert hierarchy.fine_names == (("cock",), ("tench", "goldfish", "great white shark"))
    assert hierarchy.class_indices == ((7,), (0, 1, 2))


def test_a_spreadsheets_byte_order_mark_and_spaces_are_no_part_of_a_name(tmp_path):
    lines = ["\ufeff" + GOOD[0], "n01440764, 0, tench, fish , 0", *GOOD[2:]]
    assert Hierarchy.from_csv(written(tmp_path, lines)).coarse_names == ("fish", "bird")


ALL = GOOD[0]
WHOLE = "must be a whole number, 0 or more"
# what is wrong: (line to replace in GOOD, its new text or None to drop it, what the message says of it)
BAD = {
    "missing column": (1, "wnid,class_index,name,coarse", "each once (missing: fine_index; extra: none)"),
    "extra column": (1, f"{ALL},colour", "each once (missing: none; extra: colour)"),
    "column named twice": (1, f"{ALL},name", f"columns {ALL},name: must be {ALL}, each once"),
    "misnamed column": (1, "id,class_index,name,coarse,fine_index", "(missing: wnid; extra: id)"),
    "no column names": (1, None, f"columns n01440764,0,tench,fish,0: must be {ALL}, each once"),
    "cell missing": (3, "n01443537,1,goldfish,fish", f"4 cells, must be 5: {ALL}"),
    "cell too many": (3, "n01443537,1,goldfish,fish,1,red", "6 cells, must be 5"),
    "comma in a name": (5, "n01484850,2,shark, great white,fish,2", "6 cells, must be 5"),
    "empty coarse class": (4, "n01514668,7,cock,,0", "coarse is empty, must be given"),
    "blank coarse class": (4, "n01514668,7,cock,  ,0", "coarse is empty, must be given"),
    "empty name": (4, "n01514668,7,,bird,0", "name is empty, must be given"),
    "empty wnid": (4, ",7,cock,bird,0", "wnid is empty, must be given"),
    "index is a word": (2, "n01440764,zero,tench,fish,0", f"class_index 'zero' {WHOLE}"),
    "index has a point": (2, "n01440764,0.0,tench,fish,0", f"class_index '0.0' {WHOLE}"),
    "index is negative": (2, "n01440764,-1,tench,fish,0", f"class_index '-1' {WHOLE}"),
    "fine index is a word": (2, "n01440764,0,tench,fish,a", f"fine_index 'a' {WHOLE}"),
    "short wnid": (4, "n0151466,7,cock,bird,0", "unknown class 'n0151466', must be a wnid such as n0144"),
    "no wnid": (4, "cock,7,cock,bird,0", "such as n01440764, or 'bird/cock'"),
    "own id elsewhere": (4, "fish/cock,7,cock,bird,0", "unknown class 'fish/cock', must be"),
    "unknown index": (4, "n01514668,1000,cock,bird,0", "unknown class_index 1000 for n01514668, must be"),
    "wnid twice": (4, "n01440764,7,cock,bird,0", "wnid 'n01440764' must be there once, is already on line 2"),
    "index twice": (5, "n01484850,1,shark,fish,2", "class_index 1 must be there once, is already on line 3"),
    "pair twice": (5, "n01484850,2,shark,fish,1", "(coarse, fine_index) ('fish', 1) must be there once, is"),
    "gap": (5, "n01484850,2,shark,fish,3", "leaves a gap, 2 is missing: the 3 fine classes of 'fish'"),
    "from 1": (4, "n01514668,7,cock,bird,1", "leaves a gap, 0 is missing: the 1 fine classes of 'bird'"),
    "index out of order": (5, "n01484850,9,shark,fish,2", "must be smaller than that of n01514668 (line 4)"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_row_is_named_with_its_line_and_what_is_allowed(tmp_path, what):
    line, text, message = BAD[what]
    path = written(tmp_path, GOOD[: line - 1] + ([] if text is None else [text]) + GOOD[line:])
    with pytest.raises(ValueError) as error:
        Hierarchy.from_csv(path)
    assert str(error.value).startswith(f"{path}, line {line}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_later_line_is_counted_with_the_empty_ones_before_it(tmp_path):
    with pytest.raises(ValueError, match="line 6: coarse is empty"):
        Hierarchy.from_csv(written(tmp_path, [*GOOD[:3], "", GOOD[3], "n01484850,2,shark,,2"]))


@pytest.mark.parametrize(("lines", "message"), [([], "columns (none): must"), (GOOD[:1], "no class follows")])
def test_a_file_without_classes(tmp_path, lines, message):
    with pytest.raises(ValueError, match="line 1: " + re.escape(message)):
        Hierarchy.from_csv(written(tmp_path, lines))


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"n01440764": 0, "n01443537": 1}, "line 4: unknown class 'n01514668', must be one of the 2 "),
        ({"n01440764": 0, "n01443537": 3}, "line 3: class_index 1 for n01443537, must be 3"),
    ],
)
def test_classes_that_are_not_among_the_known_ones(tmp_path, known, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Hierarchy.from_csv(written(tmp_path, GOOD), known=known)


def test_locate_names_the_unknown_class_and_the_hierarchy(tmp_path):
    hierarchy = Hierarchy.from_csv(written(tmp_path, GOOD))
    assert hierarchy.locate("n01484850") == (0, 2)
    with pytest.raises(ValueError, match="'n02084071' is not in this hierarchy of 4 fine classes .* fish, bird"):
        hierarchy.locate("n02084071")


def test_a_hierarchy_made_by_hand_counts_its_classes_and_checks_their_sizes():
    hierarchy = Hierarchy(("a", "b"), (("x",), ("y", "z")), (("a/x",), ("b/y", "b/z")))
    assert hierarchy.class_indices == ((0,), (1, 2))
    with pytest.raises(ValueError, match=r"ids holds \(2, 1\) fine classes .*, fine_names \(1, 2\)"):
        Hierarchy(("a", "b"), (("x",), ("y", "z")), (("a/x", "b/y"), ("b/z",)))


def test_an_unknown_manifest_names_those_there_are():
    with pytest.raises(FileNotFoundError, match="no manifest 'cifar.csv', must be one of: .*tiny_imagenet_c2f"):
        manifest_path("cifar.csv")


def test_paper_values_hold_both_tables_in_full():
    with open(manifest_path("paper_values.csv"), newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    cells = {(row["table"], row["attack"], row["eps"], row["measure"]): float(row["value"]) for row in rows}
    assert len(cells) == len(rows) == 2 * 5 * 4 + 3
    measures = {"rho_2", "rho_1", "rho_inf", "fooling_percent"}
    for table, level in (("table_1", "C"), ("table_2", "F")):
        attacks = [(f"LRP{level}", eps) for eps in ("10", "20", "40")] + [
            (f"DF{level}", ""),
            (f"PGD{level}", ""),
        ]
        expected = {(*attack, measure) for attack in attacks for measure in measures}
        assert {key[1:] for key in cells if key[0] == table} == expected
    # One number from each corner of either table, and the printed accuracies.
    assert cells["table_1", "LRPC", "10", "rho_2"] == 0.0294
    assert cells["table_1", "PGDC", "", "rho_inf"] == 0.0101
    assert cells["table_1", "LRPC", "40", "fooling_percent"] == 99.3
    assert cells["table_2", "LRPF", "40", "rho_1"] == 0.0066
    assert cells["table_2", "DFF", "", "rho_inf"] == 0.0029
    assert cells["table_2", "PGDF", "", "fooling_percent"] == 95.7
    printed = {key[3]: value for key, value in cells.items() if key[0] == "classifiers"}
    assert printed == {
        "coarse_accuracy_percent": 96,
        "fine_accuracy_percent_min": 78,
        "fine_accuracy_percent_max": 90,
    }


def test_all_bad_lines_are_named_at_once_each_with_its_first_problem(tmp_path):
    lines = [ALL, "n01440764,0,tench,fish,0", "n01440764,0,x,fish,1", "n01514668,seven,,b/d,0", "short", "a/b,9,b,a/,0"]
    path = written(tmp_path, lines)
    with pytest.raises(ValueError) as error:
        Hierarchy.from_csv(path)
    assert str(error.value) == (
        f"{path}, line 3: wnid 'n01440764' must be there once, is already on line 2; "
        "line 4: name is empty, must be given; "
        f"line 5: 1 cells, must be 5: {ALL}; "
        "line 6: coarse 'a/' must consist of letters, digits, spaces, - and _"
    )


@pytest.mark.parametrize("n", [10, 11, 13])
def test_of_many_bad_lines_ten_are_named_and_the_rest_counted(tmp_path, n):
    path = written(tmp_path, ["folder,coarse", "a,x", "b,y", *(f"c{k}," for k in range(n))])
    with pytest.raises(ValueError) as error:
        Hierarchy.from_folders_csv(path)
    assert re.findall(r"line (\d+): coarse is empty", str(error.value)) == [str(4 + k) for k in range(10)]
    rest = {10: "must be given", 11: "; and 1 more line", 13: "; and 3 more lines"}[n]
    assert str(error.value).endswith(rest) and "\n" not in str(error.value)
