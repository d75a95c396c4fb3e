"""torchvision's VGG-16 with its ImageNet weights: fetched once, when a command asks for it, and kept as safetensors.

It is the flat network of the profile imagenet-flat, and what the networks of the profile imagenet start from.
"""

from importlib.metadata import version
from pathlib import Path

import torch
from torchvision import models

from c2f_lrp.checkpoints import write_checkpoints
from c2f_lrp.classifier import Classifier
from c2f_lrp.download import fetch
from c2f_lrp.files import sha256
from c2f_lrp.networks import FLAT, save_network, vgg16

# Of torchvision's file, whose name holds the first eight digits.
SHA256 = "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"


def fetch_vgg16(folder: Path, file: Path | None = None) -> Path:
    """Write FOLDER/flat.safetensors and its row in FOLDER/checkpoints.csv from torchvision's file; returns the path.

    torchvision says where the file is (528 MB). `file` is a copy of it that is here already. Either must have the
    checksum SHA256, and is read as tensors only: a pickle that holds anything else is refused.
    """
    weights = models.VGG16_Weights.IMAGENET1K_V1
    name = weights.url.rpartition("/")[2]
    if SHA256[:8] not in name:
        raise ValueError(f"torchvision {version('torchvision')} has other weights, {name}, than those of {SHA256[:8]}…")
    if file is None:
        source = fetch(weights.url, Path(folder) / name, SHA256)
    elif not Path(file).is_file():
        raise FileNotFoundError(f"there is no file {file}; give a copy of torchvision's {name}, or leave it out")
    elif (found := sha256(file)) != SHA256:
        raise ValueError(f"{file} has SHA-256 {found}, but {name} has {SHA256}; give an unaltered copy of it")
    else:
        source = Path(file)
    path = Path(folder) / FLAT
    digest = save_network(of_torchvision(torch.load(source, weights_only=True)), path, torch.float32)
    row = dict(
        profile="imagenet-flat",
        network=path.stem,
        file=path.name,
        sha256=digest,
        classes=1000,
        # torchvision's own figure, on ILSVRC2012's validation photographs.
        accuracy=f"{weights.meta['_metrics']['ImageNet-1K']['acc@1'] / 100:.4f}",
        validation_images=50_000,
        command="c2f-lrp data weights",
        versions=f"torchvision {version('torchvision')}, {name}",
    )
    write_checkpoints(path.with_name("checkpoints.csv"), "imagenet-flat", [row])
    if file is None:
        source.unlink()
    return path


def of_torchvision(tensors: dict[str, torch.Tensor]) -> Classifier:
    """Our VGG-16 with the parameters of torchvision's: the same layers under other names, in the same order."""
    network = vgg16(1000)
    with torch.device("meta"):
        names = list(models.vgg16().state_dict())
    if sorted(names) != sorted(tensors):
        raise ValueError(f"these are not the parameters of torchvision's vgg16: {', '.join(list(tensors)[:3])}, ...")
    network.load_state_dict({ours: tensors[theirs] for ours, theirs in zip(network.state_dict(), names, strict=True)})
    return network.eval()
