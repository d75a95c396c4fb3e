"""A real cluster of two processes on this machine, whose workers die; and schedulers that are refused."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from networks import SIZE, random_pixels

from c2f_lrp import cli, cluster, evaluation, reproduce, shards, training
from c2f_lrp.attacks import DFF, PGDC
from c2f_lrp.datasets import Images, scenes
from c2f_lrp.evaluation import rows as evaluation_rows
from c2f_lrp.evaluation import run as evaluation_run
from c2f_lrp.evaluation.on_cluster import attack_on_cluster
from c2f_lrp.profiles import get_profile
from c2f_lrp.training import on_cluster as training_on_cluster

pytest.importorskip("distributed")
ATTACKS = {"pgd": PGDC(eps=20, iterations=4), "deepfool": DFF(iterations=4)}


@pytest.fixture(scope="module")
def address():
    with cluster.local(2) as where:
        yield where


def kill_a_worker(address):
    with cluster.connected(address) as client:
        os.kill(min(client.run(os.getpid).values()), signal.SIGKILL)


@pytest.fixture
def images(clf):
    pixels = random_pixels(40, SIZE, SIZE, seed=7)
    return Images(pixels, *clf.predict(pixels), None, None, None, tuple(f"image {i}" for i in range(40)))


def test_a_worker_dies_and_the_table_is_the_same(clf, images, address, tmp_path, monkeypatch):
    written, real = [], shards.write_shard

    def write_and_kill(folder, table, facts):
        real(folder, table, facts)
        written.append(shards.shard_key(facts))
        if len(written) == 5:
            kill_a_worker(address)

    monkeypatch.setattr(shards, "write_shard", write_and_kill)
    there = evaluation.evaluate(clf, images, ATTACKS, store=tmp_path, shard_size=3, scheduler=address)
    assert len(written) == len(set(written)) > 20  # each was written once
    pd.testing.assert_frame_equal(there, evaluation.evaluate(clf, images, ATTACKS, shard_size=3))
    # And the shards are those of a run without a cluster.
    monkeypatch.setattr(
        evaluation_run, "attack_locally", lambda classifier, missing, measures: [*missing] and pytest.fail()
    )
    again = evaluation.evaluate(clf, images, ATTACKS, store=tmp_path, shard_size=3, resume=True)
    pd.testing.assert_frame_equal(there, again)


def test_what_an_attack_refuses_on_a_worker_is_said_here(clf, images, address):
    bad = images.with_pixels(images.pixels.index_fill(0, images.coarse[:1] * 0, float("nan")))
    shard = evaluation_rows.Shard(evaluation_rows.Setting("a"), 0, PGDC(), bad, {})
    with pytest.raises(ValueError, match="they must be finite and in"):
        list(attack_on_cluster(address, clf, iter([[shard]]), False))


def test_nine_networks_trained_on_workers_are_those_trained_here(address, tmp_path, monkeypatch):
    small = dataclasses.replace(get_profile("scenes"), width=2, hidden=8, coarse_epochs=2, fine_epochs=1)
    drawn = scenes.read("train", 128), scenes.read("validation", 32)
    states, real = [], training_on_cluster.atomic_write

    def write_and_kill(path):
        states.append(path.stem)
        if len(states) == 6:  # among the fine networks
            kill_a_worker(address)
        return real(path)

    monkeypatch.setattr(training_on_cluster, "atomic_write", write_and_kill)
    there = training.train(small, *drawn, out=tmp_path / "there", seed=3, command="test", scheduler=address)
    assert len(states) == 2 + 8 and states[:2] == ["coarse"] * 2  # the fine ones start from its features
    here = training.train(small, *drawn, out=tmp_path / "here", seed=3, command="test")
    assert [row["sha256"] for row in there] == [row["sha256"] for row in here]
    # A second run has nothing to do.
    again = training.train(small, *drawn, out=tmp_path / "there", seed=3, scheduler=address)
    assert [row["sha256"] for row in again] == [row["sha256"] for row in here]
    assert len(states) == 2 + 8


@pytest.mark.parametrize("command", [["reproduce"], ["train", "--out", "{tmp}"]])
def test_a_scheduler_that_does_not_answer_is_refused(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(scenes, "read", lambda *args: None)
    command = [part.format(tmp=tmp_path) for part in command]
    assert cli.main([*command, "--scheduler", "tcp://127.0.0.1:9"]) == 1
    error = capsys.readouterr().err
    assert f"c2f-lrp {command[0]}: no Dask scheduler answers at tcp://127.0.0.1:9; start one" in error
    assert error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_scheduler_with_another_version_is_refused(tmp_path, capsys):
    """A scheduler in whose environment c2f_lrp says that it is version 9.9.9."""
    info = tmp_path / "c2f_lrp-9.9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: c2f_lrp\nVersion: 9.9.9\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(cli.__file__).rsplit("/", 2)[0]])}
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    command += ["--no-dashboard", "--scheduler-file", str(tmp_path / "scheduler.json")]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        where = next(line.split()[-1] for line in process.stderr if "Scheduler at:" in line)
        assert cli.main(["reproduce", "--scheduler", where]) == 1
    finally:
        process.kill()
        process.wait()
    error = capsys.readouterr().err
    assert f"the scheduler {where} has c2f_lrp 9.9.9 (here {shards.software()['c2f_lrp']}); " in error


def test_reproduce_hands_the_address_to_the_notebooks_that_attack_many_images(address, tmp_path, monkeypatch):
    given = {}

    def execute(path, out, parameters, **settings):
        given[Path(path).stem] = parameters

    monkeypatch.setenv("C2F_LRP_RUNS", str(tmp_path))
    monkeypatch.setattr(reproduce.papermill, "execute_notebook", execute)
    command = ["reproduce", "--only", "table_1", "--only", "figure_1", "--out", str(tmp_path), "--scheduler", address]
    assert cli.main(command) == 0
    assert given["07_table_1"]["scheduler"] == address and "scheduler" not in given["05_figure_1"]


def test_a_worker_that_joined_later_looks_at_itself():
    with pytest.raises(ValueError, match="a worker that joined later has code .*; install the same"):
        cluster.check_here(shards.software() | {"code": "another"})


def test_what_else_is_refused(monkeypatch, capsys):
    assert cli.main(["reproduce", "--workers", "0"]) == 1
    assert "--workers is 0; give at least 1" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert cli.main(["reproduce", "--workers", "2"]) == 1
    assert 'Dask is missing; run: python -m pip install "dask[distributed]"' in capsys.readouterr().err
