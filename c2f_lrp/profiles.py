"""The profiles: which images, which networks, how much of them."""

from dataclasses import dataclass
from pathlib import Path

from c2f_lrp.hierarchy import Hierarchy, manifest_path


@dataclass(frozen=True)
class Profile:
    name: str
    manifest: str  # file in data_manifests/
    image_size: int  # pixels a side
    width: int  # channels of VGG-16's first convolution, at both levels; the paper: 64
    hidden: int  # units of its two hidden linear layers; the paper: 4096
    dropout: float  # after each of them while training; VGG-16: 0.5
    # 0 where the networks become nearly perfect: smoothed labels then flatten the logits around every training image,
    # and DeepFool, which trusts their slope, steps far too wide.
    label_smoothing: float
    train_images: int | None  # how many to draw; None: all photographs of the training split
    validation_images: int | None
    feature_epochs: int  # of a flat network on all fine classes, whose features all start from; 0: no such network
    coarse_epochs: int
    fine_epochs: int
    finish_epochs: int  # then so many without warps, see training.py
    table_images: int  # images tried in the tables; the paper: 1000
    needs_root: bool  # photographs lie in a folder that the user names

    def hierarchy(self) -> Hierarchy:
        known = None
        if self.name == "tiny-imagenet":  # a part of the paper's 393 classes
            known = Hierarchy.from_csv(manifest_path("imagenet_c2f_393.csv")).index_by_id()
        return Hierarchy.from_csv(manifest_path(self.manifest), known)

    @property
    def weights(self) -> Path:
        """The folder inside the package that holds this profile's trained weights."""
        return Path(__file__).parent / "weights" / self.name


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="scenes",
            manifest="scenes_c2f.csv",
            image_size=64,
            width=8,
            hidden=128,
            dropout=0.5,
            label_smoothing=0.0,
            train_images=24_000,
            validation_images=4_000,
            feature_epochs=0,
            coarse_epochs=10,
            fine_epochs=10,
            finish_epochs=0,
            table_images=200,
            needs_root=False,
        ),
        Profile(
            name="tiny-imagenet",
            manifest="tiny_imagenet_c2f.csv",
            image_size=64,
            width=16,
            hidden=128,
            dropout=0.0,
            label_smoothing=0.1,
            train_images=None,
            validation_images=None,
            feature_epochs=45,
            coarse_epochs=6,
            fine_epochs=6,
            finish_epochs=3,
            table_images=200,
            needs_root=True,
        ),
        Profile(
            name="imagenet",
            manifest="imagenet_c2f_393.csv",
            image_size=224,
            width=64,
            hidden=4096,
            dropout=0.5,
            label_smoothing=0.0,
            train_images=None,
            validation_images=None,
            feature_epochs=0,
            coarse_epochs=10,
            fine_epochs=10,
            finish_epochs=3,
            table_images=1000,
            needs_root=True,
        ),
    )
}


def get_profile(name: str) -> Profile:
    if name not in PROFILES:
        raise ValueError(f"profile {name!r} is unknown; choose one of {', '.join(PROFILES)}")
    return PROFILES[name]
