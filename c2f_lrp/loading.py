"""Classifiers and images by the name of their profile."""

from collections.abc import Sequence
from pathlib import Path

import torch

from c2f_lrp.checkpoints import checkpoints_table, read_checkpoints
from c2f_lrp.classifier import PIXEL_MEAN, PIXEL_STD, CoarseToFine, SingleClass
from c2f_lrp.datasets import Images, LazyImages, Reader, reader_class
from c2f_lrp.hierarchy import Hierarchy
from c2f_lrp.networks import FLAT, load_network, network_file
from c2f_lrp.networks.named import named_network
from c2f_lrp.profiles import Profile, get_profile


def load_classifier(profile: str, weights: Path | None = None) -> CoarseToFine:
    """The trained coarse-to-fine classifier of a profile, in eval mode, its parameters frozen.

    `weights` is a folder written by `c2f-lrp train --out` (for imagenet-flat: `c2f-lrp data weights --out`); by
    default the profile's own, which is in the package where weights ship.
    Every file must have the checksum that checkpoints.csv records for it.
    """
    settings = get_profile(profile)
    hierarchy = settings.hierarchy(weights)
    folder = Path(weights) if weights else settings.weights
    table = checkpoints_table(settings, folder)
    checksums = {row["network"]: row["sha256"] for row in read_checkpoints(table, profile)}

    def load(path: Path):
        if path.stem not in checksums:
            how = "data weights" if settings.networks == "flat" else f"train --profile {profile}"
            raise FileNotFoundError(f"{table} records no {path.stem} network of {profile}; run: c2f-lrp {how}")
        return load_network(path, checksums[path.stem])

    if settings.networks == "flat":
        return CoarseToFine.from_flat(load(folder / FLAT), hierarchy).eval().requires_grad_(False)
    fine = [
        load(network_file(folder, hierarchy, i)) if hierarchy.n_fine[i] > 1 else SingleClass()
        for i in range(hierarchy.n_coarse)
    ]
    coarse = load(network_file(folder, hierarchy, None))
    return CoarseToFine(coarse, fine, hierarchy).eval().requires_grad_(False)


def load_flat(
    network: str,
    file: Path,
    hierarchy: Hierarchy | None = None,
    *,
    mean: float | Sequence[float] = PIXEL_MEAN,
    std: float | Sequence[float] = PIXEL_STD,
    image_size: int = 224,
) -> CoarseToFine:
    """A coarse-to-fine classifier of a flat ImageNet network of another library, in eval mode, its parameters frozen.

    network: such as "torchvision:resnet50"; file: its weights; mean, std in units of 0..255, image_size in pixels: what
    it was trained with (see `c2f_lrp.networks.named.named_network`, also for errors). hierarchy: how its 1000 outputs,
    in ImageNet's order, are grouped (`CoarseToFine.from_flat`); None: the paper's 393 classes in eight groups.
    """
    if image_size < 1:
        raise ValueError(f"image_size is {image_size}; give the pixels a side that {network} takes")
    flat = named_network(network, file, mean=mean, std=std, image_size=image_size)
    try:
        with torch.no_grad():
            flat(torch.zeros(1, 3, image_size, image_size))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{network} takes no images of {image_size} pixels a side ({reason}); give its own size"
        ) from error
    hierarchy = hierarchy or get_profile("imagenet").hierarchy()
    return CoarseToFine.from_flat(flat, hierarchy).eval().requires_grad_(False)


def load_images(
    profile: str,
    split: str = "evaluation",
    limit: int | None = None,
    root: Path | None = None,
    weights: Path | None = None,
    coarse: str | None = None,
) -> Images:
    """Images of a profile with float32 pixels (N, 3, H, W) in [0, 255].

    split: "train", "validation", or "evaluation" (the validation part, RGB photographs only, as in the paper).
    limit: at most so many, the first in a fixed random order. root: the folder of photographs, where one is needed.
    weights: of the profile folder, whose hierarchy lies beside its weights; by default where these usually are.
    coarse: the name of a coarse class; of these images its own alone are drawn or read. Raises ValueError for an
    unknown name, and where there is none.
    """
    settings = get_profile(profile)
    hierarchy = settings.hierarchy(weights)
    reader = open_reader(settings, hierarchy, root, limit)
    if coarse is None:
        images = reader.read(split, limit)
    else:
        every = reader.lazy(split, limit)
        chosen = every.coarse == hierarchy.coarse_index(coarse)
        if not chosen.any():
            raise ValueError(f"none of {len(every)} images is of the class {coarse}; try more images")
        images = every[chosen]
    return images.with_pixels(images.pixels.float())


def open_images(
    profile: str,
    split: str = "evaluation",
    limit: int | None = None,
    root: Path | None = None,
    weights: Path | None = None,
) -> LazyImages:
    """Images of a profile, drawn or read only when they are asked for, pixels uint8: as many as a disk holds.

    Arguments are those of `load_images`. `evaluation.evaluate` takes them as it takes `Images`.
    """
    settings = get_profile(profile)
    return open_reader(settings, settings.hierarchy(weights), root, limit).lazy(split, limit)


def open_reader(profile: Profile, hierarchy: Hierarchy, root: Path | None, limit: int | None = None) -> Reader:
    """The reader of a profile's images, once it is known that `limit` can be met."""
    if limit is not None and (not hasattr(limit, "__index__") or limit < 1):
        raise ValueError(f"limit is {limit!r}; ask for at least one image, or None for all of them")
    return reader_class(profile)(profile, hierarchy, root)
