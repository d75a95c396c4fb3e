"""Networks trained side by side by the workers of a Dask cluster."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from c2f_lrp import shards
from c2f_lrp.cluster import Sent, best_device, check_here, connected, connection_errors, quiet, send
from c2f_lrp.files import atomic_write
from c2f_lrp.training.trainer import Job, last_epoch


def train_on_cluster(address: str, jobs: list[Job]) -> None:
    """Train networks side by side, an epoch a task, and write each one's state as it comes back.

    Where a worker dies, that epoch is trained again elsewhere; where this process dies, the next goes on from the
    states.
    """
    with connected(address) as client, connection_errors(address):
        from distributed import as_completed

        starts = {job.start: send(client, job.start.read_bytes()) for job in jobs if job.start is not None}
        data = {job.state: send(client, (job.data, job.labels)) for job in jobs}
        under_way, finished = {}, as_completed(loop=client.loop)
        total = sum(last_epoch(job.run) for job in jobs)
        progress = tqdm(total=total, desc="epochs of all", unit="epoch", leave=False)

        def go_on(job: Job) -> None:
            epoch = job.epochs_done()
            if epoch == last_epoch(job.run):
                return
            # No more than one worker is to hold what it needs: states are large, and the next one follows.
            light = dataclasses.replace(job, data=None, labels=None, state=Path(job.state.name), start=None)
            state = job.state.read_bytes() if epoch else None
            start = None if job.start is None else starts[job.start]
            with quiet():
                future = client.submit(
                    epoch_on_worker, light, data[job.state], start, state, epoch + 1, shards.software(),
                    pure=False,
                )  # fmt: skip
            under_way[future] = job
            finished.add(future)

        for job in jobs:
            progress.update(job.epochs_done())
            go_on(job)
        while under_way:
            future = next(finished)
            job = under_way.pop(future)
            with atomic_write(job.state) as part:
                part.write_bytes(future.result())
            progress.update()
            go_on(job)
        progress.close()


def epoch_on_worker(
    job: Job, data: Sent, start: Sent | None, state: bytes | None, until: int, software: dict[str, str]
) -> bytes:
    """On a worker: the state after one more epoch."""
    check_here(software)
    with tempfile.TemporaryDirectory() as folder:
        files: dict[str, Any] = {"state": Path(folder) / job.state}
        if start is not None:
            files["start"] = Path(folder) / "start"
            files["start"].write_bytes(start.value)
        if state is not None:
            files["state"].write_bytes(state)
        dataclasses.replace(job, data=data.value[0], labels=data.value[1], **files).train(best_device(), until)
        return files["state"].read_bytes()
