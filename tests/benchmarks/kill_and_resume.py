"""Table I, killed with SIGKILL at ten random moments and resumed each time, against a run that nobody disturbed.

    python -m tests.benchmarks.kill_and_resume [--images 100] [--kills 10] [--seed 0]

Runs `c2f-lrp reproduce --only table_1` in processes of its own, in a temporary folder, and kills all of them at once.
Writes kill_and_resume.md beside this file; fails where the table differs, or a shard was lost or made twice.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from tqdm.auto import tqdm

from c2f_lrp.provenance import sha256
from c2f_lrp.shards import software


class Run:
    """One `c2f-lrp reproduce` with its own folders of rows and of figures."""

    def __init__(self, folder: Path, images: int, *more: str):
        self.rows, self.figures = folder / "runs" / "scenes" / "rows", folder / "figures" / "scenes"
        command = [sys.executable, "-m", "c2f_lrp.cli", "reproduce", "--only", "table_1"]
        command += ["--out", str(folder / "figures"), "-p", "n_images", str(images), *more]
        environment = os.environ | {"C2F_LRP_RUNS": str(folder / "runs"), "OMP_NUM_THREADS": "1"}
        quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.process = psutil.Popen(command, env=environment, **quiet)

    def kill(self) -> None:
        """The command and the notebook's kernel, without a chance to put anything in order."""
        family = [self.process, *self.process.children(recursive=True)]
        for one in family:
            try:
                one.kill()
            except psutil.NoSuchProcess:
                pass
        psutil.wait_procs(family)

    def finish(self) -> None:
        if self.process.wait():
            raise SystemExit("the run failed; run the same command by hand to see why")

    def shards(self) -> dict[str, tuple[int, int, str]]:
        """Of each shard what changes when it is written again, and its content."""
        return {
            path.name: (path.stat().st_ino, path.stat().st_mtime_ns, sha256(path))
            for path in self.rows.glob("*.parquet")
        }

    def tables(self) -> dict[str, str]:
        return {path.name: sha256(path) for path in sorted(self.figures.iterdir()) if path.suffix != ".json"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        whole = Run(Path(folder) / "whole", options.images)
        first = None  # when the first shard was there
        while whole.process.poll() is None:
            if first is None and whole.shards():
                first = time.monotonic() - started
            time.sleep(0.1)
        whole.finish()
        seconds = time.monotonic() - started
        each = (seconds - first) / len(whole.shards())
        seen: dict[str, tuple] = {}
        lines = []
        # Moments of the work, in shards: 2.3 is when two are there and a third of the time for the next has passed.
        for moment in tqdm(sorted(moments.uniform(0, len(whole.shards())) for _ in range(options.kills)), desc="kills"):
            run = Run(Path(folder) / "killed", options.images, "--resume")
            while len(run.shards()) < int(moment) and run.process.poll() is None:
                time.sleep(0.02)
            time.sleep(moment % 1 * each)
            ended = run.process.poll() is not None
            run.kill()
            now, half = run.shards(), len(list(run.rows.glob("*.part")))
            again = [name for name in seen if now.get(name) != seen[name]]
            lines.append([f"{moment:.2f}", len(now), half, len(again), "yes" if ended else "no"])
            seen = now
        run = Run(Path(folder) / "killed", options.images, "--resume")
        run.finish()
        now = run.shards()
        again = [name for name in seen if now.get(name) != seen[name]]
        lines.append(["not killed", len(now), 0, len(again), "yes"])
        same_tables = run.tables() == whole.tables()
        same_rows = {name: facts[2] for name, facts in now.items()} == {
            name: facts[2] for name, facts in whole.shards().items()
        }
        started = time.monotonic()
        Run(Path(folder) / "killed", options.images, "--resume").finish()
        nothing_left = time.monotonic() - started
        names = ", ".join(f"`{name}`" for name in run.tables())
    lost = sum(line[3] for line in lines)
    yes = {True: "yes", False: "NO"}
    header = ["killed after shard", "shards there", "half-written files", "lost or made twice", "was it over"]
    table = [header, ["---"] * len(header), *lines]
    text = f"""# Killed and resumed

Written by `python -m tests.benchmarks.kill_and_resume --images {options.images} --seed {options.seed}`: Table I on
{options.images} scenes, killed with SIGKILL (the command and its kernel) {options.kills} times, at random moments,
and resumed each time. c2f_lrp {software()["c2f_lrp"]}, torch {software()["torch"]}, CPU, one thread, on a machine that
others used too.

{chr(10).join("| " + " | ".join(map(str, line)) + " |" for line in table)}

- The final tables and figures are, byte for byte, those of an undisturbed run: {yes[same_tables]}.
  ({names})
- So are all {len(now)} shards: {yes[same_rows]}.
- Shards lost, or made again after they were written: {lost}.
- The undisturbed run took {seconds:.0f} s, of which {first:.0f} s went by before its first shard; a run that found
  everything done, {nothing_left:.0f} s.
"""
    print(text)
    (Path(__file__).parent / "kill_and_resume.md").write_text(text, encoding="utf-8")
    if lost or not (same_tables and same_rows):
        raise SystemExit("something was lost, made twice or different")


if __name__ == "__main__":
    main()
