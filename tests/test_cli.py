"""The commands as a user types them: what is refused, with what words, and what is left behind."""

import json
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from c2f_lrp import cli, photos, provenance, reproduce


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Two small notebooks in place of the project's, and a runs folder out of the way."""
    folder = tmp_path / "notebooks"
    folder.mkdir()

    def write(name, *sources):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
        notebook.cells[0].metadata["tags"] = ["parameters"]
        notebook.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
        nbformat.write(notebook, folder / name)

    write(
        "01_first.ipynb",
        "profile = None\nout = None\nword = 'x'\n",
        "from c2f_lrp.provenance import output_folder",
        "(output_folder(profile, out) / 'word.txt').write_text(str(word))",
    )
    write("02_second.ipynb", "profile = None\ncount = 1\n", "1 / count")
    monkeypatch.setattr(reproduce, "NOTEBOOKS", folder)
    monkeypatch.setattr(reproduce, "runs_folder", lambda profile: tmp_path / "runs" / profile)
    return SimpleNamespace(out=tmp_path / "out", runs=tmp_path / "runs")


def test_reproduce_runs_every_notebook_and_says_what_it_wrote(stage, capfd):
    assert cli.main(["reproduce", "--out", str(stage.out), "-p", "word", "hello"]) == 0
    printed = capfd.readouterr().out
    assert "2 notebooks ran" in printed and "1 files were written" in printed and "word.txt" in printed
    assert (stage.out / "scenes" / "word.txt").read_text() == "hello"
    assert sorted(path.name for path in (stage.runs / "scenes" / "notebooks").iterdir()) == [
        "01_first.ipynb", "02_second.ipynb"
    ]


def test_a_failing_notebook_is_named_with_its_cell(stage, capfd):
    assert cli.main(["reproduce", "--out", str(stage.out), "--only", "second", "-p", "count", "0"]) == 1
    assert "02_second.ipynb failed in cell [3], '1 / count'" in (error := capfd.readouterr().err)
    assert "ZeroDivisionError" in error


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.jpg"
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((120, 90)).save(path)
    return path


def test_attack_draws_a_figure_and_prints_a_line(photo, tmp_path, capsys):
    arguments = ["attack", str(photo), "--attack", "lrpc", "--eps", "10", "--profile", "scenes"]
    assert cli.main([*arguments, "--out", str(tmp_path / "drawn")]) == 0
    line = capsys.readouterr().out
    assert line.startswith(f"{photo}: ") and "LRPC, ε = 10" in line and line.count("\n") == 1
    with Image.open(tmp_path / "drawn" / "photo.jpg_lrpc.png") as image:
        assert min(image.size) > 300


def test_paper_bounds_are_the_default_of_the_lrp_attacks_only():
    columns = {name: list(photos.settings_of(name, None).values()) for name in photos.NAMES}
    bounds = {name: [attack.eps for attack in attacks[1:]] for name, attacks in columns.items()}  # after DeepFool
    assert bounds == {"lrpc": [10, 20, 40], "lrpf": [10, 20, 40], "pgdc": [2.6], "pgdf": [0.9], "dfc": [], "dff": []}


def test_sidecars_hold_what_made_a_figure(tmp_path):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots()
    axes.plot([0, 1])
    provenance.save_figure(figure, "figure_9", "scenes", {"eps": 3, "init": "logit"}, tmp_path)
    table = pd.DataFrame({"a": [1.25]}, index=pd.Index(["row"], name="name"))
    provenance.save_table(table, "table_9", "scenes", {}, tmp_path)
    plt.close(figure)
    folder = tmp_path / "scenes"
    for name, endings in (("figure_9", ("pdf", "png")), ("table_9", ("csv", "md"))):
        sidecar = json.loads((folder / f"{name}.json").read_text())
        assert sidecar["files"] == {f"{name}.{e}": provenance.sha256(folder / f"{name}.{e}") for e in endings}
        assert sidecar["versions"]["torch"] and len(sidecar["checkpoints"]) == 9
        assert sidecar["seeds"]["training"] == [0]
    assert json.loads((folder / "figure_9.json").read_text())["parameters"] == {"eps": 3, "init": "logit"}
    assert pd.read_csv(folder / "table_9.csv", index_col=0).loc["row", "a"] == 1.25


@pytest.fixture
def written(tmp_path):
    """A table with its sidecar, as save_table leaves them."""
    provenance.save_table(pd.DataFrame({"a": [1.25]}), "table_9", "scenes", {}, tmp_path)
    return tmp_path / "scenes"


def amend(written, **changes):
    path = written / "table_9.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_verify_is_silent_about_what_is_as_it_was_written(written, capfd):
    assert cli.main(["verify", str(written)]) == 0
    assert "everything is as its sidecars say" in capfd.readouterr().out


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda w: (w / "table_9.csv").write_text("a\n2\n"), "table_9.csv: altered since table_9.json was written"),
        (lambda w: (w / "table_9.md").unlink(), "table_9.md: missing, though table_9.json describes it"),
        (lambda w: (w / "photo.png").write_bytes(b""), "photo.png: no sidecar describes it"),
        (lambda w: amend(w, checkpoints={"coarse": "00"}), "table_9: stale, made with other weights of coarse, fine_"),
        (lambda w: amend(w, manifest={"scenes_c2f.csv": "00"}), "table_9: stale, made with another scenes_c2f.csv"),
        (lambda w: amend(w, versions={"c2f_lrp": "0.0.1"}), "table_9: stale, made by version 0.0.1, this is "),
    ],
    ids=["altered", "missing", "stranger", "weights", "manifest", "version"],
)
def test_verify_names_what_is_wrong(written, change, message, capfd):
    change(written)
    assert cli.main(["verify", str(written)]) == 1
    (line,) = capfd.readouterr().out.splitlines()
    assert line.startswith(f"{written}/{message}")


def test_the_committed_figures_are_unaltered_and_made_with_the_shipped_weights():
    """In a working copy; whether they are what the notebooks give now is for the tests after the notebooks."""
    folder = provenance.REPOSITORY / "figures" / "scenes"
    assert provenance.verify(folder) == []
