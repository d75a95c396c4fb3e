"""Equations (6)-(9): which label an attack leaves, which it seeks, and the loss that it descends.

One pair of functions serves both levels: with the coarse network they are eqs. (6) and (7), with the fine network
F^{r_org} eqs. (8) and (9).
"""

import torch
from torch import Tensor

from c2f_lrp.lrp import LRP


def adversarial_labels(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The label (N,) and the runner-up (N,) of logits (N, M): r_org, r_adv (eq. 6) or f_org, f_adv (eq. 8)."""
    if logits.shape[1] < 2:
        raise ValueError(f"logits have {logits.shape[1]} class; a runner-up needs at least two")
    org, adv = logits.topk(2, dim=1).indices.unbind(1)
    return org, adv


def lrp_loss(lrp: LRP, pixels: Tensor, org: Tensor, adv: Tensor, p: float = 1) -> Tensor:
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
