"""DeepFool (l_2): Moosavi-Dezfooli et al., "DeepFool: a simple and accurate method to fool deep neural networks"
(CVPR 2016), its Algorithm 2. The overshoot is applied to the running sum before every look, as in the authors' code.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from c2f_lrp.attacks.base import Attack, Iterate, clip

ENDS = ("hold", "clip")
# Added to the length of every step, pixel units, so that rounding does not decide on which side an image ends. Later
# versions of the authors' code add 1e-4 to normalised images, whose deviation is 0.226 of 255; foolbox adds 1e-4 here.
NUDGE = {"hold": 1e-4 * 0.226 * 255, "clip": 1e-4}


@dataclass(frozen=True, kw_only=True)
class DeepFool(Attack):
    """Steps to the nearest of the linearised boundaries until the label changes.

    overshoot: how far beyond, as a share of the perturbation. candidates: how many of the highest-scoring other
    labels are considered, ten as in the authors' code, each of which costs a backward pass a step; None: all.

    ends: pixels have ends, 0 and 255, which the paper's images have not. "hold": a pixel at its end that would go
    outwards takes no part in a step. "clip": it does and is clipped afterwards, as in foolbox. Each step then falls
    short, the image creeps to the boundary in more than twice the steps, and the overshoot is used up on the way. On an
    affine classifier both ways stand on the shortest path within the ends.

    Where many steps are taken the last are so short that 2 % of them is less than rounding. Every step is therefore
    longer by a nudge: 0.0058 with "hold", as in later versions of the authors' code, 0.0001 with "clip", as in foolbox.
    """

    overshoot: float = 0.02
    candidates: int | None = 10
    iterations: int = 50
    ends: str = "hold"

    title: ClassVar[str] = "DeepFool"
    stops_at_flip: ClassVar[bool] = True  # beyond the boundary DeepFool has no direction

    def __post_init__(self):
        super().__post_init__()
        if not self.overshoot >= 0:
            raise ValueError(f"overshoot is {self.overshoot}; give 0 or more, such as 0.02")
        if self.candidates is not None and self.candidates < 1:
            raise ValueError(f"candidates is {self.candidates}; give at least 1, or None for all labels")
        if self.ends not in ENDS:
            raise ValueError(f"ends is {self.ends!r}; choose one of {', '.join(ENDS)}")

    def start(self, network: nn.Module, pixels: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """The label, the candidates (N, k), and the sum of the steps so far, without overshoot."""
        logits = network(pixels)
        others = logits.scatter(1, labels[:, None], -torch.inf)
        k = min(self.candidates or logits.shape[1], logits.shape[1] - 1)
        return labels, others.topk(k, dim=1).indices, torch.zeros_like(pixels)

    def step(self, at: Iterate, memory: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        label, candidates, total = memory
        # Margins (N, k) of the candidates over the label, f_k, and their gradients (k entries (N, 3, H, W)), w_k.
        margins = at.logits.gather(1, candidates) - at.logits.gather(1, label[:, None])
        gradients = [at.gradient(margin, keep_graph=True) for margin in margins.unbind(1)]
        w = torch.stack(gradients, 1)
        if self.ends == "hold":
            attacked = (at.pixels + at.perturbation)[:, None]
            w = w.masked_fill(((attacked <= 0) & (w < 0)) | ((attacked >= 255) & (w > 0)), 0)
        norms = w.flatten(2).norm(dim=2)
        distances = margins.detach().abs() / norms.where(norms > 0, torch.finfo(norms.dtype).tiny)
        nearest = distances.argmin(1)
        rows = torch.arange(len(w), device=w.device)
        # |f| / ||w||^2 w, the shortest way to the boundary; a network without a gradient stays where it is.
        f, w, norm = margins.detach().abs()[rows, nearest], w[rows, nearest], norms[rows, nearest]
        distance = f / norm.where(norm > 0, 1) + NUDGE[self.ends]
        length = torch.where(norm > 0, distance / norm.where(norm > 0, 1), 0)
        total = total + length.view(-1, 1, 1, 1) * w
        return clip((1 + self.overshoot) * total, at.pixels), (label, candidates, total)


class DFC(DeepFool):
    """DeepFool on the coarse network."""

    level: ClassVar[str] = "coarse"


class DFF(DeepFool):
    """DeepFool on the fine network of each image's coarse class."""

    level: ClassVar[str] = "fine"
