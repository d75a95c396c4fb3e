"""The commands as a user types them: what is refused, with what words, and what is left behind."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from staged import write_notebook
from torch import nn

from c2f_lrp import cli, evaluation, paths, photos, provenance, reproduce
from c2f_lrp.attacks import ATTACKS, LRPC, PGDC, PGDF
from c2f_lrp.classifier import Classifier, CoarseToFine
from c2f_lrp.datasets import Images
from c2f_lrp.hierarchy import Hierarchy


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Two small notebooks in place of the project's, and a runs folder out of the way."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    write_notebook(
        folder / "01_first.ipynb",
        "profile = None\nout = None\nword = 'x'\n",
        "from c2f_lrp.provenance import output_folder",
        "(output_folder(profile, out) / 'word.txt').write_text(str(word))",
    )
    write_notebook(
        folder / "02_second.ipynb",
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
    arguments = ["reproduce", "--out", str(stage.out), "-p", "word", "hello"]
    arguments += ["--profile", "tiny-imagenet", "--root", str(data)]
    assert cli.main(arguments) == 0
    assert not ran.exists() and len(list(data.iterdir())) == 6
    printed, shown = capfd.readouterr()
    assert "notebooks run: 2, in " in printed and f"written to {stage.out / 'tiny-imagenet'}: 1\n  word.txt" in printed
    assert re.search(r"cell \d/\d .*, a < b: 100% 40/40 ", shown)  # the bar in the notebook, not the one of its cells
    assert (stage.out / "tiny-imagenet" / "word.txt").read_text() == "hello"
    assert sorted(path.name for path in (stage.runs / "tiny-imagenet" / "notebooks").glob("[!.]*")) == [
        "01_first.ipynb",
        "02_second.ipynb",
    ]


def test_a_strange_environment_changes_nothing(stage, tmp_path, monkeypatch, capfd):
    """A backend that is not installed, another Python's kernel by the usual name, no home, a folder with % and {}."""
    kernel = tmp_path / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text('{"argv": ["/nowhere/python"], "display_name": "x", "language": "python"}')
    monkeypatch.setenv("MPLBACKEND", "module://nowhere")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("HOME", "/nowhere")
    folder = tmp_path / "50 % {profile} {x}"
    monkeypatch.setattr(reproduce, "runs_folder", lambda profile: folder / "runs" / profile)
    moved = shutil.copytree(reproduce.NOTEBOOKS, folder / "notebooks")
    monkeypatch.setattr(reproduce, "NOTEBOOKS", moved)
    assert cli.main(["reproduce", "--out", str(folder / "out"), "-p", "word", "hello"]) == 0, capfd.readouterr().err
    assert (folder / "out" / "scenes" / "word.txt").read_text() == "hello"
    assert (os.environ["MPLBACKEND"], os.environ["HOME"]) == ("module://nowhere", "/nowhere")


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_threads_wait_shortly_unless_the_user_says_how(monkeypatch, given, expected):
    """While a command runs, and for what it starts; and not afterwards."""
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    seen = []
    monkeypatch.setattr(cli, "completion", lambda options: seen.append(os.environ.get("GOMP_SPINCOUNT")) or 0)
    before = dict(os.environ)
    assert cli.main(["completion", "bash"]) == 0
    assert seen == [expected] and dict(os.environ) == before


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


def attack(photo, tmp_path, *more):
    profile = () if "--network" in more else ("--profile", "scenes")
    return cli.main(["attack", str(photo), *profile, "--out", str(tmp_path / "drawn"), *more])


def test_attack_draws_a_figure_and_prints_a_block(photo, tmp_path, capsys):
    assert attack(photo, tmp_path, "--eps", "10") == 0
    block = capsys.readouterr().out.splitlines()
    assert block[0] == str(photo) and "profile scenes, 32 classes in 8 groups" in block[1]
    assert "the centre of 120×90 pixels, scaled to 64×64" in block[2]
    before = next(place for place, line in enumerate(block) if line.startswith("  before "))
    settings = " ".join(" ".join(block[3:before]).split())  # a long line is wrapped
    usual = {f.name: getattr(LRPC(), f.name) for f in dataclasses.fields(LRPC) if f.name != "eps"}
    assert settings == "attack lrpc: " + ", ".join(f"{name} {value}" for name, value in usual.items())
    del block[3:before]
    assert "runner-up" in block[3]
    assert [line.split()[0] for line in block[4:6]] == ["DFC", "LRPC,"] and "FOOLED" in block[4]
    assert "the network knows 32 classes and calls whatever it is shown by one of them" in block[6]
    assert block[-1].split() == ["figure", str(tmp_path / "drawn" / "photo_lrpc.png")]
    with Image.open(block[-1].split()[1]) as image:
        assert min(image.size) > 300


def test_json_says_what_the_block_says(photo, tmp_path, capsys):
    assert attack(photo, tmp_path, "--attack", "pgdc", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["before"].keys() == {"coarse", "coarse_score", "fine", "fine_score"} and told["level"] == "coarse"
    deepfool, pgd = told["attacks"]
    assert pgd["name"] == "PGDC, ε = 2.53" and pgd["largest_change"] <= 2.531 and deepfool["fooled"] is True
    assert pgd["fooled"] == (pgd["coarse"] != told["before"]["coarse"])
    assert PGDC(**told["settings"]) == PGDC()


def test_a_photograph_that_cannot_be_read_does_not_keep_the_others_waiting(photo, tmp_path, capsys):
    bad, other = tmp_path / "bad.jpg", tmp_path / "other.png"
    bad.write_text("text")
    Image.new("RGB", (64, 64), "red").save(other)
    how = ["--profile", "scenes", "--out", str(tmp_path / "drawn"), "--attack", "dfc", "--quiet"]
    assert cli.main(["attack", str(photo), str(bad), str(other), *how]) == 1
    printed = capsys.readouterr()
    assert [line.rpartition("/")[2] for line in printed.out.splitlines()] == ["photo_dfc.png", "other_dfc.png"]
    first, last = (line for line in printed.err.splitlines() if line.startswith("c2f-lrp attack: "))
    assert "bad.jpg" in first and "1 of 3 photographs could not be attacked" in last


def test_quiet_prints_where_the_figure_is(photo, tmp_path, capsys):
    assert attack(photo, tmp_path, "--attack", "dfc", "--quiet") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'drawn' / 'photo_dfc.png'}\n"


def test_no_figure_overwrites_that_of_another_photograph(photo, tmp_path, capsys):
    """x.jpg and x.png, and one name in two folders; the same photograph's figure is drawn anew."""
    other, elsewhere = photo.with_suffix(".png"), tmp_path / "b" / photo.name
    elsewhere.parent.mkdir()
    for path, colour in ((other, "red"), (elsewhere, "blue")):
        Image.new("RGB", (64, 64), colour).save(path)
    (tmp_path / "drawn").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "drawn" / "photo_dfc_2.png")  # somebody's own
    every = [attack(path, tmp_path, "--attack", "dfc", "--quiet") for path in (photo, other, elsewhere, photo, other)]
    names = [line.rpartition("/")[2] for line in capsys.readouterr().out.splitlines()]
    first = ["photo_dfc.png", "photo_dfc_3.png", "photo_dfc_4.png"]
    assert not any(every) and names == [*first, "photo_dfc.png", "photo_dfc_3.png"]
    with Image.open(tmp_path / "drawn" / "photo_dfc_2.png") as image:
        assert image.size == (8, 8)


@pytest.mark.parametrize(
    "more, message",
    [
        ("-p momentum 1", "lrpc has no setting 'momentum'; choose one of iterations, "),
        ("-p lr fast", "lr is 'fast'; lrpc takes float"),
        ("-p iterations true", "iterations is True; lrpc takes int"),
        ("-p eps 3", "lrpc has no setting 'eps'; choose one of "),
        ("-p p .5", "p is 0.5; a norm needs p >= 1"),
        ("--attack dfc --eps 3", "--eps was given, but dfc has no bound"),
        ("--device tpu", "device 'tpu' cannot be used here; choose cpu"),
        ("--file x.pth", "--file goes with --network LIBRARY:MODEL"),
        ("--network torchvision:resnet18", "--network torchvision:resnet18 needs its weights: --file FILE"),
        (
            "--network torchvision:resnet18 --file x.pth --profile scenes",
            "--network stands in the place of a profile; leave out --profile scenes",
        ),
        ("--network resnet18 --file x.pth", "network 'resnet18' is not understood; give library:model"),
    ],
)
def test_what_the_attack_command_refuses(photo, tmp_path, capsys, more, message):
    assert attack(photo, tmp_path, *more.split()) == 1
    error = capsys.readouterr().err
    assert f"c2f-lrp attack: {message}" in error and error.count("\n") == 1
    assert not (tmp_path / "drawn").exists()


def test_settings_of_the_attack_are_taken():
    columns = photos.photo_attacks("lrpc", [5], {"lr": 2, "p": float("inf"), "random_start": True, "seed": 3})
    assert columns["LRPC, ε = 5"] == LRPC(eps=5, lr=2, p=float("inf"), random_start=True, seed=3)
    assert photos.photo_attacks("pgdc", None, {"step_size": None})["PGDC, ε = 2.53"] == PGDC()


def test_an_unsure_network_is_doubted_aloud(clf, images):
    before = SimpleNamespace(coarse_score=0.4, fine_score=0.9)
    assert photos.doubts(clf, images.pixels[0], before) == [
        "the network knows 8 classes and calls whatever it is shown by one of them",
        "the network is unsure of the coarse label (40%)",
    ]


def test_a_flat_network_says_how_much_it_gives_the_classes_together():
    """By hand: logits 0 .. 4 of five classes, of which the hierarchy has the first three."""
    flat = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)))
    nn.init.zeros_(flat.layers[1].weight)
    flat.layers[1].bias.data = torch.arange(5.0)
    indices = ((0, 1), (2,))
    hierarchy = Hierarchy(("a", "b"), (("a0", "a1"), ("b0",)), (("a/a0", "a/a1"), ("b/b0",)), indices)
    classifier = CoarseToFine.from_flat(flat.eval(), hierarchy)
    exponentials = torch.arange(5.0).exp()
    share = photos.known_share(classifier, torch.zeros(3, 2, 2))
    assert share == pytest.approx((exponentials[:3].sum() / exponentials.sum()).item())
    before = SimpleNamespace(coarse_score=0.9, fine_score=0.9)
    assert f"these 3 classes together {share:.0%}" in " ".join(photos.doubts(classifier, torch.zeros(3, 2, 2), before))


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_the_attacks_and_profiles(shell, capsys):
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "lrpc" in script and "imagenet-lite" in script and "export-scenes" in script
    if shell == "bash" and shutil.which("bash"):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_help_has_examples(capsys):
    for words in (["--help"], ["attack", "--help"]):
        with pytest.raises(SystemExit):
            cli.main(words)
        assert "examples:\n  c2f-lrp" in capsys.readouterr().out


def test_paper_bounds_are_the_default_of_the_lrp_attacks_only():
    columns = {name: list(photos.photo_attacks(name, None).values()) for name in ATTACKS}
    bounds = {
        name: [a.eps for a in attacks[1:] if hasattr(a, "eps")] for name, attacks in columns.items()
    }  # after DeepFool
    assert bounds == {
        "lrpc": [10, 20, 40],
        "lrpf": [10, 20, 40],
        "pgdc": [PGDC().eps],
        "pgdf": [PGDF().eps],
        "dfc": [],
        "dff": [],
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
