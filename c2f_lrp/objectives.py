"""Equations (6)-(9): which label an attack leaves, which it seeks, and the loss that it descends.

One pair of functions serves both levels: with the coarse network they are eqs. (6) and (7), with the fine network
F^{r_org} eqs. (8) and (9).

Eq. (7) at p = 1 sees how much relevance there is in all, and not where. Two losses that see where it lies follow; they
are ours, not the paper's.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from c2f_lrp.lrp import LRP
from c2f_lrp.metrics import contrast, most_relevant, per_pixel

if TYPE_CHECKING:
    from c2f_lrp.lrp import ZennitLRP


def adversarial_labels(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The label (N,) and the runner-up (N,) of logits (N, M): r_org, r_adv (eq. 6) or f_org, f_adv (eq. 8)."""
    if logits.shape[1] < 2:
        raise ValueError(f"logits have {logits.shape[1]} class; a runner-up needs at least two")
    org, adv = logits.topk(2, dim=1).indices.unbind(1)
    return org, adv


def lrp_loss(lrp: "LRP | ZennitLRP", pixels: Tensor, org: Tensor, adv: Tensor, p: float = 1) -> Tensor:
    """Eqs. (7) and (9), one value per image (N,), for pixels (N, 3, H, W) in [0, 255]. Differentiable.

    ||R_org+||_p - ||R_adv+||_p - ||R_org-||_p + ||R_adv-||_p, where R_c = LRP(x; c) and + and - are its positive and
    negative parts. At p = 1 this is sum(R_org) - sum(R_adv): for any R, ||R+||_1 - ||R-||_1 = sum(R). The totals
    then suffice, which one forward sweep gives; no heatmap is made.
    """
    check_norm(p)
    if p == 1:
        return lrp.difference(pixels, org, adv)
    r_org, r_adv = lrp.relevances(pixels, [org, adv])
    return signed_norm(r_org, p) - signed_norm(r_adv, p)


def check_norm(p: float) -> None:
    if not p >= 1:
        raise ValueError(f"p is {p}; a norm needs p >= 1, such as 1, 2 or float('inf')")


def signed_norm(relevance: Tensor, p: float) -> Tensor:
    """||R+||_p - ||R-||_p of each heatmap (N, 3, H, W): the norm of what speaks for the label less what speaks against.

    (N,). At p = 1 it is the total relevance.
    """
    flat = relevance.flatten(1)
    return torch.linalg.vector_norm(flat.clamp(min=0), p, 1) - torch.linalg.vector_norm(flat.clamp(max=0), p, 1)


# ------------------------------------------------------------------------------------------- where the relevance lies
def evidence_regions(lrp: "LRP | ZennitLRP", pixels: Tensor, org: Tensor, adv: Tensor, share: float = 0.1) -> Tensor:
    """bool (N, 2, H, W): where the given images speak more for org than for adv, and the reverse, a tenth of each.

    The most positive pixels of `metrics.contrast`. Taken from the clean images and kept.
    """
    with torch.no_grad():
        difference = contrast(*lrp.relevances(pixels, [org, adv]))
        return torch.stack([most_relevant(difference, share), most_relevant(-difference, share)], 1)


def regions_loss(lrp: "LRP | ZennitLRP", pixels: Tensor, org: Tensor, adv: Tensor, regions: Tensor) -> Tensor:
    """Eq. (7) at p = 1 with each sum taken over the label's own region only, one value per image (N,).

    sum_{i in A} R_org,i - sum_{i in B} R_adv,i. Unlike eq. (7) it falls when relevance moves, so it has a gradient also
    with eqs. (3)-(5) as printed.
    """
    r_org, r_adv = lrp.relevances(pixels, [org, adv])
    return (per_pixel(r_org) * regions[:, 0]).sum((1, 2)) - (per_pixel(r_adv) * regions[:, 1]).sum((1, 2))


def margin(logits: Tensor, org: Tensor, adv: Tensor) -> Tensor:
    """f_org - f_adv of logits (N, M): (N,). Of total relevances (N, M) it is eqs. (7) and (9) at p = 1."""
    return (logits.gather(1, org[:, None]) - logits.gather(1, adv[:, None])).squeeze(1)


def attention_loss(
    lrp: "LRP | ZennitLRP", pixels: Tensor, org: Tensor, adv: Tensor, regions: Tensor, clean_margin: Tensor
) -> Tensor:
    """The logit margin, and where the label it speaks for is seen: (N,).

    (f_org - f_adv) / clean_margin + (share of R_org+ in A) - (share of R_org+ in B). The first term makes the label
    change, being 1 on the clean image (clean_margin, (N,)) and 0 at the boundary; the second, between 1 and -1, moves
    the label's relevance from its own region to the rival's on the way.
    """
    positive = per_pixel(lrp.relevance(pixels, org)).clamp(min=0)
    inside = (positive[:, None] * regions).sum((2, 3)) / positive.sum((1, 2)).clamp(min=1e-12)[:, None]
    return margin(lrp.classifier(pixels), org, adv) / clean_margin.clamp(min=1e-6) + inside[:, 0] - inside[:, 1]
