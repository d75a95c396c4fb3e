"""Photographs on disk, a folder for each class: ILSVRC2012's ROOT/train/<wnid>/*.JPEG, and anybody's own.

Nothing inside a class folder needs a name of its own. `train/` may be left out: ROOT/<wnid>/* does as well.

Only photographs that are asked for are read, so `limit` keeps the first ones of a split quick, and training streams
them (`Photographs`). They are scaled to a shorter side of 256/224 of the network's size and their centre is taken, the
usual ImageNet preprocessing.
"""

import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing import current_process
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from c2f_lrp.datasets import Checked, Images, LazyImages, stack
from c2f_lrp.datasets.opening import look_at, open_photo, photographs_in, printable, resize_and_crop, scaled
from c2f_lrp.datasets.splits import SPLITS, check_split, position, select
from c2f_lrp.download import extract
from c2f_lrp.files import csv_table
from c2f_lrp.hierarchy import Hierarchy
from c2f_lrp.paths import manifest_path
from c2f_lrp.profiles import Profile


@dataclass(frozen=True)
class Photographs:
    """N photographs that stay on disk until they are asked for: `Images` without pixels, but with where they are.

    paths   where each lies;  coarse, fine: int64 (N,), as in `Images`;  names: as in `Images`
    size    pixels a side of what is read
    workers processes that read ahead; 0: none, they are read as they are asked for
    """

    paths: tuple[Path, ...]
    coarse: Tensor
    fine: Tensor
    names: tuple[str, ...]
    size: int
    workers: int = 0

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows) -> "Photographs":
        """The photographs at `rows`: a slice, a list of positions or a bool mask (N,)."""
        rows = torch.arange(len(self), device="cpu")[rows].reshape(-1)
        paths, names = (tuple(every[row] for row in rows.tolist()) for every in (self.paths, self.names))
        return Photographs(paths, self.coarse[rows], self.fine[rows], names, self.size, self.workers)

    def split(self, batch_size: int) -> Iterator[Tensor]:
        """Their pixels, uint8 (<= batch_size, 3, size, size) at a time, as `Tensor.split` would cut them."""
        yield from DataLoader(self.paths, batch_size, num_workers=self.processes, collate_fn=self.stacked)

    @property
    def processes(self) -> int:
        """`workers`, but none inside a Dask worker that may not have children."""
        return 0 if current_process().daemon else self.workers

    def stacked(self, paths: list[Path]) -> Tensor:
        pixels = np.stack([resize_and_crop(open_photo(path), self.size) for path in paths])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True)
class Crops:
    """Training photographs as a network sees them in one epoch: random crops, mirrored or not; a `DataLoader` reads it.

    Row i gives (uint8 (3, size, size), label). What is drawn for a row depends on `seed`, the epoch's, and on the row
    alone, so that it is the same whichever process reads it, and in a resumed run.
    """

    photographs: Photographs
    labels: Tensor
    seed: int

    def __len__(self) -> int:
        return len(self.photographs)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        from torchvision.transforms import v2  # slow to load, and only training asks

        image = open_photo(self.photographs.paths[row]).convert("RGB")
        # At least a quarter of the area: the networks know these classes already, and are used on whole objects.
        crop = v2.RandomResizedCrop(self.photographs.size, scale=(0.25, 1.0), antialias=True)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed * len(self) + row)
            return v2.Compose([crop, v2.RandomHorizontalFlip(), v2.PILToTensor()])(image), self.labels[row]


def find(
    root: Path | None,
    hierarchy: Hierarchy,
    split: str,
    size: int,
    *,
    inside: str = "train",
    workers: int = 0,
    every: bool = False,
) -> Photographs:
    """The photographs of one split in ROOT/<inside>/<class>/, in the order of their hash; none is opened yet.

    <class> is the id that the hierarchy gives a class. Folders of other classes are left alone. Below "train" some
    classes may have no folder: a part of ImageNet is of use too. every: nothing was trained on any of them, so all are
    the evaluation's.

    Raises ValueError without a root or where there is nothing of this split, FileNotFoundError where class folders are
    missing.
    """
    check_split(split)
    folder, ids, missing = class_folders(root, hierarchy, inside)
    if missing and not inside:
        raise FileNotFoundError(f"{len(missing)} of the class folders are not in {folder}, such as {missing[0]}")
    if every and split != "evaluation":
        raise ValueError(f"nothing is trained in this profile, so there is no split {split!r}; choose evaluation")
    places, _ = listed(folder, ids)
    found = chosen(places, hierarchy, split, size, every=every, workers=workers)
    if not found:
        raise ValueError(f"{folder} holds no {split} photographs of the hierarchy's classes")
    return found


def class_folders(root: Path | None, hierarchy: Hierarchy, inside: str) -> tuple[Path, list[str], list[str]]:
    """The folder that holds class folders, ids of the classes that have one, and of those that have none.

    Raises ValueError without a root, FileNotFoundError where no class has a folder.
    """
    if root is None:
        raise ValueError("this profile reads photographs: give their folder with --root (or root=...)")
    folder = Path(root) / inside
    if not folder.is_dir():
        folder = Path(root)
    every = [id_ for group in hierarchy.ids for id_ in group]
    ids = [id_ for id_ in every if (folder / id_).is_dir()]
    if not ids:
        must = f"; --root must hold them, or {inside}/ with them" if inside else ""
        raise FileNotFoundError(f"{folder} has no class folder such as {every[0]}{must}")
    return folder, ids, [id_ for id_ in every if id_ not in ids]


def listed(folder: Path, ids: list[str]) -> tuple[dict[str, tuple[Path, str]], Counter]:
    """{name: (path, id of its class)} of the photographs in class folders, and what was passed over, by why."""
    places, passed_over = {}, Counter()
    for id_ in ids:
        photographs, others = photographs_in(folder / id_)
        places |= {printable(f"{id_}/{path.name}"): (path, id_) for path in photographs}
        passed_over += others
    return places, passed_over


def chosen(
    places: dict[str, tuple[Path, str]], hierarchy: Hierarchy, split: str, size: int, *, every=False, workers=0
) -> Photographs:
    """The photographs of one split, perhaps none, of {name: (path, id of its class)}; every: those of all splits."""
    names = tuple(sorted(places, key=position) if every else select(list(places), split))
    labels = torch.tensor([hierarchy.locate(places[name][1]) for name in names], dtype=torch.int64, device="cpu")
    coarse, fine = labels.reshape(-1, 2).T
    return Photographs(tuple(places[name][0] for name in names), coarse, fine, names, size, workers)


def read(found: Photographs, split: str, limit: int | None = None, boxes: dict[str, dict] | None = None) -> Images:
    """Photographs of one split at their size, pixels uint8, in the order they were found; at most `limit`.

    "evaluation" takes RGB photographs only, as the paper does. boxes: of `read_boxes`; what has none there has an empty
    mask. Without boxes there are no masks.
    """
    rows, images = zip(*((row, decoded(image, found.size)) for row, image in opened(found, split, limit)), strict=True)
    return described(found[list(rows)], images, boxes)


def lazy(found: Photographs, split: str, limit: int | None = None, boxes: dict[str, dict] | None = None) -> LazyImages:
    """Photographs of one split, read when they are asked for; arguments are those of `read`.

    Each is opened once at first, so that a damaged one is met in time.
    """
    kept = found[[row for row, _ in opened(found, split, limit)]]

    def read_rows(rows: list[int]) -> Images:
        few = kept[rows]
        return described(few, [decoded(open_photo(path), few.size) for path in few.paths], boxes)

    return LazyImages(kept.coarse, kept.fine, read_rows)


def decoded(image: Image.Image, size: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Pixels of the crop, uint8 (size, size, 3), and the width and height that the photograph had before."""
    return resize_and_crop(image, size), image.size


def described(found: Photographs, images, boxes: dict[str, dict] | None) -> Images:
    """`Images` of decoded photographs, with the masks of their boxes."""
    pixels, sizes = zip(*images, strict=True)
    coarse, fine = found.coarse.tolist(), found.fine.tolist()
    if boxes is None:
        return stack(pixels, coarse, fine, None, found.names)
    drawn = [boxes.get(name, {}) for name in found.names]
    # The list knows photographs by name and size: another one of the same name has no box.
    drawn = [box if box.get("size") == size else {} for box, size in zip(drawn, sizes, strict=True)]
    masks = {
        kind: [crop_mask(box.get(kind), wh, found.size) for box, wh in zip(drawn, sizes, strict=True)]
        for kind in ("object", "secondary")
    }
    secondary = [box.get("secondary_coarse", -1) for box in drawn]
    return stack(pixels, coarse, fine, masks["object"], found.names, masks["secondary"], secondary)


def read_boxes(path: Path, hierarchy: Hierarchy) -> dict[str, dict]:
    """Boxes that somebody drew: {name of a photograph: its "size", and boxes "object" and perhaps "secondary"}.

    A box is (x0, y0, x1, y1) in pixels of the upright photograph, corners included; "secondary_coarse" is the coarse
    label of the second object.
    """
    found = {}
    for line, row in csv_table(path):
        try:
            box: dict[str, Any] = {"size": (int(row["width"]), int(row["height"]))}
            box["object"] = tuple(int(row[key]) for key in ("x0", "y0", "x1", "y1"))
            if row["secondary_coarse"]:
                box["secondary"] = tuple(int(row[key]) for key in ("sx0", "sy0", "sx1", "sy1"))
                box["secondary_coarse"] = hierarchy.coarse_names.index(row["secondary_coarse"])
            found[row["name"]] = box
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path}, line {line}: {error} must be a column, a whole number or a class") from error
    return found


def crop_mask(box: tuple[int, int, int, int] | None, photograph: tuple[int, int], size: int) -> np.ndarray:
    """Bool (size, size): the part of a box that `resize_and_crop` keeps of a photograph (width, height)."""
    mask = np.zeros((size, size), dtype=bool)
    if box is None:
        return mask
    (width, height), (left, top) = scaled(photograph, size)
    x0, x1 = (round(x * width / photograph[0]) - left for x in (box[0], box[2] + 1))
    y0, y1 = (round(y * height / photograph[1]) - top for y in (box[1], box[3] + 1))
    mask[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = True
    return mask


TRAINING_NAME = re.compile(r"n\d{8}_\d+\.JPEG", re.IGNORECASE)


def in_training_set(name: str) -> bool:
    """Whether a photograph's name is one of ILSVRC2012's training set, such as n01440764/n01440764_10026.JPEG.

    Networks with ImageNet weights were trained on those, so their accuracy there flatters them.
    """
    return TRAINING_NAME.fullmatch(name.rpartition("/")[2]) is not None


def opened(
    found: Photographs, split: str, limit: int | None, open_one: Callable[[Path], Image.Image] = open_photo
) -> Iterator[tuple[int, Image.Image]]:
    """Row and decoded image of those that belong to the split, at most `limit`; ValueError where there is none."""
    count = 0
    for row, path in enumerate(tqdm(found.paths, desc=f"reading {split} photographs", leave=False)):
        if limit is not None and count == limit:
            return
        image = open_one(path)
        if split != "evaluation" or image.mode == "RGB":
            count += 1
            yield row, image
    if not count:
        raise ValueError(
            f"all {len(found)} photographs of this split, such as {found.paths[0]}, are grey or CMYK; evaluation takes "
            "RGB"
        )


def checked(found: Photographs, split: str, looked: dict, passed_over: Counter) -> Checked:
    """What `opening.look_at` found, {path: (mode, problem)}, in the photographs of one split."""
    modes = [looked[path][0] for path in found.paths]
    problems = [problem for path in found.paths if (problem := looked[path][1])]
    kept = [row for row, mode in enumerate(modes) if mode == "RGB" or (mode and split != "evaluation")]
    if split == "evaluation" and (others := sum(mode not in (None, "RGB") for mode in modes)):
        passed_over = passed_over + Counter({"not RGB (grey, CMYK, a palette), so not in evaluation": others})
    if not kept and not problems:
        problems = [f"there are no {split} photographs of the hierarchy's classes"]
    right = found[kept]
    return Checked(right.coarse, problems, right.names, passed_over)


def extract_classes(archive: Path, root: Path, hierarchy: Hierarchy) -> int:
    """Unpack the hierarchy's classes from ILSVRC2012_img_train.tar, one tar for each wnid, into ROOT/train/<wnid>/.

    A class folder is always whole; those that are there already are left alone, so an interrupted run goes on.
    Returns the number of classes unpacked. Raises ValueError where the archive has none of the classes or is damaged.
    """
    wnids = {wnid for ids in hierarchy.ids for wnid in ids}
    unpacked, met = 0, 0
    if not Path(archive).is_file():
        raise FileNotFoundError(f"there is no archive {archive}")
    try:
        with tarfile.open(archive) as outer, tqdm(total=len(wnids), desc="unpacking", unit="class") as progress:
            for member in outer:
                wnid = member.name.removesuffix(".tar")
                if not member.isfile() or wnid not in wnids:
                    continue
                met += 1
                folder = Path(root) / "train" / wnid
                if not folder.is_dir():
                    inner = outer.extractfile(member)
                    assert inner is not None  # of a member that is a file
                    extract(inner, folder, f"{archive}, member {member.name}")
                    unpacked += 1
                progress.update()
    except tarfile.TarError as error:
        reason = str(error).splitlines()[0].rstrip(":")
        raise ValueError(f"{archive} cannot be unpacked ({reason}); give all of ILSVRC2012_img_train.tar") from error
    if not met:
        raise ValueError(f"{archive} holds none of the {len(wnids)} classes, such as {sorted(wnids)[0]}.tar")
    return unpacked


class Reader:
    """Photographs in a folder for each class below `root` (see `c2f_lrp.datasets.Reader`)."""

    seeds: ClassVar[dict] = {}

    def __init__(self, profile: Profile, hierarchy: Hierarchy, root: Path | None):
        self.profile, self.hierarchy, self.root = profile, hierarchy, root
        self.splits = ("evaluation",) if profile.evaluates_all else SPLITS
        self.boxes = read_boxes(manifest_path(profile.boxes), hierarchy) if profile.boxes else None
        self.looked: dict[Path, tuple[str | None, str]] = {}  # by `check`: two splits may share photographs

    def read(self, split: str, limit: int | None = None, processes: int = 1) -> Images:
        return read(self.stream(split), split, limit, self.boxes)

    def lazy(self, split: str, limit: int | None = None) -> LazyImages:
        return lazy(self.stream(split), split, limit, self.boxes)

    def stream(self, split: str, workers: int = 0) -> Photographs:
        """Photographs that stay on disk until they are asked for."""
        profile = self.profile
        size, every = profile.image_size, profile.evaluates_all
        return find(self.root, self.hierarchy, split, size, inside=profile.inside, workers=workers, every=every)

    def check(self, split: str, processes: int = 1) -> Checked:
        folder, ids, missing = class_folders(self.root, self.hierarchy, self.profile.inside)
        places, passed_over = listed(folder, ids)
        size, every = self.profile.image_size, self.profile.evaluates_all
        found = chosen(places, self.hierarchy, split, size, every=every)
        self.looked |= look_at([path for path in found.paths if path not in self.looked], processes)
        told = checked(found, split, self.looked, passed_over)
        absent = [f"{folder / id_} is missing, the folder of a class" for id_ in missing if not self.profile.inside]
        return replace(told, problems=absent + told.problems)
