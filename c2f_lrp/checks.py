"""Checks of what the package is given: images, labels and a classifier; each failure is one line."""

import torch
from torch import Tensor, nn


def check_floating(values: Tensor, name: str) -> None:
    """Refuse an array, a list, and whole numbers where fractions are computed with."""
    if not torch.is_tensor(values):
        raise ValueError(
            f"{name} are a {type(values).__name__}; give a tensor, such as torch.as_tensor({name}).float()"
        )
    if not values.is_floating_point():
        raise ValueError(f"{name} are {values.dtype}; give floating-point values, such as {name}.float()")


def check_pixels(pixels: Tensor) -> None:
    """Refuse what is not a batch of images (N, C, H, W) with values in [0, 255]."""
    check_floating(pixels, "pixels")
    if pixels.ndim != 4 or pixels.shape[1] != 3:
        raise ValueError(f"pixels have shape {tuple(pixels.shape)}; give a batch (N, 3, H, W)")
    if pixels.is_meta:
        raise ValueError("pixels are on the device meta, which holds no values; give them on cpu or cuda")
    if not pixels[:1].numel() and len(pixels):
        raise ValueError(f"pixels have shape {tuple(pixels.shape)}; give images of at least one pixel")
    if len(pixels) and not (pixels.min() >= 0 and pixels.max() <= 255):
        low, high = pixels.min().item(), pixels.max().item()
        raise ValueError(f"pixels lie in [{low:g}, {high:g}]; they must be finite and in [0, 255]")


def as_labels(labels, pixels: Tensor, name: str = "labels") -> Tensor:
    """Labels as int64 (N,), one for each of the images `pixels`, given as a tensor, a list or an array of integers.

    Raises ValueError for other numbers, another shape, and a tensor that lies on another device than the pixels.
    """
    try:
        given = labels if torch.is_tensor(labels) else torch.as_tensor(labels, device=pixels.device)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(labels).__name__
        raise ValueError(f"{name} are a {kind} that makes no tensor; give int64 of shape ({len(pixels)},)") from error
    whole = not (given.is_floating_point() or given.is_complex() or given.dtype == torch.bool)
    if given.shape != (len(pixels),) or not (whole or not len(pixels)):
        raise ValueError(
            f"{name} are {given.dtype} of shape {tuple(given.shape)}; give int64 of shape ({len(pixels)},)"
        )
    if given.device != pixels.device:
        raise ValueError(f"{name} are on {given.device}, pixels on {pixels.device}; move both to one device")
    return given.long()


def check_labels(labels: Tensor, n_images: int, n_classes: int) -> None:
    """Refuse labels that are not one class index in 0..M-1 for each image."""
    if not torch.is_tensor(labels):
        raise ValueError(f"labels are a {type(labels).__name__}; give an int64 tensor of shape ({n_images},)")
    if labels.shape != (n_images,) or labels.dtype != torch.int64:
        raise ValueError(f"labels are {labels.dtype} of shape {tuple(labels.shape)}; give int64 of shape ({n_images},)")
    if labels.is_meta:
        raise ValueError("labels are on the device meta, which holds no values; give them where the pixels are")
    if n_images and not (labels.min() >= 0 and labels.max() < n_classes):
        raise ValueError(
            f"labels lie in {labels.min().item()}..{labels.max().item()}; the network has classes 0..{n_classes - 1}"
        )


def check_two_levels(classifier: nn.Module) -> None:
    """Refuse what has no coarse and fine networks."""
    if not all(hasattr(classifier, name) for name in ("coarse", "fine", "hierarchy")):
        hint = ": its .module" if hasattr(classifier, "module") else ""
        raise ValueError(f"the classifier is a {type(classifier).__name__}; give a CoarseToFine{hint}")


def check_classifier(classifier: nn.Module, pixels: Tensor) -> None:
    """Refuse a classifier that no attack can use on these pixels (N, 3, H, W), saying what to do."""
    check_two_levels(classifier)
    if any(module.training for module in classifier.modules()):
        raise ValueError("the classifier is in training mode, where dropout is random; call .eval() first")
    check_place(classifier, pixels)
    if any(weight.is_inference() for weight in classifier.parameters()):
        raise ValueError(
            "the classifier's weights were made inside torch.inference_mode(), where gradients cannot follow; "
            "load it outside"
        )


def check_place(classifier: nn.Module, pixels: Tensor) -> None:
    """Refuse a classifier on another device, or of another precision, than pixels (N, 3, H, W)."""
    weights = [weight for weight in (*classifier.parameters(), *classifier.buffers()) if weight.is_floating_point()]
    devices, dtypes = {weight.device for weight in weights}, {weight.dtype for weight in weights}
    if devices and devices != {pixels.device}:
        where = ", ".join(sorted(map(str, devices)))
        raise ValueError(f"the classifier is on {where}, pixels on {pixels.device}; move both to one device")
    if len(dtypes) == 1 and dtypes != {pixels.dtype}:
        (dtype,) = dtypes
        raise ValueError(
            f"pixels are {pixels.dtype}, the classifier's weights {dtype}; give pixels.to({dtype}), "
            f"or the classifier .to({pixels.dtype})"
        )


def hooked(module: nn.Module) -> bool:
    """Whether something runs before or after the module's own forward."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def check_inputs(
    classifier: nn.Module, pixels: Tensor, coarse_labels: Tensor, fine_labels: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels and labels as an attack uses them: without a graph of the caller's, labels as int64 tensors.

    Raises ValueError for what no attack can use, saying what was given and what is allowed.
    """
    check_pixels(pixels)
    check_classifier(classifier, pixels)
    hierarchy = classifier.hierarchy
    pixels = pixels.clone() if pixels.is_inference() else pixels.detach()
    coarse_labels = as_labels(coarse_labels, pixels, "coarse_labels")
    fine_labels = as_labels(fine_labels, pixels, "fine_labels")
    if not len(pixels):
        return pixels, coarse_labels, fine_labels
    if coarse_labels.min() < 0 or coarse_labels.max() >= hierarchy.n_coarse:
        given = f"{coarse_labels.min().item()}..{coarse_labels.max().item()}"
        raise ValueError(f"coarse_labels lie in {given}; allowed are 0..{hierarchy.n_coarse - 1}")
    sizes = torch.tensor(hierarchy.n_fine, device=fine_labels.device)[coarse_labels]
    wrong = ((fine_labels < 0) | (fine_labels >= sizes)).nonzero().flatten().tolist()
    if wrong:
        row = wrong[0]
        raise ValueError(
            f"fine_labels[{row}] is {fine_labels[row].item()}; coarse class "
            f"{hierarchy.coarse_names[coarse_labels[row]]} allows 0..{sizes[row].item() - 1}"
        )
    return pixels, coarse_labels, fine_labels
