"""Connections to a Dask cluster (dask.distributed), for evaluation/on_cluster.py and training/on_cluster.py.

What is needed is sent to the workers and what comes out is sent back: this process alone writes, so no file system
need be shared. Only photographs that training streams are read where the workers are.
"""

import contextlib
import copy
import dataclasses
import functools
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from c2f_lrp import shards
from c2f_lrp.classifier import CoarseToFine

CONNECT_SECONDS = 10
# Dask has its workers hand every large piece of memory back at once, which made DeepFool on scenes three times slower.
QUICK_MEMORY = {"distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None}


@contextlib.contextmanager
def connected(address: str) -> Iterator:
    """A client of the scheduler at this address, such as tcp://10.0.0.1:8786.

    Raises OSError where none answers, ValueError where it, or one of its workers, has other software than this process.
    """
    distributed = dask_distributed()
    try:
        client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise OSError(
            f"no Dask scheduler answers at {address}; start one with `dask scheduler` and give the address that it "
            "prints, such as tcp://10.0.0.1:8786, or leave out --scheduler"
        ) from error
    with client:
        found = {f"the scheduler {address}": client.run_on_scheduler(software_there())}
        found |= {f"worker {name}": told for name, told in client.run(software_there()).items()}
        for name, told in found.items():
            check_software(name, told)
        yield client


@contextlib.contextmanager
def remote(address: str) -> Iterator[str]:
    """The address, once it is known to answer and to fit."""
    with connected(address):
        pass
    yield address


@contextlib.contextmanager
def local(workers: int) -> Iterator[str]:
    """A cluster of so many processes on this machine, one thread each; its scheduler's address."""
    if workers < 1:
        raise ValueError(f"--workers is {workers}; give at least 1")
    distributed = dask_distributed()
    import dask

    # No limit of memory: a process without a cluster has none either.
    settings = dict(threads_per_worker=1, memory_limit=None, dashboard_address=":0", silence_logs=logging.ERROR)
    with dask.config.set(QUICK_MEMORY), distributed.LocalCluster(workers, **settings) as cluster:
        yield cluster.scheduler_address


def dask_distributed():
    try:
        import distributed
    except ImportError as error:
        raise ValueError('Dask is missing; run: python -m pip install "dask[distributed]"') from error
    return distributed


def software_there():
    """A function that travels by its code, so that it can also say that a machine has no c2f_lrp."""

    def software() -> dict[str, str]:
        try:
            from c2f_lrp.shards import software
        except ImportError:
            return {"c2f_lrp": "none, or an old one"}
        return software()

    return software


def check_software(name: str, told: dict[str, str]) -> None:
    here = shards.software()
    other = [f"{key} {told.get(key)} (here {here[key]})" for key in here if told.get(key) != here[key]]
    if other:
        raise ValueError(
            f"{name} has {', '.join(other)}; its rows would not be this package's: install the same on all machines"
        )


def send(client, value):
    """A future of this value. Unlike scattered data it is not lost with the workers that hold it: the scheduler keeps
    it, and hands it out again.
    """
    with quiet():
        return client.submit(received, Sent(value), pure=False)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Dask advises against large arguments, for which it has scattering: see `send`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph")
        yield


@dataclasses.dataclass(frozen=True, eq=False)
class Sent:
    """What is pickled as it is. Dask takes a torch module that it meets apart, and puts it together without what its
    hooks need.
    """

    value: Any


def received(sent: Sent) -> Sent:
    return sent


def best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


@functools.lru_cache(maxsize=1)
def on_best_device(classifier: Sent) -> CoarseToFine:
    """A worker with a GPU keeps a copy there; what is sent on to other workers stays on the CPU."""
    return classifier.value if best_device() == "cpu" else copy.deepcopy(classifier.value).to(best_device())


@contextlib.contextmanager
def connection_errors(address: str) -> Iterator[None]:
    """Dask's ways of saying that the cluster is gone, as one line."""
    from distributed import CancelledError, KilledWorker
    from distributed.comm import CommClosedError

    try:
        yield
    except KilledWorker as error:
        raise OSError(
            f"{error.args[0]} was given up: each of the workers that tried it died, the last at "
            f"{error.last_worker.address}, perhaps for want of memory. What was finished is kept: run again with "
            "--resume"
        ) from error
    except (CancelledError, CommClosedError) as error:
        raise OSError(
            f"the scheduler {address} went away; what was finished is kept: run again with --resume"
        ) from error


def check_here(software: dict[str, str]) -> None:
    """On a worker: it may have joined after the client looked at all of them."""
    other = [f"{key} {value}" for key, value in shards.software().items() if software[key] != value]
    if other:
        raise ValueError(f"a worker that joined later has {', '.join(other)}; install the same on all machines")
