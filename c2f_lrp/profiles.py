"""The profiles: which images, which networks, how much of them."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from platformdirs import user_data_path

from c2f_lrp.hierarchy import Hierarchy
from c2f_lrp.paths import NO_HOME, manifest_path


@dataclass(frozen=True)
class Profile:
    """One kind of images with its networks. A new one is an entry of `PROFILES`; what it holds is said here."""

    name: str
    description: str  # of its images, in a few words
    # Where images come from: a module of c2f_lrp.datasets, or the dotted name of one of yours, with a class `Reader`.
    reader: str
    manifest: str | None  # file in data_manifests/; None: the user's own, hierarchy.csv beside the weights
    part_of: str | None  # a manifest whose class indices this one's must agree with
    # "trained": from random weights. "fine-tuned": from torchvision's vgg16, which c2f-lrp data weights fetches.
    # "flat": one network as it is, its 1000 classes grouped (CoarseToFine.from_flat).
    networks: str
    architecture: str  # in a few words, for the report
    ships: bool  # weights are part of the package
    image_size: int  # pixels a side
    width: int  # channels of VGG-16's first convolution in the fine networks; the paper: 64
    coarse_width: int | None  # in the coarse network, if it is wider, which needs feature_epochs
    hidden: int  # units of its two hidden linear layers; the paper: 4096
    dropout: float  # after each of them while training; VGG-16: 0.5
    # 0 where the networks become nearly perfect: smoothed labels then flatten the logits around every training image,
    # and DeepFool, which trusts their slope, steps far too wide.
    label_smoothing: float
    train_images: int | None  # how many to draw; None: all photographs of the training split
    validation_images: int | None
    feature_epochs: int  # of a flat network on all fine classes, whose features all start from; 0: no such network
    coarse_feature_epochs: int  # of another one, for a wider coarse network
    coarse_epochs: int
    fine_epochs: int
    finish_epochs: int  # then so many without warps, see training.py
    table_images: int  # images tried in the tables; the paper: 1000
    needs_root: bool  # photographs lie in a folder that the user names
    inside: str = "train"  # the folder below it that holds a folder of photographs for each class
    boxes: str | None = None  # a file in data_manifests/ with boxes of objects in photographs, where somebody drew them
    evaluates_all: bool = False  # nothing was trained here, so every photograph may be evaluated, not only a fifth

    def hierarchy(self, weights: Path | None = None) -> Hierarchy:
        """The classes. `weights`: the folder beside whose weights the user's own hierarchy lies, if not the usual."""
        known = None
        if self.part_of:
            known = Hierarchy.from_csv(manifest_path(self.part_of)).index_by_id()
        path = self.manifest_path(weights)
        return Hierarchy.from_csv(path, known) if self.manifest else Hierarchy.from_folders_csv(path)

    def manifest_path(self, weights: Path | None = None) -> Path:
        if self.manifest:
            return manifest_path(self.manifest)
        path = Path(weights or self.weights) / "hierarchy.csv"
        if not path.is_file():
            raise FileNotFoundError(
                f"there is no {path}; name the classes with --hierarchy CSV, or train first: "
                f"c2f-lrp train --profile {self.name} --root DIR --hierarchy CSV, "
                "and where that wrote to --out DIR, say --weights DIR"
            )
        return path

    @property
    def drawn(self) -> bool:
        """Whether images are drawn, as many as are asked for; else they are photographs in a folder of the user's."""
        return not self.needs_root

    @property
    def weights(self) -> Path:
        """The folder of this profile's weights: inside the package, or among the user's data where none ship.

        The environment variable C2F_LRP_WEIGHTS sets another; `c2f-lrp reproduce --weights` sets it for the notebooks.
        """
        if folder := os.environ.get("C2F_LRP_WEIGHTS"):
            return Path(folder)
        if self.ships:
            return Path(__file__).parent / "weights" / self.name
        try:
            if NO_HOME in os.environ:
                raise RuntimeError
            return user_data_path("c2f_lrp", False) / self.name
        except RuntimeError as error:
            raise FileNotFoundError(
                f"there is no home folder, where weights of {self.name} usually are; name theirs with --weights "
                "(train: --out) or the environment variable C2F_LRP_WEIGHTS, or set HOME"
            ) from error


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="scenes",
            description="scenes drawn by the package",
            reader="scenes",
            manifest="scenes_c2f.csv",
            part_of=None,
            networks="trained",
            architecture="VGG-16's layout, 8 channels first, 128 hidden units",
            ships=True,
            image_size=64,
            width=8,
            coarse_width=None,
            hidden=128,
            dropout=0.5,
            label_smoothing=0.0,
            train_images=24_000,
            validation_images=4_000,
            feature_epochs=0,
            coarse_feature_epochs=0,
            coarse_epochs=10,
            fine_epochs=10,
            finish_epochs=0,
            table_images=200,
            needs_root=False,
        ),
        Profile(
            name="tiny-imagenet",
            description="photographs of Tiny ImageNet",
            reader="tiny_imagenet",
            manifest="tiny_imagenet_c2f.csv",
            part_of="imagenet_c2f_393.csv",
            networks="trained",
            architecture="VGG-16's layout, 24 and 16 channels first, 128 hidden units",
            ships=True,
            image_size=64,
            width=16,
            coarse_width=24,
            hidden=128,
            dropout=0.0,
            label_smoothing=0.1,
            train_images=None,
            validation_images=None,
            feature_epochs=45,
            coarse_feature_epochs=70,
            coarse_epochs=6,
            fine_epochs=6,
            finish_epochs=3,
            table_images=1000,
            needs_root=True,
        ),
        Profile(
            name="imagenet",
            description="photographs of ILSVRC2012",
            reader="imagenet",
            manifest="imagenet_c2f_393.csv",
            part_of=None,
            networks="fine-tuned",
            architecture="VGG-16's layout, 64 channels first, 4096 hidden units",
            ships=False,
            image_size=224,
            width=64,
            coarse_width=None,
            hidden=4096,
            dropout=0.5,
            label_smoothing=0.0,
            train_images=None,
            validation_images=None,
            feature_epochs=0,
            coarse_feature_epochs=0,
            coarse_epochs=3,  # a few suffice: vgg16 knows these classes, and its rate falls to zero meanwhile
            fine_epochs=5,  # on an eighth of the photographs each
            finish_epochs=0,
            table_images=1000,
            needs_root=True,
        ),
    )
}
PROFILES["imagenet-flat"] = replace(
    PROFILES["imagenet"],
    name="imagenet-flat",
    description="photographs of ILSVRC2012, flat network",
    networks="flat",
)
PROFILES["imagenet-lite"] = replace(
    PROFILES["imagenet-flat"],
    name="imagenet-lite",
    description="photographs of ILSVRC2012's classes, flat network",
    architecture="EfficientNet-Lite0, its classes grouped",
    ships=True,
    table_images=160,  # of 224x224: an hour on two cores
    boxes="imagenet_lite_boxes.csv",
    evaluates_all=True,
)
# Photographs and classes of the user's own, with training settings as for the other photographs.
PROFILES["folder"] = replace(
    PROFILES["tiny-imagenet"],
    name="folder",
    description="photographs of one's own",
    architecture="VGG-16's layout, 16 channels first, 128 hidden units",
    reader="imagenet",
    manifest=None,
    part_of=None,
    ships=False,
    coarse_width=None,
    coarse_feature_epochs=0,
    inside="",
)
DEFAULT_PROFILE = "scenes"  # of the commands and notebooks
PHOTO_PROFILE = "imagenet-lite"  # what photographs from anywhere are attacked with, unless another is named


def get_profile(name: str) -> Profile:
    if name not in PROFILES:
        raise ValueError(f"profile {name!r} is unknown; choose one of {', '.join(PROFILES)}")
    return PROFILES[name]
