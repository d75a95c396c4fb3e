"""The networks that weight files can hold, and these files. A new network is a function here and a line below."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from c2f_lrp.classifier import Classifier
from c2f_lrp.files import atomic_write
from c2f_lrp.files import sha256 as sha256_of
from c2f_lrp.hierarchy import Hierarchy, file_name
from c2f_lrp.networks import efficientnet_lite
from c2f_lrp.networks.vgg import fold_batch_norm, vgg16

__all__ = ["ARCHITECTURES", "FLAT", "fold_batch_norm", "load_network", "network_file", "save_network", "vgg16"]

FLAT = "flat.safetensors"  # a flat network, from which `CoarseToFine.from_flat` makes all others


def efficientnet_lite0(**settings) -> Classifier:
    """EfficientNet-Lite0 (networks/efficientnet_lite.py) that takes pixels in [0, 255]."""
    layers = efficientnet_lite.efficientnet_lite0(**settings)
    mean, std = efficientnet_lite.PIXEL_MEAN, efficientnet_lite.PIXEL_STD
    return Classifier(layers, settings, mean=mean, std=std, architecture="efficientnet_lite0")


# By the name that a weight file gives its network: what builds it from the settings beside that name.
ARCHITECTURES: dict[str, Callable[..., Classifier]] = {"vgg16": vgg16, "efficientnet_lite0": efficientnet_lite0}


def network_file(folder: Path, hierarchy: Hierarchy, fine: int | None) -> Path:
    """Where the coarse network (`fine` None) or the fine network of coarse class `fine` lies in a weight folder."""
    name = "coarse" if fine is None else f"fine_{file_name(hierarchy.coarse_names[fine])}"
    return folder / f"{name}.safetensors"


def save_network(classifier: Classifier, path: Path, dtype: torch.dtype = torch.float16) -> str:
    """Write weights, by default in half precision (they are read to single), with their settings; returns the SHA-256.

    Raises ValueError for a network that is none of `ARCHITECTURES`. Written to a temporary name and renamed, so that a
    file under its own name is always whole.
    """
    tensors = {name: value.to(dtype).contiguous() for name, value in classifier.state_dict().items()}
    if classifier.architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ValueError(f"the network's architecture is {classifier.architecture!r}; a weight file can hold {known}")
    content = save(tensors, metadata={classifier.architecture: json.dumps(classifier.settings)})
    with atomic_write(path) as part:
        part.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def load_network(path: Path, sha256: str | None = None) -> Classifier:
    """A classifier in eval mode from a safetensors file, which must have the given checksum.

    Raises FileNotFoundError where there is no file, ValueError where its checksum or its content is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}; train them with: c2f-lrp train --profile {path.parent.name}")
    found = sha256_of(path)
    if sha256 is not None and found != sha256:
        raise ValueError(
            f"{path} has SHA-256 {found}, but {sha256} is recorded for it; the file is damaged or not the one "
            "recorded: restore it, or train again with c2f-lrp train"
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            architecture = next((name for name in ARCHITECTURES if name in metadata), "vgg16")
            settings = json.loads(metadata[architecture])
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}
        classifier = ARCHITECTURES[architecture](**settings)
        classifier.load_state_dict(tensors)
    # The last two: settings of another network than the one whose weights they lie with.
    except (SafetensorError, KeyError, json.JSONDecodeError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{path} is not a safetensors file written by c2f-lrp train ({reason}); weights are never read from pickles"
        ) from error
    return classifier.float().eval()  # also where torch's default is another precision
