"""Rows in files: named by all that determines them and by nothing else, each whole or not there, none made twice."""

import copy
import dataclasses
import errno
import os
import random
import signal
import time

import pandas as pd
import pytest
import torch
from imports import IMPORTS, MODULES, PACKAGE
from networks import SIZE, sixteen_images

from c2f_lrp import evaluation, shards
from c2f_lrp.attacks import DFC, PGDC
from c2f_lrp.evaluation import rows as evaluation_rows

# Imported by the code of rows, but no row depends on them: types of what is handed in, checks that only refuse,
# where files lie.
NO_PART_OF_ROWS = {"checks", "datasets", "files", "hierarchy", "paths", "profiles"}


def test_rows_are_named_by_exactly_the_modules_that_they_depend_on():
    reached, waiting = set(), {"c2f_lrp.evaluation.rows"}
    waiting |= {f"c2f_lrp.attacks.{name}" for name in ("deepfool", "lrp_attack", "margin", "pgd")}
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting |= IMPORTS[name] - reached
    files = {str(MODULES[name].relative_to(PACKAGE)) for name in reached if name.split(".")[1] not in NO_PART_OF_ROWS}
    files -= {"attacks/__init__.py", "evaluation/__init__.py", "lrp/__init__.py"}  # lists of names
    assert files == set(shards.CODE)


CODE = '''
"""What it does."""
from a import b
def f(x):
    """Adds."""
    return x + 1  # one
class C:
    """Holds."""
    y = f"{2}"
'''


def test_prose_order_and_place_do_not_change_what_code_means():
    same = "class C:\n    y = f'{2}'\n\n\n# moved up\n"
    assert shards.meaning([CODE]) == shards.meaning([same, "import z\ndef f(x):\n    return (x +\n            1)"])


def test_types_of_arguments_do_not_and_those_of_fields_do():
    typed = CODE.replace("f(x)", "f(x: int) -> int")
    assert shards.meaning([CODE]) == shards.meaning([typed])
    field, constant = ("class C:\n    y: int = 2", "class C:\n    y: ClassVar[int] = 2")
    assert shards.meaning([field]) != shards.meaning([constant])


@pytest.mark.parametrize("old, new", [("x + 1", "x + 2"), ("x + 1", "x - 1"), ("{2}", "{3}"), ("f(x)", "f(y)")])
def test_what_is_computed_does(old, new):
    assert shards.meaning([CODE]) != shards.meaning([CODE.replace(old, new)])


# --------------------------------------------------------------------------------------------- rows in their files
ATTACKS = {"a": PGDC(eps=20, iterations=4), "b": DFC(iterations=4)}


@pytest.fixture
def images(clf):
    return sixteen_images(clf)


@pytest.fixture
def stored(clf, images, tmp_path, monkeypatch):
    """The rows of two settings and three slices, their folder, and a list that grows with each shard attacked later."""
    rows = evaluation.evaluate(clf, images, ATTACKS, store=tmp_path, shard_size=6)
    attacked, real = [], evaluation_rows.attack_rows
    monkeypatch.setattr(evaluation_rows, "attack_rows", lambda *args: attacked.append(1) or real(*args))
    return rows, tmp_path, attacked


def again(clf, images, folder):
    return evaluation.evaluate(clf, images, ATTACKS, store=folder, resume=True, shard_size=6)


def test_a_second_run_attacks_nothing_and_gives_the_same_rows(clf, images, stored):
    rows, folder, attacked = stored
    assert len(list(folder.iterdir())) == 6  # and nothing half-written beside them
    pd.testing.assert_frame_equal(rows, again(clf, images, folder))
    assert not attacked
    in_one_piece = evaluation.evaluate(clf, images, ATTACKS)
    assert attacked == [1, 1]
    pd.testing.assert_frame_equal(rows, in_one_piece, check_exact=False, rtol=1e-9)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 8] ^= 1  # among the values, not in the footer
    path.write_bytes(content)


def exchange(path):
    other = max(entry for entry in path.parent.glob("*.parquet") if entry != path)
    path.write_bytes(other.read_bytes())


@pytest.mark.parametrize("damage", [cut, flip_a_bit, exchange, lambda path: path.write_bytes(b"")])
def test_a_damaged_shard_is_named_and_made_again(clf, images, stored, damage):
    rows, folder, attacked = stored
    first, *others = sorted(folder.iterdir())
    damage(first)
    before = {path: path.stat().st_mtime_ns for path in others}
    with pytest.warns(UserWarning, match=f"{first} is damaged .* its rows are computed again"):
        pd.testing.assert_frame_equal(rows, again(clf, images, folder))
    assert attacked == [1] and {path: path.stat().st_mtime_ns for path in others} == before
    pd.testing.assert_frame_equal(rows, again(clf, images, folder))
    assert attacked == [1]  # repaired


def test_a_full_disk_is_named_and_what_was_written_is_kept(clf, images, tmp_path, monkeypatch):
    calls = []

    def fsync(handle):
        calls.append(handle)
        if len(calls) == 5:  # two calls a shard, one for the file and one for the folder
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match=r"written \(No space left on device\).* --resume: rows .* kept"):
        evaluation.evaluate(clf, images, ATTACKS, store=tmp_path, shard_size=6)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(kept) == 2 and {path.suffix for path in kept} == {".parquet"}
    pd.testing.assert_frame_equal(again(clf, images, tmp_path), evaluation.evaluate(clf, images, ATTACKS, shard_size=6))
    assert len(list(tmp_path.iterdir())) == 6 and kept.items() <= {p: p.stat().st_mtime_ns for p in kept}.items()


def test_a_file_limit_stops_the_write_like_a_full_disk(tmp_path):
    """RLIMIT_FSIZE: the kernel refuses, nothing is simulated."""
    resource = pytest.importorskip("resource")
    table, limits = pd.DataFrame({"a": range(100_000)}), resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"could not be written \(.*File too large\)"):
            shards.write_shard(tmp_path, table, {"fact": 1})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert not list(tmp_path.iterdir())
    shards.write_shard(tmp_path, table, {"fact": 1})
    pd.testing.assert_frame_equal(shards.read_shard(tmp_path, {"fact": 1}), table)


def test_a_folder_that_cannot_be_written_to_is_named_before_the_attacks(clf, images, stored, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="rows cannot be written to .*file/rows .*run again"):
        evaluation.evaluate(clf, images, ATTACKS, store=tmp_path / "file" / "rows")
    assert not stored[2]


def test_what_a_killed_run_left_half_written_is_cleared_away(clf, images, stored):
    _, folder, _ = stored
    old, new = folder / "x.parquet.1.part", folder / "y.parquet.2.part"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    again(clf, images, folder)
    assert not old.exists() and new.exists()  # a young one may be another run's


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes")
def test_killed_and_resumed_it_loses_nothing_and_repeats_nothing(clf, images, tmp_path):
    """SIGKILL at random moments; tests/benchmarks/kill_and_resume.py does it to the command and its notebook."""
    attacks, folder, moments = ATTACKS | {"c": PGDC(eps=1)}, tmp_path / "rows", random.Random(0)

    def resumed():
        return evaluation.evaluate(clf, images, attacks, store=folder, resume=True, shard_size=2)

    def written():
        return {path: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}

    whole, seen, total = evaluation.evaluate(clf, images, attacks, shard_size=2), {}, 3 * len(images) // 2
    for kill in range(1, 4):
        child = os.fork()
        if not child:
            try:
                resumed()
            finally:
                os._exit(0)
        while len(written()) < kill * total // 5:
            assert os.waitpid(child, os.WNOHANG) == (0, 0)
        time.sleep(moments.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert seen.items() <= written().items() and len(written()) < total
        seen = written()
    pd.testing.assert_frame_equal(resumed(), whole)
    assert seen.items() <= written().items() and len(written()) == total


def names_of(clf, images, folder, attack, **choices):
    evaluation.evaluate(clf, images, {"a": attack}, store=folder, **choices)
    return {path.name for path in folder.iterdir()}


def test_a_shard_is_named_by_all_that_determines_it(clf, images, tmp_path, monkeypatch):
    names = names_of(clf, images, tmp_path, PGDC(iterations=1))
    assert len(names) == 1 and names_of(clf, images, tmp_path, PGDC(iterations=1)) == names
    masks = torch.zeros(len(images), SIZE, SIZE, dtype=torch.bool)
    masks[:, :3] = True
    other = copy.deepcopy(clf)
    other.coarse.layers[-1].bias.data[0] += 1e-9
    shifted = copy.deepcopy(clf)
    shifted.coarse.mean += 1e-9  # a buffer that checkpoints do not hold
    changes = [
        (clf, images, PGDC(iterations=1, eps=3), {}),
        (clf, images, PGDC(iterations=1, random_start=True), {}),
        (clf, images, DFC(iterations=1), {}),
        (clf, images.with_pixels(images.pixels.clamp(max=254.9)), PGDC(iterations=1), {}),
        (clf, dataclasses.replace(images, object_masks=masks), PGDC(iterations=1), {}),
        (clf, dataclasses.replace(images, object_masks=~masks), PGDC(iterations=1), {}),
        (clf, images[:8], PGDC(iterations=1), {}),
        (clf, images, PGDC(iterations=1), {"measures": False}),
        (other, images, PGDC(iterations=1), {}),
        (shifted, images, PGDC(iterations=1), {}),
    ]
    for count, (classifier, given, attack, choices) in enumerate(changes, 2):
        assert len(names_of(classifier, given, tmp_path, attack, **choices)) == count
    software = shards.software()
    for name in ("c2f_lrp", "torch", "code"):
        monkeypatch.setattr(shards, "software", lambda name=name: software | {name: "other"})
        count += 1
        assert len(names_of(clf, images, tmp_path, PGDC(iterations=1))) == count
