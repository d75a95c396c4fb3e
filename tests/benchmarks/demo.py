"""How soon the demo answers: every control changed once and back on several scenes, without a browser.

    python -m tests.benchmarks.demo [--scenes 8]        to demo.md beside this file

A change is timed from the widget's new value to two pictures: that of the new attack's first step, which is when the
page has answered, and that of its last, with all steps, heatmaps and drawings between. The picture of the clean image,
which comes still earlier, does not count. Every attack is new, none comes from the cache. Wall time is what a class
waits; processor time hardly minds what else the machine is doing.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from c2f_lrp.demo import ATTACKS, LEVELS, LOSSES, Demo
from c2f_lrp.tables import READINGS

PHOTOGRAPH = "the photograph: its first step"


@contextmanager
def noting_steps(page: Demo, then: Callable[[], None] = lambda: None) -> Iterator[list[tuple[float, float]]]:
    """Seconds on the wall and of the processor, from here to each step's picture; `then` is called after each."""
    show, drawn = page.show_step, []
    wall, processor = time.perf_counter(), time.process_time()

    def showing(step: int) -> None:
        show(step)
        if step:
            drawn.append((time.perf_counter() - wall, time.process_time() - processor))
            then()

    page.show_step = showing  # type: ignore[method-assign]
    try:
        yield drawn
    finally:
        page.show_step = show  # type: ignore[method-assign]


def timed(page: Demo, **values) -> tuple[float, float, float]:
    """Seconds until all these widgets have their values and a first step of the attack is drawn; until its last is.

    The third are of the processor, until the last.
    """
    page.finish()
    page.traces.clear()
    wall, processor = time.perf_counter(), time.process_time()
    with noting_steps(page) as drawn:
        for name, value in values.items():
            getattr(page, name).value = value
        page.finish()
    last = time.perf_counter() - wall
    return drawn[0][0] if drawn else last, last, time.process_time() - processor


def measure(scenes: int) -> pd.DataFrame:
    """One row per change."""
    page, rows = Demo(n_images=scenes), []

    def note(change: str, **values) -> None:
        rows.append((change, *timed(page, **values)))

    page.choose(*page.examples[0])
    page.finish()
    timed(page, eps=8)  # what only the first attack pays
    for row in range(scenes):
        note("another scene", image=row)
        for level in LEVELS:
            page.level.value = level
            for name in ATTACKS:
                page.attack.value = name
                note(f"{name}, {level}: another step", step=0)
                if name != "DeepFool":
                    note(f"{name}, {level}: another ε", eps=20)
                else:
                    page.attack.value = "PGD"
                    note(f"{name}, {level}: chosen", attack=name)
        page.level.value, page.attack.value = "coarse", next(iter(ATTACKS))
        for reading_name, reading in READINGS.items():
            page.reading.value = reading
            for loss_name, loss in LOSSES.items():
                page.loss.value = loss
                note(f"LRP, {reading_name}, loss {loss_name}: another ε", eps=20)
                page.eps.value = 10
        page.reading.value, page.loss.value = next(iter(READINGS.values())), next(iter(LOSSES.values()))
    page.choose(*page.examples[-1])
    page.stop()
    stepped = [first_step(page) for _ in range(3)]
    rows += [(PHOTOGRAPH, wall, wall, processor) for wall, processor in stepped]
    return pd.DataFrame(rows, columns=["change", "first", "wall", "processor"])


def first_step(page: Demo) -> tuple[float, float]:
    """Seconds until the first step of the attack on the photograph is on the page, and the processor's; then stop."""
    page.traces.clear()
    with noting_steps(page, then=page.stopping.set) as drawn:
        page.attack_again()
        page.finish()
    return drawn[0]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--scenes", type=int, default=8)
    scenes = options.parse_args().scenes
    before = os.getloadavg()[0]
    rows = measure(scenes)
    groups = rows.groupby("change", sort=False)
    table = pd.DataFrame(
        {
            "times": groups.size(),
            "first step, median s": groups["first"].median(),
            "first step, slowest s": groups["first"].max(),
            "last step, median s": groups.wall.median(),
            "last step, slowest s": groups.wall.max(),
            "processor, median s": groups.processor.median(),
        }
    )
    scene = rows[rows.change != PHOTOGRAPH]
    text = (
        f"# How soon the demo answers\n\n`python -m tests.benchmarks.demo --scenes {scenes}`, {os.cpu_count()} cores, "
        f"torch {torch.__version__} (threads: {torch.get_num_threads()}), {platform.machine()}; other work on the "
        f"machine, as load averages: {before:.1f} before, {os.getloadavg()[0]:.1f} after.\n\n"
        f"Of {len(scene)} changes on scenes {np.mean(scene['first'] < 1):.1%} showed the new attack's first step "
        f"within a second, the slowest after {scene['first'].max():.2f} s; {np.mean(scene.wall < 1):.1%} showed its "
        f"last within a second, the slowest after {scene.wall.max():.2f} s.\n\n"
    )
    (Path(__file__).parent / "demo.md").write_text(text + table.to_markdown(floatfmt=".2f") + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
