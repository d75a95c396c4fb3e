"""Notebooks that run at a time: who waits for whom, and that nothing is left running."""

import os
import re
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import psutil
import pytest
from papermill.exceptions import PapermillExecutionError
from staged import write_notebook

from c2f_lrp import cli, reproduce
from c2f_lrp.profiles import get_profile

ALL = sorted(reproduce.NOTEBOOKS.glob("[0-9]*.ipynb"))


def events(chosen, jobs):
    """What began and ended, in order, where later notebooks are quicker."""
    told, lock = [], threading.Lock()

    def run(path):
        with lock:
            told.append(("begins", path.stem))
        time.sleep(0.2 / (1 + chosen.index(path)))
        with lock:
            told.append(("ends", path.stem))

    assert reproduce.side_by_side(run, chosen, jobs) is None
    return told


@pytest.mark.parametrize("jobs", [1, 2, 4, 20])
def test_a_notebook_waits_for_those_that_it_reads(jobs):
    told = events(ALL, jobs)
    assert sorted(name for what, name in told if what == "ends") == [path.stem for path in ALL]
    for reader, names in reproduce.READS.items():
        for name in names:
            assert told.index(("ends", name)) < told.index(("begins", reader))
    running = most = 0
    for what, _ in told:
        running += 1 if what == "begins" else -1
        most = max(most, running)
    assert most <= jobs and most >= min(jobs, 4)


def test_those_that_others_read_begin_first():
    begun = [name for what, name in events(ALL, 1) if what == "begins"]  # one at a time: no race between threads
    assert begun[:2] == ["07_table_1", "08_table_2"]
    some = [path for path in ALL if path.stem[:2] in ("03", "11")]  # what is not asked for is not waited for
    assert [name for what, name in events(some, 1) if what == "begins"] == ["03_relevance", "11_report"]


def test_the_list_of_who_reads_what_is_true():
    names = {path.stem for path in ALL}
    for path in ALL:
        code = "\n".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code")
        reads_tables = "_summary.csv" in code or "report.page(" in code
        assert (path.stem in reproduce.READS) == reads_tables, path.stem
    assert set(reproduce.READS) < names and set(reproduce.READS.values()) == {("07_table_1", "08_table_2")}
    assert names > {"07_table_1", "08_table_2"}


def test_after_a_failure_nothing_begins():
    begun, error = [], PapermillExecutionError(0, 1, "1 / 0", "ZeroDivisionError", "", [])

    def run(path):
        begun.append(path.stem)
        raise error

    assert reproduce.side_by_side(run, ALL, 1) == (Path(ALL[7]), error)
    assert begun == ["07_table_1"]


@pytest.mark.parametrize(
    ("size", "cores", "free", "expected"),
    [(64, 2, 8, 2), (64, 2, 5, 1), (64, 1, 64, 1), (64, 16, 64, 4), (64, 2, 1, 1), (224, 2, 20, 1), (224, 8, 64, 4)],
)
def test_as_many_as_cores_and_memory_allow(monkeypatch, size, cores, free, expected):
    monkeypatch.setattr(reproduce, "cores", lambda: cores)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free * 2**30 + 1))
    assert reproduce.fitting_jobs(SimpleNamespace(image_size=size)) == expected
    assert get_profile("scenes").image_size == 64 and get_profile("imagenet-lite").image_size == 224


def test_hyperthreads_are_no_cores(monkeypatch):
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    for counted, expected in [(1, 1), (None, allowed), (1000, allowed)]:
        monkeypatch.setattr(psutil, "cpu_count", lambda logical, counted=counted: counted)
        assert reproduce.cores() == expected


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Two notebooks: one that says who it is and sleeps, and one that waits for it and fails, or waits on."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    told = tmp_path / "process"
    waits = f"import os, pathlib, time\ntold = pathlib.Path({str(told)!r})"
    cells = {
        "01_sleeps": [
            "profile = None\n",
            waits,
            "told.write_text(str(os.getpid()) + ' ' + os.environ['OMP_NUM_THREADS'])",
        ],
        "02_fails": [
            "profile = None\nfails = True\n",
            waits,
            "while not told.exists(): time.sleep(0.1)",
            "1 / (not fails)",
        ],
    }
    for name, sources in cells.items():
        write_notebook(folder / f"{name}.ipynb", *sources, "time.sleep(120)")
    monkeypatch.setattr(reproduce, "NOTEBOOKS", folder)
    monkeypatch.setattr(reproduce, "runs_folder", lambda profile: tmp_path / "runs" / profile)
    monkeypatch.setattr(reproduce, "cores", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return SimpleNamespace(told=told, command=["reproduce", "--out", str(tmp_path / "out"), "--jobs", "2"])


def gone(told) -> bool:
    number, threads = told.read_text().split()
    assert threads == "3"  # its share of the cores
    return not psutil.pid_exists(int(number)) or psutil.Process(int(number)).status() == psutil.STATUS_ZOMBIE


def test_a_failure_stops_what_runs_beside_it(stage, capfd):
    assert cli.main(stage.command) == 1
    error = capfd.readouterr().err
    assert re.search(r"02_fails.ipynb failed in cell \[\d\], '1 / \(not fails\)' \(ZeroDivisionError", error)
    assert "Kernel died" not in error  # of the other, which was stopped
    assert gone(stage.told) and "OMP_NUM_THREADS" not in os.environ


@pytest.fixture
def heard():
    """Ctrl-C is heard, also where these tests are a shell's job in the background, which is started deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interruption_stops_all(stage, heard, capfd):
    def interrupt():
        for _ in range(600):
            time.sleep(0.1)
            if stage.told.exists() and " " in stage.told.read_text():
                return os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    assert cli.main([*stage.command, "-p", "fails", "false"]) == 130
    error = capfd.readouterr().err
    assert "c2f-lrp reproduce: interrupted; run it again with --resume to go on" in error and "died" not in error
    assert gone(stage.told)


def test_fewer_than_one_at_a_time(capsys):
    assert cli.main(["reproduce", "--jobs", "0"]) == 1
    assert capsys.readouterr().err.strip() == "c2f-lrp reproduce: --jobs is 0; give at least 1"
