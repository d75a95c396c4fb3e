"""Run the notebooks through papermill: every figure and table of a profile from one command."""

import ast
import contextlib
import html
import logging
import os
import sys
import time
import weakref
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

import papermill
import psutil
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from tqdm.auto import tqdm

from c2f_lrp.files import alone, writable_folder
from c2f_lrp.paths import NOTEBOOKS, runs_folder
from c2f_lrp.profiles import Profile, get_profile
from c2f_lrp.provenance import output_folder

BAR = ": cell {n_fmt}/{total_fmt} |{bar:10}| {elapsed}{postfix}"
# Notebooks that read what others write, which must be there before.
READS = {
    "09_what_the_loss_measures": ("07_table_1", "08_table_2"),
    "11_report": ("07_table_1", "08_table_2"),
}
MEMORY = 3, 12  # GB that a notebook may need at most: with images of up to 64 pixels a side, and with larger ones
MOST_AT_A_TIME = 4
QUIET = logging.getLogger(__name__)  # of a kernel that was stopped; what fails is raised all the same
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False
WIDGET = "application/vnd.jupyter.widget-view+json"


class OwnKernel(AsyncKernelManager):
    """Starts the Python that runs this, whichever kernels are installed: another may lack the package.

    By name it would be found in the folders of JUPYTER_PATH first, which module systems of clusters set.
    """

    started: weakref.WeakSet = weakref.WeakSet()

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.started.add(self)

    def kill(self) -> None:
        """End the kernel's process, from any thread; the notebook that it runs then ends with DeadKernelError."""
        process = getattr(self.provisioner, "process", None)
        if process is not None:
            process.kill()

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(**get_kernel_dict())


class Client(PapermillNotebookClient):
    """Shows in the terminal what the notebook's own progress bars say: a table is one cell, and takes minutes."""

    def handle_comm_msg(self, outs, msg, cell_index):
        super().handle_comm_msg(outs, msg, cell_index)
        changed = f"IPY_MODEL_{msg['content']['comm_id']}"
        for box in self.widget_state.values():
            children = box.get("children", [])
            if children[2:] == [changed]:  # tqdm's box in notebooks: text, bar, text
                text, bar, _ = (self.widget_state.get(child.removeprefix("IPY_MODEL_"), {}) for child in children)
                if bar.get("_model_name") == "FloatProgressModel":
                    said = html.unescape(text.get("value", "") + " " + msg["content"]["data"]["state"].get("value", ""))
                    self.nb_man.pbar.set_postfix_str(" ".join(said.split()))


class Engine(NBClientEngine):
    """papermill's own, with the client above."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, start_timeout=60, **_):
        settings = dict(
            kernel_name=kernel_name,
            kernel_manager_class=OwnKernel,
            startup_timeout=start_timeout,
            timeout=None,
            # Else it complains of its transport, and of being stopped. What fails in a cell is raised all the same.
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
            on_cell_executed=lambda **_: nb_man.pbar.set_postfix_str(""),
            log=QUIET,
        )
        Client(nb_man, **settings).execute()


papermill_engines.register("c2f_lrp", Engine)


def run_notebooks(
    profile: str,
    *,
    only: list[str] | None = None,
    parameters: dict | None = None,
    root: Path | None = None,
    out: Path | None = None,
    resume: bool = False,
    scheduler: str | None = None,
    jobs: int | None = None,
) -> int:
    """Run notebooks with parameters and report what was written; 1 if one failed, which is named with its cell.

    scheduler: the address of a Dask scheduler, for the notebooks that attack many images. jobs: so many notebooks run
    at a time; None: as many as `fitting_jobs` says, or one where a cluster does the work. Executed notebooks are kept
    in runs/<profile>/notebooks. Raises ValueError for an unknown profile, notebook or parameter, and for a profile
    whose folder of photographs is not given.
    """
    settings = get_profile(profile)
    if settings.needs_root and root is None:
        raise ValueError(f"profile {profile} reads photographs; give their folder with --root")
    if root is not None and not Path(root).is_dir():
        raise NotADirectoryError(f"--root {root} is no folder; give the one that holds the photographs")
    chosen = choose(only)
    given = dict(parameters or {})
    known = {path: defaults(path) for path in chosen}
    allowed = sorted(set().union(*known.values()) - {"profile", "root", "out", "resume", "scheduler"})
    unknown = [name for name in given if name not in allowed]
    if unknown:
        there = ", ".join(allowed) or "none that can be set"
        raise ValueError(f"parameter {', '.join(unknown)} is unknown; the chosen notebooks have {there}")
    for name in given:
        for path in chosen:
            if name in known[path]:
                given[name] = fitting(given[name], known[path][name], name, path.stem)
    folder = output_folder(profile, out).resolve()
    given |= dict(
        profile=profile,
        root=str(Path(root).resolve()) if root else None,
        out=str(folder.parent),
        resume=resume,
        scheduler=scheduler,
    )
    if jobs is not None and jobs < 1:
        raise ValueError(f"--jobs is {jobs}; give at least 1")
    executed = runs_folder(profile).resolve() / "notebooks"
    writable_folder(executed, "the environment variable C2F_LRP_RUNS")
    os.environ["C2F_LRP_RUNS"] = str(executed.parent.parent)  # the notebooks' kernels inherit it
    os.environ.pop("MPLBACKEND", None)  # figures are to appear in the notebooks, whatever the terminal's backend
    jobs = min(len(chosen), jobs or (1 if scheduler else fitting_jobs(settings)))
    if jobs > 1:  # each with its share of the cores
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // jobs)))
    started = time.time()

    def run(path: Path) -> None:
        with alone(executed / f".{path.stem}.lock", f"is at {path.stem} of {profile}"):
            papermill.execute_notebook(
                verbatim(path),
                verbatim(executed / path.name),
                {name: value for name, value in given.items() if name in known[path]},
                engine_name="c2f_lrp",
                kernel_name="python3",
                # Not where the command was typed: that may be among photographs, and Python imports from there.
                cwd=executed,
                progress_bar={"leave": False, "bar_format": path.stem + BAR},
            )

    with contextlib.chdir(executed):  # for all threads: papermill would change it for each, and change it back
        failed = side_by_side(run, chosen, jobs)
    if failed is not None:
        path, error = failed
        if isinstance(error, DeadKernelError):
            said = "its kernel died, perhaps for want of memory; try fewer images, or --jobs 1"
            print(f"\n{path.name}: {said}", file=sys.stderr)
        else:
            print(
                f"\n{path.name} failed in cell [{error.exec_count}], {error.source.strip().splitlines()[0]!r} "
                f"({error.ename}: {error.evalue}).\n"
                f"The notebook with the traceback: {executed / path.name}",
                file=sys.stderr,
            )
        return 1
    written = sorted(path for path in folder.iterdir() if path.stat().st_mtime >= started - 1)
    print(f"\nnotebooks run: {len(chosen)}, in {time.time() - started:.0f} s; executed copies are in {executed}")
    print(f"files written to {folder}: {len(written)}")
    print("  " + "\n  ".join(path.name for path in written))
    return 0


def side_by_side(run, chosen: list[Path], jobs: int):
    """run(path) for each notebook, `jobs` at a time, those that others read first; None, or the first that failed.

    Which is (path, error); what runs beside it, or when anything else is raised, is stopped, and no other begins.
    """
    OwnKernel.started.clear()
    read = {name for path in chosen for name in READS.get(path.stem, ())}
    waiting = sorted(chosen, key=lambda path: path.stem not in read)
    running: dict[Future, Path] = {}
    with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(chosen), unit="notebook") as progress:
        try:
            while waiting or running:
                unfinished = {path.stem for path in [*waiting, *running.values()]}
                ready = [path for path in waiting if not unfinished.intersection(READS.get(path.stem, ()))]
                for path in ready[: jobs - len(running)]:
                    waiting.remove(path)
                    running[pool.submit(run, path)] = path
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    path = running.pop(future)
                    future.result()
                    progress.update()
        except (PapermillExecutionError, DeadKernelError) as error:
            return path, error
        finally:
            while wait(running, timeout=0.2).not_done:
                for kernel in list(OwnKernel.started):  # one may just be starting
                    kernel.kill()
    return None


def fitting_jobs(profile: Profile) -> int:
    """How many notebooks may run at a time: one for each core, as far as the free memory goes.

    They share nothing, so two of them with a core each are much quicker than one after the other with both.
    """
    needed = MEMORY[profile.image_size > 64]
    fits = psutil.virtual_memory().available // (needed * 2**30)
    return int(max(1, min(cores(), fits, MOST_AT_A_TIME)))


def cores() -> int:
    """Cores that this process may use; two hyperthreads of one are one."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, psutil.cpu_count(logical=False) or allowed)


def verbatim(path: Path) -> str:
    """A path as papermill takes it, which reads {name} in one as a parameter to fill in."""
    return str(path).replace("{", "{{").replace("}", "}}")


def defaults(path: Path) -> dict:
    """{name: default} of a notebook's parameters."""
    return {
        name: ast.literal_eval(told["default"]) for name, told in papermill.inspect_notebook(verbatim(path)).items()
    }


def fitting(value, default, name: str, notebook: str):
    """A value for a parameter, which must be of its default's kind; numbers that YAML takes for words are numbers.

    Raises ValueError that says what the notebook takes.
    """
    count = name.endswith(("images", "iterations"))
    wanted = default if default is not None or not count or value is None else 64
    if is_number(wanted) and isinstance(value, str):  # YAML knows 1.0e+4, and not 1e4
        with contextlib.suppress(ValueError):
            value = int(value) if value.isdecimal() else float(value)
    if count and is_number(wanted):
        good, kind = type(value) is int and value > 0, "a whole number above 0"
    elif is_number(wanted):
        good, kind = is_number(value), "a number"
    elif isinstance(wanted, bool):
        good, kind = isinstance(value, bool), "true or false"
    elif isinstance(wanted, str):
        good, kind = isinstance(value, str), "a word (put quotes in quotes where YAML sees something else: '\"no\"')"
    elif isinstance(wanted, list):
        first = wanted[0]
        same = is_number if is_number(first) else lambda part: type(part) is type(first)
        good, kind = isinstance(value, list) and len(value) > 0 and all(map(same, value)), "a list of such values"
    else:
        return value
    if not good:
        raise ValueError(f"parameter {name} is {value!r}; {notebook} takes {kind}, such as {wanted!r}")
    return value


def is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def without_widgets(outputs: list) -> list:
    """A cell's outputs as they show without a kernel: of a progress bar nothing, of the demo the picture beside it."""
    shown = []
    for output in outputs:
        widget = output.get("data", {}).pop(WIDGET, None)
        if widget is None or "image/png" in output.data:
            shown.append(output)
    return shown


def choose(only: list[str] | None) -> list[Path]:
    """The notebooks to run: all, or those whose name begins as given, with or without its number."""
    notebooks = {path.stem: path for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))}
    if not only:
        return list(notebooks.values())
    meant = {
        name: [stem for stem in notebooks if name and (stem.startswith(name) or stem.split("_", 1)[1].startswith(name))]
        for name in only
    }
    unknown = [name for name, stems in meant.items() if len(stems) != 1]
    if unknown:
        what = "unknown" if not meant[unknown[0]] else "several"
        raise ValueError(f"notebook {', '.join(unknown)} is {what}; choose from {', '.join(notebooks)}")
    return [notebooks[stem] for stem in sorted({stem for (stem,) in meant.values()})]
