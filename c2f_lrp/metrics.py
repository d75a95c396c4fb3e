"""Equation (10), the fooling ratio, where relevance and perturbations lie, and how alike two heatmaps are.

Heatmaps and perturbations are (N, 3, H, W), masks bool (N, H, W); a pixel's relevance is the sum over its channels, its
share of a perturbation the sum of their absolute values. Each measure gives one value per image, (N,).
"""

import numpy as np
import torch
from torch import Tensor

from c2f_lrp.checks import check_floating

NORMS = {"rho_2": 2, "rho_1": 1, "rho_inf": float("inf")}  # of eq. (10), by the names of their columns


def perceptibility(perturbation: Tensor, pixels: Tensor, p: float) -> Tensor:
    """rho^p of eq. (10): the mean over images (N, 3, H, W) of ||eta||_p / ||x||_p, for p 1, 2 or infinity. 0-dim."""
    return perceptibilities(perturbation, pixels, p).mean()


def perceptibilities(perturbation: Tensor, pixels: Tensor, p: float) -> Tensor:
    """||eta||_p / ||x||_p of each image, (N,): the terms of eq. (10), perturbation and pixels in the same units.

    Raises ValueError for another p, for shapes that differ, for no images, and for an all-black image.
    """
    if p not in (1, 2, float("inf")):
        raise ValueError(f"p is {p!r}; eq. (10) is for p = 1, 2 or float('inf')")
    check_floating(perturbation, "perturbations")
    check_floating(pixels, "pixels")
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

    Convention: count correctly classified images only. Algorithm 1 as printed attacks the others too, and counts one
    that is still wrong after a step; `evaluation.summarize` has that share as `fooling_as_printed`.
    """
    if not len(fooled):
        raise ValueError("no images were given; a fooling ratio needs at least one")
    fooled = torch.as_tensor(fooled)
    if fooled.dtype != torch.bool or fooled.ndim != 1:
        raise ValueError(f"fooled is {fooled.dtype} of shape {tuple(fooled.shape)}; give one bool for each image, (N,)")
    return fooled.double().mean().item()


# ---------------------------------------------------------------------------------------------- where relevance lies
def relevance_mass(heatmap: Tensor, masks: Tensor) -> Tensor:
    """Share of the positive relevance that lies inside the masks.

    "Relevance mass accuracy" of Arras, Osman and Samek, "CLEVR-XAI" (Information Fusion 2022). nan where a heatmap has
    no positive relevance, and for an empty mask: no object, nothing to lie on.
    """
    check_masks(heatmap, masks)
    return mass_inside(per_pixel(heatmap).clamp(min=0), masks)


def relevance_rank(heatmap: Tensor, masks: Tensor) -> Tensor:
    """Share of the k most relevant pixels that lie inside the masks, k being the number of pixels in the mask.

    "Relevance rank accuracy" of the same paper. nan for an empty mask.
    """
    check_masks(heatmap, masks)
    shares = [
        masks[row].flatten()[values.topk(int(masks[row].sum())).indices].to(values.dtype).mean()
        for row, values in enumerate(per_pixel(heatmap).flatten(1))
    ]
    return torch.stack(shares) if shares else heatmap.new_zeros(0)


def most_relevant(heatmap: Tensor, share: float = 0.1) -> Tensor:
    """Masks of the most relevant pixels, as many as `share` of the image, at least one."""
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; give a share of the pixels above 0 and up to 1, such as 0.1")
    values = per_pixel(heatmap).flatten(1)
    top = values.topk(max(1, round(share * values.shape[1])), 1).indices
    masks = torch.zeros_like(values, dtype=torch.bool).scatter(1, top, True)
    return masks.unflatten(1, heatmap.shape[2:])


# ------------------------------------------------------------------------------------------ where a perturbation lies
def perturbation_share(perturbation: Tensor, masks: Tensor) -> Tensor:
    """Share of ||eta||_1 inside the masks; nan without a perturbation and for an empty mask.

    Compare it with the masks' share of the image (`mask_share`): that is what a perturbation spread evenly has.
    """
    check_masks(perturbation, masks)
    return mass_inside(per_pixel(perturbation.abs()), masks)


def mask_share(masks: Tensor) -> Tensor:
    """Share of the image's pixels inside the masks, bool (N, H, W); nan for an empty one, which is no object."""
    return masks.float().mean((1, 2)).where(masks.any(2).any(1), torch.nan)


def hoyer(perturbation: Tensor) -> Tensor:
    """Sparsity over pixels, 0 (all alike) to 1 (a single pixel): (sqrt n - l1 / l2) / (sqrt n - 1).

    Hoyer, "Non-negative matrix factorization with sparseness constraints" (JMLR 2004). nan without a perturbation.
    """
    size = per_pixel(perturbation.abs()).flatten(1)
    root = size.shape[1] ** 0.5
    return (root - size.sum(1) / size.norm(dim=1)) / (root - 1)


def entropy(perturbation: Tensor) -> Tensor:
    """Shannon entropy of the perturbation's shares per pixel, 0 (a single pixel) to 1 (all alike): over log n.

    nan without a perturbation.
    """
    size = per_pixel(perturbation.abs()).flatten(1)
    shares = size / size.sum(1, keepdim=True)
    return -torch.special.xlogy(shares, shares).sum(1) / np.log(size.shape[1])


# ---------------------------------------------------------------------------------------------- two heatmaps compared
def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of the angle between two heatmaps (or gradients), over all their entries; nan where one is zero.

    Each is divided by its largest entry first: `torch.cosine_similarity` adds 1e-8 to norms that may be 1e-10, and
    squares of small float32 gradients are zero.
    """
    a, b = (x.flatten(1) for x in (a, b))
    a, b = (x / x.abs().amax(1, keepdim=True) for x in (a, b))
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


def contrast(a: Tensor, b: Tensor) -> Tensor:
    """What speaks for the first label of two heatmaps and not as much for the second: (N, 1, H, W).

    The difference of both, each scaled to sum |R_i| = 1. Contrastive LRP (Gu, Yang and Tresp, ACCV 2018): under the z+
    rule heatmaps of two labels are nearly the same (Sixt et al., "When explanations lie", ICML 2020), and only their
    difference tells the labels apart. A heatmap of zeros counts as zeros.
    """
    a, b = (x / x.abs().sum((1, 2), keepdim=True).clamp(min=1e-12) for x in (per_pixel(a), per_pixel(b)))
    return (a - b)[:, None]


def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's correlation of two heatmaps over pixels, ties in the order of the pixels; Adebayo et al. 2018."""
    ranks = [per_pixel(x).flatten(1).argsort(dim=1, stable=True).argsort(dim=1).double() for x in (a, b)]
    a, b = (x - x.mean(1, keepdim=True) for x in ranks)
    return torch.cosine_similarity(a, b).to(torch.get_default_dtype())


# ------------------------------------------------------------------------------------------------------------ helpers
def per_pixel(values: Tensor) -> Tensor:
    """(N, 3, H, W) -> (N, H, W)."""
    if values.ndim != 4:
        raise ValueError(f"shape {tuple(values.shape)} was given; give a batch (N, 3, H, W)")
    return values.sum(1)


def mass_inside(values: Tensor, masks: Tensor) -> Tensor:
    """Share of values >= 0 (N, H, W) inside the masks (N, H, W); nan where there are none, and for an empty mask."""
    return ((values * masks).sum((1, 2)) / values.sum((1, 2))).where(masks.any(2).any(1), torch.nan)


def check_masks(values: Tensor, masks: Tensor) -> None:
    check_floating(values, "values")
    if not torch.is_tensor(masks) or masks.dtype != torch.bool:
        given = masks.dtype if torch.is_tensor(masks) else f"a {type(masks).__name__}"
        raise ValueError(f"masks are {given}; give a tensor of bools (N, H, W)")
    if values.ndim != 4 or masks.shape != (len(values), *values.shape[2:]):
        raise ValueError(
            f"values have shape {tuple(values.shape)}, masks {tuple(masks.shape)}; give (N, 3, H, W) and (N, H, W)"
        )


def bootstrap(values, confidence: float = 0.95, resamples: int = 2000, seed: int = 0) -> tuple[float, float, float]:
    """The mean over images and its percentile bootstrap interval (Efron and Tibshirani 1993); nans are left out.

    (nan, nan, nan) without a value.
    """
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    if not len(values):
        return (float("nan"),) * 3
    means = np.random.default_rng(seed).choice(values, (resamples, len(values))).mean(1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(values.mean()), float(low), float(high)
