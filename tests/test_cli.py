"""The commands as a user types them: what is refused, with what words, and what is left behind."""

import json
import re
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from c2f_lrp import cli, evaluation, paths, photos, provenance, reproduce
from c2f_lrp.attacks import ATTACKS, PGDC
from c2f_lrp.datasets import Images


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
    write(
        "02_second.ipynb",
        "profile = None\ncount = 1\n",
        "1 / count",
        "from tqdm.auto import tqdm\nfor _ in tqdm(range(40), 'a < b', mininterval=0): pass",
    )
    monkeypatch.setattr(reproduce, "NOTEBOOKS", folder)
    monkeypatch.setattr(reproduce, "runs_folder", lambda profile: tmp_path / "runs" / profile)
    return SimpleNamespace(out=tmp_path / "out", runs=tmp_path / "runs")


def test_reproduce_runs_every_notebook_and_says_what_it_wrote(stage, tmp_path, monkeypatch, capfd):
    """From inside a folder of photographs that holds code, none of which is run."""
    data, ran = tmp_path / "data", tmp_path / "ran"
    data.mkdir()
    for name in ("torch", "sitecustomize", "usercustomize", "conftest", "c2f_lrp", "json"):
        (data / f"{name}.py").write_text(f"open({str(ran)!r}, 'a').write({name!r})")
    monkeypatch.chdir(data)
    arguments = ["reproduce", "--out", str(stage.out), "-p", "word", "hello", "--root", str(data)]
    assert cli.main(arguments) == 0
    assert not ran.exists() and len(list(data.iterdir())) == 6
    printed, shown = capfd.readouterr()
    assert "2 notebooks ran" in printed and "1 files were written" in printed and "word.txt" in printed
    assert re.search(r"cell \d/\d .*, a < b: 100% 40/40 ", shown)  # the bar in the notebook, not the one of its cells
    assert (stage.out / "scenes" / "word.txt").read_text() == "hello"
    assert sorted(path.name for path in (stage.runs / "scenes" / "notebooks").iterdir()) == [
        "01_first.ipynb",
        "02_second.ipynb",
    ]


def test_a_failing_notebook_is_named_with_its_cell(stage, capfd):
    assert cli.main(["reproduce", "--out", str(stage.out), "--only", "second", "-p", "count", "0"]) == 1
    assert "02_second.ipynb failed in cell [3], '1 / count'" in (error := capfd.readouterr().err)
    assert "ZeroDivisionError" in error


@pytest.mark.parametrize("command, again", [("reproduce", "run it again with --resume to go on"), ("attack x.jpg", "")])
def test_an_interruption_is_one_line(stage, monkeypatch, capsys, command, again):
    def interrupted(*args, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(reproduce.papermill, "execute_notebook", interrupted)
    monkeypatch.setattr(photos, "attack_photo", interrupted)
    assert cli.main([*command.split(), *(["--out", str(stage.out)] if again else ["--profile", "scenes"])]) == 130
    lines = [line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if "notebook/s" not in line]
    told = f"c2f-lrp {command.split()[0]}: interrupted" + f"; {again}" * bool(again)
    assert [line.strip() for line in lines if line.strip()] == [told]


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
    columns = {name: list(photos.photo_attacks(name, None).values()) for name in ATTACKS}
    bounds = {name: [attack.eps for attack in attacks[1:]] for name, attacks in columns.items()}  # after DeepFool
    assert bounds == {
        "lrpc": [10, 20, 40],
        "lrpf": [10, 20, 40],
        "pgdc": [2.6],
        "pgdf": [0.9],
        "dfc": [],
        "dff": [],
    } | {
        "marginc": [10],
        "marginf": [10],
    }


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
def written(tmp_path, clf, images, monkeypatch):
    """A table with its sidecar, as save_table leaves them, and the rows it was made of, four images in a shard."""
    monkeypatch.setenv("C2F_LRP_RUNS", str(tmp_path / "runs"))
    few = Images(images.pixels, images.coarse, images.fine, None, None, None, tuple("abcdefgh"))
    attacks = {"a": PGDC(iterations=1), "b": PGDC(iterations=2, random_start=True, seed=7)}
    store = paths.runs_folder("scenes") / "rows"
    rows = evaluation.evaluate(clf, few, attacks, store=store, shard_size=4, measures=False)
    again = evaluation.evaluate(clf, few, attacks, store=store, shard_size=4, measures=False, resume=True)
    assert rows.attrs == again.attrs and len(rows.attrs["shards"]) == 4
    provenance.save_table(pd.DataFrame({"a": [1.25]}), "table_9", "scenes", {}, tmp_path, rows=rows)
    return tmp_path / "scenes"


def test_a_sidecar_tells_of_rows_and_their_seeds(written):
    told = json.loads((written / "table_9.json").read_text())
    store = paths.runs_folder("scenes") / "rows"
    assert sorted(told["rows"]["shards"]) == sorted(path.stem for path in store.iterdir())
    assert told["rows"]["count"] == 16 and told["seeds"]["attacks"] == [7]


def shard(written, n=0):
    return sorted((paths.runs_folder("scenes") / "rows").iterdir())[n]


def other_rows(written):
    """One image fooled that was not, in a file that is whole."""
    table = pd.read_parquet(shard(written))
    table.loc[0, "fooled"] = not table.loc[0, "fooled"]
    table.to_parquet(shard(written))


def test_rows_that_are_not_here_are_no_fault(written):
    """runs/ is not under version control: a fresh clone has none."""
    shard(written).unlink()
    assert provenance.verify(written) == []


def amend(written, **changes):
    path = written / "table_9.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_verify_is_silent_about_what_is_as_it_was_written(written, capfd):
    assert cli.main(["verify", str(written)]) == 0
    assert "everything is as its sidecars say" in capfd.readouterr().out


def test_a_sidecar_of_an_earlier_version_is_read(written):
    """Those name neither manifest nor rows."""
    path = written / "table_9.json"
    told = json.loads(path.read_text())
    del told["manifest"], told["rows"]
    path.write_text(json.dumps(told))
    assert provenance.verify(written) == []


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda w: (w / "table_9.csv").write_text("a\n2\n"), "table_9.csv: altered since table_9.json was written"),
        (lambda w: (w / "table_9.md").unlink(), "table_9.md: missing, though table_9.json describes it"),
        (lambda w: (w / "photo.png").write_bytes(b""), "photo.png: no sidecar describes it"),
        (lambda w: amend(w, checkpoints={"coarse": "00"}), "table_9: stale, made with other weights of coarse, fine_"),
        (lambda w: amend(w, manifest={"scenes_c2f.csv": "00"}), "table_9: stale, made with another scenes_c2f.csv"),
        (lambda w: amend(w, versions={"c2f_lrp": "0.0.1"}), "table_9: stale, made by version 0.0.1, this is "),
        (other_rows, "table_9: stale, made from other rows than "),
        (lambda w: shard(w).write_bytes(shard(w).read_bytes()[:200]), "table_9: stale, made from other rows than "),
    ],
    ids=["altered", "missing", "stranger", "weights", "manifest", "version", "rows", "rows cut short"],
)
def test_verify_names_what_is_wrong(written, change, message, capfd):
    change(written)
    assert cli.main(["verify", str(written)]) == 1
    (line,) = capfd.readouterr().out.splitlines()
    assert line.startswith(f"{written}/{message}")


def test_the_committed_figures_are_unaltered_and_made_with_the_shipped_weights(tmp_path, monkeypatch):
    """In a working copy; whether they are what the notebooks give now is for the tests after the notebooks."""
    monkeypatch.setenv("C2F_LRP_RUNS", str(tmp_path))  # not rows that the notebooks' tests made here
    folder = paths.REPOSITORY / "figures" / "scenes"
    assert provenance.verify(folder) == []
