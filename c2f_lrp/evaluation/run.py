"""Attacks over many images, in shards that are kept in files."""

import ctypes
import dataclasses
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from c2f_lrp import shards
from c2f_lrp.attacks import Attack, preflight
from c2f_lrp.attacks.bounds import families
from c2f_lrp.checks import check_inputs, check_labels, check_two_levels
from c2f_lrp.classifier import CoarseToFine
from c2f_lrp.datasets import Images, LazyImages
from c2f_lrp.evaluation.rows import Setting, Shard, as_float, attack_locally
from c2f_lrp.resources import LARGEST_BATCH

SHARD_SIZE = 50  # images; of the scenes a few seconds' work


def evaluate(
    classifier: CoarseToFine,
    images: Images | LazyImages,
    attacks: Mapping[str, Attack] | Mapping[Setting, Attack],
    *,
    store: Path | None = None,
    resume: bool = False,
    measures: bool = True,
    shard_size: int | None = None,
    scheduler: str | None = None,
) -> pd.DataFrame:
    """One row per attack setting and image.

    Columns: the setting (attack, reading, eps, and in words `setting`; an attack given by a plain name has that name),
    labels before and after, fooled, iterations, the seed of a random start (-1: none), the largest |eta| in pixel
    units, the terms of eq. (10). With `measures` also the runner-up label and where relevance and the perturbation lie
    (`measures.localisation`, in the default reading of eqs. (3)-(4)).

    Images that the classifier gets wrong at the attack's level (or at the coarse one) have correct=False and no
    measures (nan, runner-up -1); they are attacked too, as Algorithm 1 is printed, and `summarize` counts them apart.
    Images whose coarse class has a single fine class have no row at the fine level.

    Rows are made in shards of `shard_size` images (default SHARD_SIZE) and one setting. With a folder `store` each is
    written there as soon as it is done, whole or not at all, under a hash of all that determines it (settings, weights,
    images, this package's code, torch's version); `resume` reads those that are there. Settings that differ in their
    bound alone are attacked together where the images of one network are few, as at the fine level, and their shards
    are written together. Before a setting's first shard
    is attacked, `attacks.preflight` looks at two images and warns of what speaks against believing the attack; settings
    that differ in their bound only are looked at once.

    The result's `attrs` say in which shards of the store its rows lie and what these hash to, for the sidecars of what
    is made of them (`provenance.save_table`).

    scheduler: the address of a Dask scheduler, whose workers then attack the shards, on their GPU where they have one;
    this process writes them.

    Raises ValueError for images, labels or a classifier that no attack can use, OSError where a shard cannot be
    written: those before it are kept.
    """
    check_two_levels(classifier)
    if not all(hasattr(images, name) for name in ("coarse", "fine")):
        kind = type(images).__name__
        raise ValueError(f"the images are a {kind}; give Images, as of c2f_lrp.load_images, which have their labels")
    if not hasattr(attacks, "values"):
        kind = type(attacks).__name__
        raise ValueError(f'the attacks are a {kind}; give a dict with a name for each, such as {{"PGDC": PGDC()}}')
    if not len(images):
        raise ValueError("no images were given to evaluate")
    if not attacks:
        raise ValueError("no attacks were given to evaluate")
    if shard_size is not None and shard_size < 1:
        raise ValueError(f"shard_size is {shard_size}; give at least one image")
    check_labels(images.coarse, len(images), classifier.hierarchy.n_coarse)
    levels = list(dict.fromkeys(attack.level for attack in attacks.values()))
    rows = {level: attackable(classifier, images, level) for level in levels}
    total = sum(len(rows[attack.level]) for attack in attacks.values())
    if not total:
        raise ValueError(f"none of the {len(images)} images is of a coarse class with several fine ones")
    if store is not None:
        shards.open_store(store := Path(store))
    common = dict(classifier=shards.classifier_facts(classifier), measures=measures, software=shards.software())
    attacks = {Setting(key) if isinstance(key, str) else key: attack for key, attack in attacks.items()}
    tables: dict[tuple[Setting, int], pd.DataFrame] = {}  # by setting and first row
    hashes: dict[tuple[Setting, int], tuple[str, str]] = {}  # the same: key and hash of the rows
    progress = tqdm(total=total, unit="image", desc="attacking")

    def missing() -> Iterator[list[Shard]]:
        """The shards to be attacked, those of one slice of the images after each other; others are read meanwhile.

        In groups that share batches, where the images of one network in a slice may be too few to fill one.
        """
        checked = []
        for level, start, part in slices(images, rows, shard_size or SHARD_SIZE):
            check_inputs(classifier, as_float(part).pixels, part.coarse, part.fine)
            content = shards.image_facts(part)
            wanted: dict[Setting, Shard] = {}
            for setting, attack in attacks.items():
                if attack.level != level:
                    continue
                settings = dataclasses.asdict(attack)
                facts = dict(attack=type(attack).__name__, settings=settings, images=content)
                shard = Shard(setting, start, attack, part, common | facts)
                table = shards.read_shard(store, shard.facts) if resume and store is not None else None
                if table is not None:
                    keep(shard, table)
                    continue
                step = type(attack), settings | {"eps": None}  # a bound gives no step another direction
                if step not in checked:
                    checked.append(step)
                    warn_from_preflight(classifier, part, attack)
                wanted[setting] = shard
            few = level == "fine" or 2 * len(part) <= LARGEST_BATCH
            together = {setting: shard.attack for setting, shard in wanted.items()}
            for names in families(together) if few else [[setting] for setting in wanted]:
                yield [wanted[name] for name in names]

    def keep(shard: Shard, table: pd.DataFrame) -> None:
        tables[shard.setting, shard.start] = table
        if store is not None:
            hashes[shard.setting, shard.start] = shards.shard_key(shard.facts), shards.table_hash(table)
        progress.set_postfix_str(shard.setting.label)
        progress.update(len(table))

    if scheduler is None:
        done = attack_locally(classifier, missing(), measures)
    else:
        from c2f_lrp.evaluation.on_cluster import attack_on_cluster  # Dask is an extra

        done = attack_on_cluster(scheduler, classifier, missing(), measures)
    with progress:
        for shard, table in done:
            if store is not None:
                shards.write_shard(store, table, shard.facts)
            keep(shard, table)
            trim_heap()
    order = {setting: place for place, setting in enumerate(attacks)}
    keys = sorted(tables, key=lambda key: (order[key[0]], key[1]))
    rows = pd.concat(
        [tables.pop(key).assign(setting=key[0].label, **key[0]._asdict()) for key in keys], ignore_index=True
    )
    if store is not None:
        rows.attrs["shards"] = {hashes[key][0]: hashes[key][1] for key in keys}
    if scheduler is not None:
        rows.attrs["device"] = "workers of a Dask cluster"
    return rows


def attackable(classifier: CoarseToFine, images: Images | LazyImages, level: str) -> Tensor:
    """Rows of the images whose label at this level can change: at the fine level not of a class with one fine class.

    At the fine level in order of their coarse class, so that the images of a shard are of few networks: large batches
    are quicker.
    """
    if level == "coarse":
        return torch.arange(len(images), device=images.coarse.device)
    n_fine = torch.tensor(classifier.hierarchy.n_fine, device=images.coarse.device)
    several = (n_fine[images.coarse] > 1).nonzero().flatten()
    return several[images.coarse[several].argsort(stable=True)]


def slices(images: Images | LazyImages, rows: dict[str, Tensor], size: int) -> Iterator[tuple[str, int, Images]]:
    """(level, first row, images) for each slice of the rows of each level."""
    for level, chosen in rows.items():
        for part in chosen.split(size):
            yield level, int(part[0]), images[part.tolist()]


def warn_from_preflight(classifier: CoarseToFine, images: Images, attack: Attack, n: int = 2) -> None:
    """Warn of what `attacks.preflight` finds with the first n images that are classified correctly."""
    images = as_float(images).to(next(classifier.parameters()).device)
    labels = images.coarse, images.fine
    right = torch.stack([a == b for a, b in zip(classifier.predict(images.pixels), labels, strict=True)]).all(0)
    few = images[right.nonzero().flatten()[:n]]
    for doubt in preflight(attack, classifier, few.pixels, few.coarse, few.fine):
        warnings.warn(doubt, stacklevel=3)


def trim_heap() -> None:
    """What is free goes back to the system: glibc keeps it in pools, which grow for the first dozens of shards."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
