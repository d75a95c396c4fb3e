"""Networks of other libraries by name, with weights from a file that the user has: nothing is downloaded.

"torchvision:resnet50" is `torchvision.models.get_model("resnet50")`, and "timm:resnet50" is
`timm.create_model("resnet50")`, where timm is installed. How pixels are normalised is decided by how such a network was
trained: ask whoever trained it.
"""

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from c2f_lrp.classifier import PIXEL_MEAN, PIXEL_STD, Classifier

LIBRARIES = ("torchvision", "timm")
WRAPPERS = ("state_dict", "model")  # training scripts store the weights under one of these, beside other things


def named_network(
    name: str,
    file: Path,
    *,
    mean: float | Sequence[float] = PIXEL_MEAN,
    std: float | Sequence[float] = PIXEL_STD,
    image_size: int = 224,
) -> Classifier:
    """A flat ImageNet classifier in eval mode: pixels (N, 3, image_size, image_size) in 0..255 -> logits (N, 1000).

    name: "torchvision:" or "timm:" and the name of a model there. file: its weights, safetensors or a state dict that
    torch.save wrote; it is read with weights_only=True, so that no code in it runs. mean, std: of the normalisation,
    in units of 0..255, one number or one for each colour; by default ImageNet's.

    Raises ValueError for a name that the library does not have, a file that holds anything but tensors, tensors whose
    names or shapes are not the network's, and a normalisation in units of 0..1; FileNotFoundError without a file.
    """
    network = build(name)
    settings = {"image_size": image_size, "n_classes": 1000}
    classifier = Classifier(network, settings, mean=mean, std=std).eval()
    if classifier.std.min() < 1:  # as most libraries print it
        raise ValueError(f"mean {mean} and std {std} are for pixels in 0..1; give them for 0..255: 255 times as much")
    tensors = read_tensors(Path(file))
    check_tensors(name, Path(file), tensors, network.state_dict())
    network.load_state_dict(tensors)
    return classifier


def build(name: str) -> nn.Module:
    """The network of that name, with random weights. ValueError where it cannot be had."""
    library, _, model = name.partition(":")
    if library not in LIBRARIES or not model:
        raise ValueError(f"network {name!r} is not understood; give library:model, such as torchvision:resnet50")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of how random weights are drawn, which the file replaces
        if library == "torchvision":
            from torchvision import models

            known = models.list_models(module=models)
            check_known(name, model, known, "torchvision")
            return models.get_model(model, weights=None)
        if not find_spec("timm"):
            raise ValueError(f"network {name!r} needs timm, which is not installed: python -m pip install timm")
        import timm

        check_known(name, model, timm.list_models(), "timm")
        return timm.create_model(model, pretrained=False)


def check_known(name: str, model: str, known: list[str], library: str) -> None:
    if model not in known:
        like = [other for other in known if other[:3] == model[:3]][:8] or known[:8]
        raise ValueError(f"network {name!r}: {library} has no {model!r}; it has {', '.join(like)}, ...")


def read_tensors(file: Path) -> dict[str, Tensor]:
    """{name: tensor} of a weight file; no code in it is run."""
    if not file.is_file():
        raise FileNotFoundError(f"there is no weight file {file}")
    how = "give a safetensors file, or what torch.save(network.state_dict(), file) wrote"
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes torch raise anything, IndexError and EOFError included
        reason = (str(error) or "it ends early").splitlines()[0].split(". ")[0]
        raise ValueError(f"{file} cannot be read as weights ({reason}); {how}") from error
    if isinstance(found, dict):
        found = next((found[key] for key in WRAPPERS if isinstance(found.get(key), dict)), found)
    if not isinstance(found, dict) or not found or not all(torch.is_tensor(value) for value in found.values()):
        raise ValueError(f"{file} holds more than named tensors, or none; {how}")
    return {str(key).removeprefix("module."): value for key, value in found.items()}  # as DataParallel names them


def check_tensors(name: str, file: Path, tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Refuse weights of another network, naming the first differences."""
    missing = [key for key in expected if key not in tensors]
    strange = [key for key in tensors if key not in expected]
    wrong = [
        f"{key} is {tuple(tensors[key].shape)}, not {tuple(value.shape)}"
        for key, value in expected.items()
        if key in tensors and tensors[key].shape != value.shape
    ]
    said = [f"{len(missing)} of its tensors are missing, such as {missing[0]}"] if missing else []
    said += [f"{len(strange)} are not its, such as {strange[0]}"] if strange else []
    said += [f"{len(wrong)} have another shape: {wrong[0]}"] if wrong else []
    if said:
        raise ValueError(f"{file} does not hold the weights of {name}: {'; '.join(said)}")
