"""Algorithm 1: LRPC and LRPF, gradient descent on the relevance losses of eqs. (7) and (9).

The paper prints neither lr nor K, nor how a step is scaled. `step_scale="normalized"` (ours) divides the gradient of
each image by its largest entry, so that lr is the largest change of a pixel in one step; "gradient" is as printed.
"""

import warnings
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from c2f_lrp.attacks.base import BoundedAttack, Iterate, clip, input_gradient
from c2f_lrp.lrp import BACKENDS, BIASES, INITS, LRP, choose_lrp
from c2f_lrp.objectives import (
    adversarial_labels,
    attention_loss,
    check_norm,
    evidence_regions,
    lrp_loss,
    margin,
    regions_loss,
)

STEPS = ("normalized", "gradient")
OBJECTIVES = ("eq7", "regions", "attention")
ITERATES = ("first", "best")
ORIGINALS = ("predicted", "given")


@dataclass(frozen=True, kw_only=True)
class LRPAttack(BoundedAttack):
    """Algorithm 1 at either level. What the paper leaves open is a field; the defaults are ours.

    eps           bound of the perturbation in pixel units (the paper: 10, 20, 40)
    init, bias    the reading of eqs. (3)-(4), see c2f_lrp.lrp
    objective     "eq7": eqs. (7) and (9), the paper's; "regions" or "attention": the losses of that name in
                  c2f_lrp.objectives, which see where relevance lies
    p             the norm in eqs. (7) and (9); the paper: 1
    lr            step size, in pixel units when step_scale is "normalized"
    step_scale    "normalized": by the largest entry of each image's gradient; "gradient": as printed
    iterations    K
    iterate       "first": the first success is returned, as printed; "best": all K steps are taken, and of each image
                  the iterate with the smallest loss is returned, a fooled one if there is any
    original      r_org (f_org) is the label that the network gives the clean image, "predicted", as printed, or the
                  true one, "given"; the same for images classified correctly
    random_start  begin at noise within eps instead of 0, which depends on `seed` and the image
    backend       what computes relevance, see `c2f_lrp.lrp.choose_lrp`
    """

    uses_logits: ClassVar[bool] = False  # the gradient is the relevance's

    eps: float = 10
    init: str = "one_hot"
    bias: str = "absorb"
    objective: str = "eq7"
    p: float = 1
    lr: float = 10
    step_scale: str = "normalized"
    iterations: int = 40
    iterate: str = "first"
    original: str = "predicted"
    backend: str = "graph"

    def __post_init__(self):
        super().__post_init__()
        choices = dict(init=INITS, bias=BIASES, objective=OBJECTIVES, step_scale=STEPS, backend=BACKENDS)
        choices |= dict(iterate=ITERATES, original=ORIGINALS)
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(allowed)}")
        if not self.lr > 0:
            raise ValueError(f"lr is {self.lr}; give a step size above 0")
        check_norm(self.p)
        if self.p != 1 and self.objective != "eq7":
            raise ValueError(f"p is {self.p} and objective {self.objective!r}; only eq7 has a norm, leave p at 1")
        if (self.objective, self.init, self.bias, self.p) == ("eq7", "one_hot", "ignore", 1):
            warnings.warn(
                "one_hot with ignored biases at p = 1 reads eqs. (3)-(7) as printed: both total relevances are 1, so "
                "the loss is zero for every image and its gradient is rounding noise; choose "
                'bias="absorb" or init="logit"',
                stacklevel=3,
            )

    def start(self, network: nn.Module, pixels: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """Eqs. (6) and (8): the label the network gives the clean image and the runner-up, kept through the attack.

        And what else the objective compares with: where the clean image has the evidence of both, its margin.
        """
        logits = network(pixels)
        if self.original == "given":  # as if the network preferred it: the runner-up is the best of the others
            logits = logits.scatter(1, labels[:, None], torch.inf)
        org, adv = adversarial_labels(logits)
        if self.objective == "eq7":
            return org, adv
        regions = evidence_regions(self.prepare(network), pixels, org, adv)
        if self.objective == "regions":
            return org, adv, regions
        return org, adv, regions, margin(network(pixels), org, adv)

    def prepare(self, network: nn.Module) -> LRP:
        return choose_lrp(network, self.init, self.bias, self.backend)

    def step(self, at: Iterate, memory: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        gradient = input_gradient(lambda x: self.loss(at.network, x, memory), at.pixels + at.perturbation)
        if self.step_scale == "normalized":
            # A gradient of exactly zero stays zero: the image has no direction to go.
            largest = gradient.abs().amax((1, 2, 3), keepdim=True)
            gradient = gradient / largest.where(largest > 0, 1)
        return clip(at.perturbation - self.lr * gradient, at.pixels, self.eps), memory

    def rank(self, at: Iterate, memory: tuple[Tensor, ...]) -> Tensor | None:
        if self.iterate == "first":
            return None
        with torch.no_grad():
            return self.loss(at.network, at.pixels + at.perturbation, memory)

    def loss(self, lrp: LRP, pixels: Tensor, memory: tuple[Tensor, ...]) -> Tensor:
        """What is descended, (N,)."""
        if self.objective == "eq7":
            return lrp_loss(lrp, pixels, *memory, p=self.p)
        return (regions_loss if self.objective == "regions" else attention_loss)(lrp, pixels, *memory)


class LRPC(LRPAttack):
    """Algorithm 1 at the coarse level, eq. (7): C(x + eta) is to differ from the label."""

    level: ClassVar[str] = "coarse"


class LRPF(LRPAttack):
    """Algorithm 1 at the fine level, eq. (9): F(x + eta) is to differ from the label, C(x + eta) to stay."""

    level: ClassVar[str] = "fine"
