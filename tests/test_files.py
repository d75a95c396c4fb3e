"""Whatever is written is whole or not there: a disk that fills up, an interruption, a folder that cannot be written."""

import ast
import contextlib
import resource
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from c2f_lrp import checkpoints, provenance
from c2f_lrp.files import atomic_write, writable_folder
from c2f_lrp.networks import save_network, vgg16
from c2f_lrp.training import trainer

NETWORK = vgg16(8, width=2, hidden=8, image_size=64)


@contextlib.contextmanager
def no_room_beyond(size):
    """The kernel refuses to let any file grow further, in the middle of a write, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def figure(folder):
    drawn, axes = plt.subplots()
    axes.imshow(np.random.default_rng(0).random((64, 64)))
    try:
        provenance.save_figure(drawn, "figure_9", "scenes", {}, folder)
    finally:
        plt.close(drawn)


def animation(folder):
    frames = [Figure(figsize=(3, 2)) for _ in range(2)]
    for frame in frames:
        frame.add_subplot().imshow(np.random.default_rng(0).random((64, 64)))
    provenance.save_animation(frames, "figure_9", "scenes", {}, folder)


def table(folder):
    provenance.save_table(pd.DataFrame({"a": np.arange(1000.0)}), "table_9", "scenes", {}, folder)


def weights(folder):
    save_network(NETWORK, folder / "coarse.safetensors")


def training_state(folder):
    optimizer = torch.optim.SGD(NETWORK.parameters(), 0.1, momentum=0.9)
    for parameter in NETWORK.parameters():
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    trainer.save_state(folder / "coarse.training", {"epoch": 1}, NETWORK, optimizer)


def checkpoints_csv(folder):
    row = dict.fromkeys(checkpoints.CHECKPOINT_COLUMNS, "x" * 100)
    checkpoints.write_checkpoints(folder / "checkpoints.csv", "x" * 100, [row] * 5)


def contents(folder):
    """Every file but the empty lock that a table of checkpoints is written under, which stays for the next run."""
    files = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {path: content for path, content in files.items() if content or path.name != ".checkpoints.csv.lock"}


@pytest.mark.parametrize("write", [figure, animation, table, weights, training_state, checkpoints_csv])
@pytest.mark.parametrize("earlier", [False, True], ids=["nothing there", "an earlier one there"])
def test_a_full_disk_leaves_what_was_there(tmp_path, write, earlier):
    if earlier:
        write(tmp_path)
        assert contents(tmp_path)
    before = contents(tmp_path)
    message = rf"{tmp_path}.* could not be written \(.*File too large.*\); it is as it was before"
    with no_room_beyond(1500), pytest.raises(OSError, match=message):
        write(tmp_path)
    assert contents(tmp_path) == before
    write(tmp_path)  # once there is room again
    assert len(contents(tmp_path)) >= 1 and not list(tmp_path.rglob("*.part"))


def test_an_interruption_leaves_what_was_there(tmp_path):
    first, second = tmp_path / "a.csv", tmp_path / "a.json"
    first.write_text("before")
    with pytest.raises(KeyboardInterrupt), atomic_write(first, second) as parts:
        for part in parts:
            part.write_text("half")
        raise KeyboardInterrupt
    assert contents(tmp_path) == {first.relative_to(tmp_path): b"before"}


def test_a_folder_that_cannot_be_written_is_named_before_work_begins(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file/figures cannot be written to \(Not a directory\); name another folder"):
        writable_folder(tmp_path / "file" / "figures")
    assert writable_folder(tmp_path / "new" / "folder").is_dir() and not list((tmp_path / "new" / "folder").iterdir())


def opens_text_in_the_locale_s_encoding(call: ast.Call) -> bool:
    """Whether a call of open, read_text or write_text leaves the encoding to the machine it runs on."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if name not in ("open", "read_text", "write_text"):
        return False
    words = [
        part.value for part in (*call.args, *(word.value for word in call.keywords)) if isinstance(part, ast.Constant)
    ]
    binary = any(isinstance(word, str) and "b" in word and set(word) <= set("rwxab+") for word in words)
    return not (binary or any(word.arg == "encoding" for word in call.keywords))


NO_TEXT = {"Image.open", "tarfile.open", "os.open"}


@pytest.mark.parametrize("path", sorted(Path(checkpoints.__file__).parent.rglob("*.py")), ids=lambda path: path.name)
def test_every_text_file_that_is_opened_names_its_encoding(path):
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    wrong = [ast.unparse(call) for call in calls if opens_text_in_the_locale_s_encoding(call)]
    assert not [call for call in wrong if call.partition("(")[0] not in NO_TEXT and not call.startswith("build_opener")]
