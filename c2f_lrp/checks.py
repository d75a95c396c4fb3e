"""Checks of what the package is given: images, labels and a classifier; each failure is one line."""

import torch
from torch import Tensor, nn


def check_pixels(pixels: Tensor) -> None:
    """Refuse what is not a batch of images (N, C, H, W) with values in [0, 255]."""
    if pixels.ndim != 4 or pixels.shape[1] != 3:
        raise ValueError(f"pixels have shape {tuple(pixels.shape)}; give a batch (N, 3, H, W)")
    if not pixels.is_floating_point():
        raise ValueError(f"pixels are {pixels.dtype}; give floating-point pixels in [0, 255]")
    if len(pixels) and not (pixels.min() >= 0 and pixels.max() <= 255):
        low, high = pixels.min().item(), pixels.max().item()
        raise ValueError(f"pixels lie in [{low:g}, {high:g}]; they must be finite and in [0, 255]")


def check_labels(labels: Tensor, n_images: int, n_classes: int) -> None:
    """Refuse labels that are not one class index in 0..M-1 for each image."""
    if labels.shape != (n_images,) or labels.dtype != torch.int64:
        raise ValueError(f"labels are {labels.dtype} of shape {tuple(labels.shape)}; give int64 of shape ({n_images},)")
    if n_images and not (labels.min() >= 0 and labels.max() < n_classes):
        raise ValueError(
            f"labels lie in {labels.min().item()}..{labels.max().item()}; the network has classes 0..{n_classes - 1}"
        )


def check_inputs(classifier: nn.Module, pixels: Tensor, coarse_labels: Tensor, fine_labels: Tensor) -> None:
    """Refuse what no attack can use, saying what was given and what is allowed."""
    check_pixels(pixels)
    if any(module.training for module in classifier.modules()):
        raise ValueError("the classifier is in training mode, where dropout is random; call .eval() first")
    hierarchy = classifier.hierarchy
    for name, labels in (("coarse_labels", coarse_labels), ("fine_labels", fine_labels)):
        if labels.shape != (len(pixels),) or labels.dtype != torch.int64:
            raise ValueError(
                f"{name} are {labels.dtype} of shape {tuple(labels.shape)}; give int64 of shape ({len(pixels)},)"
            )
    if not len(pixels):
        return
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
