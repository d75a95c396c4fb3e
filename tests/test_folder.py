"""The profile folder: anybody's image folders and their own two-level hierarchy, from a csv to a table."""

import dataclasses

import pandas as pd
import pytest
import torch
from PIL import Image

import c2f_lrp
from c2f_lrp import cli, paths
from c2f_lrp.datasets import imagenet, scenes
from c2f_lrp.hierarchy import Hierarchy
from c2f_lrp.profiles import PROFILES, get_profile


def csv_of(tmp_path, *lines):
    path = tmp_path / "my.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_the_short_form_numbers_classes_in_the_order_of_their_lines(tmp_path):
    path = csv_of(tmp_path, "coarse,folder", "pets,cats/tabby", "cars,van", "pets, dogs ", "")
    hierarchy = Hierarchy.from_folders_csv(path)
    assert hierarchy.coarse_names == ("pets", "cars") and hierarchy.fine_names == (("tabby", "dogs"), ("van",))
    assert hierarchy.ids == (("cats/tabby", "dogs"), ("van",)) and hierarchy.class_indices == ((0, 1), (2,))
    named = Hierarchy.from_folders_csv(csv_of(tmp_path, "folder,coarse,name", "n1,pets,cat", "n2,cars,van"))
    assert named.fine_names == (("cat",), ("van",)) and named.ids == (("n1",), ("n2",))


def test_a_whole_manifest_is_read_too():
    path = paths.REPOSITORY / "data_manifests" / "tiny_imagenet_c2f.csv"
    assert Hierarchy.from_folders_csv(path) == Hierarchy.from_csv(path)


BAD = {
    "other columns": (["class,group", "a,b"], "line 1: columns class,group: must be folder,coarse, each once"),
    "empty cell": (["folder,coarse", "a,b", "c,"], "line 3: coarse is empty, must be given"),
    "up and away": (["folder,coarse", "../a,b", "c,d"], "line 2: folder '../a' must lie below the folder of photog"),
    "absolute": (["folder,coarse", "/a,b", "c,d"], "line 2: folder '/a' must lie below"),
    "folder twice": (["folder,coarse", "a,b", "a/,d"], "line 3: folder 'a' must be there once, is already on line 2"),
    "name twice": (["folder,coarse", "x/a,b", "y/a,b"], "line 3: (coarse, name) ('b', 'a') must be there once"),
    "one coarse class": (["folder,coarse", "a,b", "c,b"], "all classes are of 'b', must be two coarse classes or more"),
    "no file name": (["folder,coarse", "a,b/c", "d,e"], "line 2: coarse 'b/c' must consist of letters, digits"),
    "nothing": (["folder,coarse"], "line 1: no class follows the column names"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_line_is_named(tmp_path, what):
    lines, message = BAD[what]
    path = csv_of(tmp_path, *lines)
    with pytest.raises(ValueError) as error:
        Hierarchy.from_folders_csv(path)
    assert str(error.value).startswith(f"{path}, line ") and message in str(error.value)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes") / "exported"
    assert cli.main(["data", "export-scenes", "--out", str(folder), "-n", "320"]) == 0
    return folder


def test_exported_scenes_are_the_embedded_ones(exported):
    drawn = scenes.read("train", 320)
    hierarchy = Hierarchy.from_folders_csv(exported / "hierarchy.csv")
    assert hierarchy.coarse_names == scenes.COARSE_NAMES and hierarchy.fine_names == scenes.FINE_NAMES
    parts = [
        imagenet.read(imagenet.find(exported, hierarchy, split, 64, inside=""), split)
        for split in ("train", "validation")
    ]
    assert sum(map(len, parts)) == 320
    for images in parts:
        for pixels, coarse, fine, name in zip(images.pixels, images.coarse, images.fine, images.names, strict=True):
            row = int(name.rpartition("/")[2].removesuffix(".png"))
            assert torch.equal(pixels, drawn.pixels[row]) and (coarse, fine) == (drawn.coarse[row], drawn.fine[row])


def test_a_folder_that_holds_something_is_not_written_to(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("")
    assert cli.main(["data", "export-scenes", "--out", str(tmp_path), "-n", "4"]) == 1
    assert "is not empty; name a new folder with --out" in capsys.readouterr().err


def test_classes_without_a_folder_are_named_and_nothing_is_written(exported, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("C2F_LRP_WEIGHTS", str(tmp_path / "none"))
    path = csv_of(tmp_path, "folder,coarse", "fish/shark,fish", "cats/tabby,cats")
    arguments = ["--profile", "folder", "--root", str(exported), "--hierarchy", str(path)]
    assert cli.main(["train", *arguments, "--out", str(tmp_path / "mine")]) == 1
    assert "1 of the class folders are not in" in (error := capsys.readouterr().err) and "cats/tabby" in error
    assert not list((tmp_path / "mine").iterdir())


def test_from_a_folder_to_a_table(exported, tmp_path, monkeypatch, capsys):
    """With networks far too small and hardly trained: what counts is that every command finds what it needs."""
    small = dict(width=2, hidden=8, feature_epochs=0, coarse_epochs=6, fine_epochs=1, finish_epochs=0)
    monkeypatch.setitem(PROFILES, "folder", dataclasses.replace(get_profile("folder"), **small))
    monkeypatch.setenv("C2F_LRP_WEIGHTS", str(tmp_path / "none"))
    weights, figures, photo = tmp_path / "mine", tmp_path / "figures", next((exported / "dog" / "husky").iterdir())
    folder = ["--profile", "folder", "--root", str(exported)]
    assert cli.main(["data", "check", *folder, "--hierarchy", str(exported / "hierarchy.csv")]) == 0
    assert "validation" in capsys.readouterr().out
    assert cli.main(["train", *folder, "--hierarchy", str(exported / "hierarchy.csv"), "--out", str(weights)]) == 0
    assert (weights / "hierarchy.csv").read_bytes() == (exported / "hierarchy.csv").read_bytes()
    classifier = c2f_lrp.load_classifier("folder", weights)
    images = c2f_lrp.load_images("folder", root=exported, limit=5, weights=weights)
    assert classifier.coarse(images.pixels).shape == (5, 8) and classifier.fine[3](images.pixels).shape == (5, 4)

    attack = ["attack", str(photo), "--profile", "folder", "--weights", str(weights), "--eps", "10"]
    assert cli.main([*attack, "--out", str(tmp_path / "drawn")]) == 0
    assert (tmp_path / "drawn" / f"{photo.stem}_lrpc.png").is_file()

    table = ["reproduce", *folder, "--weights", str(weights), "--out", str(figures), "--only", "table_1"]
    parameters = dict(n_images="40", iterations="2", epsilons="[10]")
    assert cli.main([*table, *(part for item in parameters.items() for part in ("-p", *item))]) == 0
    assert set(pd.read_csv(figures / "folder" / "table_1.csv").attack) == {"LRPC", "DFC", "PGDC"}
    assert cli.main(["verify", str(figures / "folder"), "--weights", str(weights)]) == 0
    (weights / "hierarchy.csv").write_text("folder,coarse\nfish/ray,fish\nfish/shark,dog\n")
    capsys.readouterr()
    assert cli.main(["verify", str(figures / "folder"), "--weights", str(weights)]) == 1
    assert "table_1: stale, made with another hierarchy.csv" in capsys.readouterr().out


def test_photographs_of_any_size_and_mode_are_read(tmp_path):
    for folder, mode, size in (("a", "RGB", (90, 70)), ("b", "L", (64, 200)), ("c", "RGBA", (300, 65))):
        (tmp_path / folder).mkdir()
        for n in range(12):
            Image.new(mode, size, 40 * n % 256 if mode == "L" else None).save(tmp_path / folder / f"{n}.png")
    hierarchy = Hierarchy.from_folders_csv(csv_of(tmp_path, "folder,coarse", "a,x", "b,x", "c,y"))
    images = imagenet.read(imagenet.find(tmp_path, hierarchy, "train", 64, inside=""), "train")
    assert images.pixels.shape[1:] == (3, 64, 64) and set(images.coarse.tolist()) == {0, 1}
    evaluation = imagenet.read(imagenet.find(tmp_path, hierarchy, "evaluation", 64, inside=""), "evaluation")
    assert all(name.startswith("a/") for name in evaluation.names)  # RGB alone, as in the paper
