"""What a cluster of one worker on this machine costs, against the same evaluation without one.

    python -m tests.benchmarks.dask_overhead [--images 100] [--repeats 3]        to dask_overhead.md beside this file

Both take turns, with one thread each. CPU time is that of all processes that take part, so that a machine shared with
other work does not decide; starting the cluster is not counted, as it is there for a whole run.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from tqdm.auto import tqdm

import c2f_lrp
from c2f_lrp import cluster, evaluation
from c2f_lrp.attacks import DFC, LRPC
from c2f_lrp.evaluation import run as evaluation_run
from c2f_lrp.tables import READINGS

ATTACKS = {f"LRPC | {name}": LRPC(eps=10, **reading) for name, reading in READINGS.items()} | {"DFC": DFC()}
ALLOWED = 1.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    classifier = c2f_lrp.load_classifier("scenes")
    images = c2f_lrp.open_images("scenes", limit=options.images)
    taken: dict[str, list[tuple[float, float]]] = {"without": [], "with": []}
    rows = {}
    with cluster.local(1) as address, cluster.connected(address) as client:

        def clocks() -> tuple[float, float]:
            return time.process_time() + sum(client.run(time.process_time).values()), time.monotonic()

        for repeat in tqdm(range(options.repeats + 1)):
            for how, scheduler in (("without", None), ("with", address)):
                before = clocks()
                rows[how] = evaluation.evaluate(classifier, images, ATTACKS, scheduler=scheduler)
                if repeat:  # the first turn warms up
                    taken[how].append(tuple(b - a for a, b in zip(before, clocks(), strict=True)))
    ratios = [
        [mine / plain for mine, plain in zip(mine, plain, strict=True)]
        for mine, plain in zip(taken["with"], taken["without"], strict=True)
    ]
    lines = []
    for place, what in enumerate(("CPU time", "wall time")):
        values = [statistics.median(turn[place] for turn in taken[how]) for how in ("without", "with")]
        found = sorted(ratio[place] for ratio in ratios)
        middle = statistics.median(found)
        word = "yes" if middle <= ALLOWED else "NO"
        lines.append(
            f"| {what} | {values[0]:.2f} | {values[1]:.2f} | {middle:.3f} ({found[0]:.3f}–{found[-1]:.3f}) | {word} |"
        )
    same = rows["with"].equals(rows["without"])
    text = f"""# What Dask costs on one machine

Written by `python -m tests.benchmarks.dask_overhead --images {options.images} --repeats {options.repeats}`:
{len(ATTACKS)} settings on {options.images} scenes in shards of {evaluation_run.SHARD_SIZE}, one worker of one thread
against none; torch {torch.__version__}, CPU, on a machine that others used too, so wall times are noisy.

| | s without | s with | ratio, median of turns (smallest–largest) | at most {ALLOWED} |
|---|---|---|---|---|
{chr(10).join(lines)}

Rows are the same, value for value: {"yes" if same else "NO"}.
"""
    print(text)
    (Path(__file__).parent / "dask_overhead.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
