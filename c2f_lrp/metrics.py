"""Equation (10), the fooling ratio, and where relevance lies."""

import torch
from torch import Tensor


def perceptibility(perturbation: Tensor, pixels: Tensor, p: float) -> Tensor:
    """rho^p of eq. (10): the mean over images (N, 3, H, W) of ||eta||_p / ||x||_p, for p 1, 2 or infinity. 0-dim."""
    return perceptibilities(perturbation, pixels, p).mean()


def perceptibilities(perturbation: Tensor, pixels: Tensor, p: float) -> Tensor:
    """||eta||_p / ||x||_p of each image, (N,): the terms of eq. (10), perturbation and pixels in the same units.

    Raises ValueError for another p, for shapes that differ, for no images, and for an all-black image.
    """
    if p not in (1, 2, float("inf")):
        raise ValueError(f"p is {p}; eq. (10) is for p = 1, 2 or float('inf')")
    if perturbation.shape != pixels.shape or not len(pixels):
        raise ValueError(
            f"perturbation has shape {tuple(perturbation.shape)}, pixels {tuple(pixels.shape)}; "
            "give at least one image, and the same shape (N, 3, H, W) for both"
        )
    size = torch.linalg.vector_norm(pixels.flatten(1), p, 1)
    if (size == 0).any():
        row = (size == 0).nonzero()[0].item()
        raise ValueError(f"image {row} is black, so eq. (10) divides by zero; leave it out")
    return torch.linalg.vector_norm(perturbation.flatten(1), p, 1) / size


def fooling_ratio(fooled: Tensor) -> float:
    """The share of images, bool (N,), that an attack fooled.

    Convention: count correctly classified images only. Algorithm 1 as printed would count a misclassified image as
    fooled at iteration 0; the tables report that share too.
    """
    if not len(fooled):
        raise ValueError("no images were given; a fooling ratio needs at least one")
    return fooled.double().mean().item()


def relevance_mass(heatmap: Tensor, masks: Tensor) -> Tensor:
    """Share (N,) of the positive relevance of heatmaps (N, 3, H, W) inside masks, bool (N, H, W).

    "Relevance mass accuracy" of Arras et al., "CLEVR-XAI" (Information Fusion 2022): colour channels are summed first.
    nan where a heatmap has no positive relevance.
    """
    if heatmap.ndim != 4 or masks.shape != (len(heatmap), *heatmap.shape[2:]):
        raise ValueError(
            f"heatmaps have shape {tuple(heatmap.shape)}, masks {tuple(masks.shape)}; give (N, 3, H, W) and (N, H, W)"
        )
    positive = heatmap.sum(1).clamp(min=0)
    return (positive * masks).sum((1, 2)) / positive.sum((1, 2))
