"""Shards attacked by the workers of a Dask cluster."""

from collections.abc import Iterator
from itertools import islice

import pandas as pd

from c2f_lrp import shards
from c2f_lrp.attacks import Attack
from c2f_lrp.classifier import CoarseToFine
from c2f_lrp.cluster import Sent, check_here, connected, connection_errors, on_best_device, send
from c2f_lrp.evaluation.rows import CleanPredictions, Shard, attack_rows, predict_clean


def attack_on_cluster(
    address: str, classifier: CoarseToFine, missing: Iterator[list[Shard]], measures: bool
) -> Iterator[tuple[Shard, pd.DataFrame]]:
    """Each shard with its rows, in the order in which workers finish; missing as for `attack_locally`.

    About twice as many are under way as there are threads, so that the images of a few slices are held, not all.
    """
    with connected(address) as client, connection_errors(address):
        from distributed import as_completed

        network = send(client, classifier)
        images, before = None, None
        under_way, finished = {}, as_completed(loop=client.loop)
        while True:
            wanted = max(4, 2 * sum(client.nthreads().values()))  # clusters grow and shrink
            for together in islice(missing, max(0, wanted - len(under_way))):
                shard, some = together[0], [shard.attack for shard in together]
                if shard.images is not images:
                    images = shard.images
                    few = send(client, images)
                    before = client.submit(predict_on_worker, network, few, shard.attack.level, measures, pure=False)
                future = client.submit(rows_on_worker, network, before, some, shards.software(), pure=False)
                under_way[future] = together
                finished.add(future)
            if not under_way:
                return
            future = next(finished)
            yield from zip(under_way.pop(future), future.result(), strict=True)


def predict_on_worker(classifier: Sent, images: Sent, level: str, measures: bool) -> CleanPredictions:
    """On a worker."""
    return predict_clean(on_best_device(classifier), images.value, level, measures)


def rows_on_worker(
    classifier: Sent, before: CleanPredictions, attacks: list[Attack], software: dict[str, str]
) -> list[pd.DataFrame]:
    """On a worker."""
    check_here(software)
    return attack_rows(on_best_device(classifier), before, attacks)
