"""Images with their labels and, where known, the place of the object: one type for every data set.

A data set is a module with a class `Reader`; `reader_class` finds that of a profile. The page *Adding a data set* of
the book has a whole example.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from c2f_lrp.hierarchy import Hierarchy
from c2f_lrp.profiles import Profile


@dataclass(frozen=True)
class Images:
    """N images of one data set.

    pixels           (N, 3, H, W) in [0, 255]; uint8 as read, float32 from `c2f_lrp.load_images`
    coarse           int64 (N,), coarse label
    fine             int64 (N,), the index inside its coarse class
    object_masks     bool (N, H, W) or None: the labelled object (a box where only a box is known)
    secondary_masks  bool (N, H, W) or None: a second object of another coarse class, all False where there is none
    secondary_coarse int64 (N,) or None: that object's coarse label, -1 where there is none
    names            what each image is called in its data set
    """

    pixels: Tensor
    coarse: Tensor
    fine: Tensor
    object_masks: Tensor | None
    secondary_masks: Tensor | None
    secondary_coarse: Tensor | None
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows) -> "Images":
        """The images at `rows`: a slice, a list of positions or a bool mask (N,)."""
        rows = torch.arange(len(self), device=self.pixels.device)[rows].reshape(-1)
        return Images(
            self.pixels[rows],
            self.coarse[rows],
            self.fine[rows],
            None if self.object_masks is None else self.object_masks[rows],
            None if self.secondary_masks is None else self.secondary_masks[rows],
            None if self.secondary_coarse is None else self.secondary_coarse[rows],
            tuple(self.names[row] for row in rows.tolist()),
        )

    def to(self, device) -> "Images":
        """The images with all tensors on another device."""
        return replace(self, **{name: value.to(device) for name, value in vars(self).items() if torch.is_tensor(value)})

    def with_pixels(self, pixels: Tensor) -> "Images":
        """The images with other pixels (N, 3, H, W) and their labels and masks."""
        return replace(self, pixels=pixels)


@dataclass(frozen=True)
class LazyImages:
    """N images that are drawn or read when they are asked for: `lazy[rows]` are `Images` with uint8 pixels.

    coarse, fine  as in `Images`, known without looking
    read          positions -> `Images`
    """

    coarse: Tensor
    fine: Tensor
    read: Callable[[list[int]], Images]

    def __len__(self) -> int:
        return len(self.coarse)

    def __getitem__(self, rows) -> Images:
        """The images at `rows`: a slice, a list of positions or a bool mask (N,)."""
        return self.read(torch.arange(len(self), device=self.coarse.device)[rows].reshape(-1).tolist())


def stack(pixels, coarse, fine, object_masks, names, secondary_masks=None, secondary_coarse=None) -> Images:
    """`Images` from lists of one entry an image, pixels as uint8 arrays (H, W, 3)."""
    return Images(
        torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(),
        torch.tensor(coarse, dtype=torch.int64, device="cpu"),  # like the pixels, whatever torch's default device
        torch.tensor(fine, dtype=torch.int64, device="cpu"),
        None if object_masks is None else torch.from_numpy(np.stack(object_masks)),
        None if secondary_masks is None else torch.from_numpy(np.stack(secondary_masks)),
        None if secondary_coarse is None else torch.tensor(secondary_coarse, dtype=torch.int64, device="cpu"),
        tuple(names),
    )


@dataclass(frozen=True)
class Checked:
    """What a look at one split found.

    coarse       int64 (N,), the coarse labels of the images that can be read
    problems     a line for each thing that is wrong
    names        of these images, as in `Images`
    passed_over  why files were left out -> how many
    """

    coarse: Tensor
    problems: list[str]
    names: tuple[str, ...] = ()
    passed_over: Mapping[str, int] = field(default_factory=dict)


class Reader(Protocol):
    """What the class `Reader` of a data set's module offers.

    split is "train", "validation" or "evaluation" (the validation part, RGB photographs only, as in the paper). limit:
    at most so many images, the first in a fixed random order. Errors are ValueError or FileNotFoundError that say what
    is missing and what to do.
    """

    seeds: ClassVar[dict]  # what was drawn at random, for the sidecars: {what: seeds}
    splits: tuple[str, ...]  # that there are

    def __init__(self, profile: Profile, hierarchy: Hierarchy, root: Path | None): ...

    def read(self, split: str, limit: int | None = None, processes: int = 1) -> Images:
        """Images with uint8 pixels; `processes` may draw or decode side by side."""

    def lazy(self, split: str, limit: int | None = None) -> LazyImages:
        """Images that are drawn or read when they are asked for."""

    def check(self, split: str, processes: int = 1) -> Checked:
        """Looks at every image of a split that could be damaged, and says what is wrong."""


def reader_class(profile: Profile) -> type[Reader]:
    """The class `Reader` of a profile's data set."""
    module = profile.reader if "." in profile.reader else f"{__name__}.{profile.reader}"
    return import_module(module).Reader
