"""Algorithm 1: LRPC and LRPF, gradient descent on the relevance losses of eqs. (7) and (9).

The lines of Algorithm 1 and where they are: 2, 4, 10 and the tests of 12 and 16 in the loop of base.py; 3 and 9 in
`pair`; 5 and 6 in `loss`; 7 and 8 in `step`. As printed, an image is tested after its first step, never before.

The paper prints neither lr nor K, nor how a step is scaled. `step_scale="normalized"` (ours) divides the gradient of
each image by its largest entry, so that lr is the largest change of a pixel in one step; "gradient" is as printed.
Line 8 clips to [-eps, eps]; the text then clips the image to [0, 255]. Here the perturbation is what is left of it in
the image, so that eq. (10) does not count what no pixel can show.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from c2f_lrp.attacks.base import BoundedAttack, Iterate, clip, input_gradient, largest_entry, take_rows
from c2f_lrp.classifier import CoarseToFine, finite
from c2f_lrp.devices import fast_layout
from c2f_lrp.lrp import BACKENDS, BIASES, INITS, LRP, RULES, choose_lrp
from c2f_lrp.objectives import (
    adversarial_labels,
    attention_loss,
    check_norm,
    evidence_regions,
    lrp_loss,
    margin,
    regions_loss,
)

if TYPE_CHECKING:
    from c2f_lrp.lrp import ZennitLRP

STEPS = ("normalized", "gradient")
OBJECTIVES = ("eq7", "regions", "attention")
ITERATES = ("first", "best")
ORIGINALS = ("predicted", "given")
LABELS = ("updated", "clean")
FINE_NETWORKS = ("updated", "kept")
PAPER_EPS = (10, 20, 40)  # the bounds in Tables I and II, pixel units


@dataclass(frozen=True, kw_only=True)
class LRPAttack(BoundedAttack):
    """Algorithm 1 at either level. What the paper leaves open is a field; the defaults are ours.

    eps           bound of the perturbation in pixel units (the paper: 10, 20, 40)
    init, bias    the reading of eqs. (3)-(4), see `c2f_lrp.lrp.LRP`
    objective     "eq7": eqs. (7) and (9), the paper's; "regions" or "attention": the losses of that name in
                  c2f_lrp.objectives, which see where relevance lies
    p             the norm in eqs. (7) and (9); the paper: 1
    lr            step size, in pixel units when step_scale is "normalized"
    step_scale    "normalized": by the largest entry of each image's gradient; "gradient": as printed
    iterations    K
    labels        which labels the loss follows. "updated": those of x + eta, read again after every step, as printed
                  (line 9); "clean": those of the clean image throughout, as eqs. (6) and (8) read alone. The other
                  objectives and iterate="best" compare with the clean image and always have "clean"
    iterate       "first": the first success is returned, as printed; "best": all K steps are taken, and of each image
                  the iterate with the smallest loss is returned, a fooled one if there is any
    original      r_org (f_org) is the label that the network gives the image, "predicted", as printed, or the true
                  one, "given"; on images that are classified correctly it makes no difference
    random_start  begin at noise within eps instead of 0, which depends on `seed` and the image
    backend       what computes relevance, see `c2f_lrp.lrp.choose_lrp`
    rule          of every layer but the first, by its name in `c2f_lrp.lrp.RULES`; the paper: "z+", eq. (4)
    """

    title: ClassVar[str] = "LRP (Algorithm 1)"
    tests_first: ClassVar[bool] = False  # lines 7 to 12: the first test comes after the first step
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
    labels: str = "updated"
    backend: str = "graph"
    rule: str = "z+"

    def __post_init__(self):
        super().__post_init__()
        choices = dict(init=INITS, bias=BIASES, objective=OBJECTIVES, step_scale=STEPS, backend=BACKENDS, rule=RULES)
        choices |= dict(iterate=ITERATES, original=ORIGINALS, labels=LABELS)
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(allowed)}")
        if not self.lr > 0:
            raise ValueError(f"lr is {self.lr}; give a step size above 0")
        check_norm(self.p)
        if self.p != 1 and self.objective != "eq7":
            raise ValueError(f"p is {self.p} and objective {self.objective!r}; only eq7 has a norm, leave p at 1")
        if self.objective != "eq7" or self.iterate == "best":
            object.__setattr__(self, "labels", "clean")  # frozen, and rows are to say what was done
        if (self.objective, self.init, self.bias, self.p) == ("eq7", "one_hot", "ignore", 1):
            warnings.warn(
                "one_hot with ignored biases at p = 1 reads eqs. (3)-(7) as printed: both total relevances are 1 in a "
                "network like VGG-16, so the loss is zero for every image and its gradient is rounding noise; choose "
                'bias="absorb" or init="logit"',
                stacklevel=3,
            )

    def start(self, network: nn.Module, pixels: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """What each image takes along: its true label where labels are updated, else the pair of the clean image.

        And what else the objective compares with: where the clean image has the evidence of both, its margin.
        """
        if self.labels == "updated":
            return (labels,)
        org, adv = self.pair(network(pixels), labels)  # line 3
        if self.objective == "eq7":
            return org, adv
        regions = evidence_regions(self.prepare(network), pixels, org, adv)
        if self.objective == "regions":
            return org, adv, regions
        return org, adv, regions, margin(network(pixels), org, adv)

    def pair(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Eqs. (6) and (8) at logits (N, M) of images with true labels (N,): label and runner-up, lines 3 and 9."""
        if self.original == "given":  # as if the network preferred it: the runner-up is the best of the others
            logits = logits.scatter(1, labels[:, None], torch.inf)
        return adversarial_labels(logits)

    def prepare(self, network: nn.Module):
        return choose_lrp(network, self.init, self.bias, self.backend, self.rule)

    @property
    def one_sweep(self) -> bool:
        """Whether the loss is one of total relevances, which come in one sweep with the logits."""
        of_totals = self.objective == "eq7" and self.p == 1 and type(self).loss is LRPAttack.loss
        return of_totals and self.backend == "graph"

    def evaluate_at(
        self, network: nn.Module, prepared, pixels: Tensor, perturbation: Tensor, memory: tuple[Tensor, ...], **choices
    ) -> Iterate:
        """As in `Attack`. A loss of total relevances comes with the logits, which saves a pass at every step."""
        if not (self.one_sweep and choices["graph"]):
            return super().evaluate_at(network, prepared, pixels, perturbation, memory, **choices)
        inputs = fast_layout(pixels + perturbation).requires_grad_()
        with torch.enable_grad():
            logits, loss, coarse = self.sweep(prepared, inputs, memory)
        rows = torch.arange(len(pixels), device=pixels.device)
        return Iterate(prepared, pixels, perturbation, logits, coarse, inputs, rows, loss)

    def sweep(self, prepared, inputs: Tensor, memory: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Of iterates (N, 3, H, W): logits (N, M), the loss of line 5 by the labels of line 9, (N,), coarse labels."""
        logits, totals = prepared.logits_and_totals(inputs)
        org, adv = self.pair(finite(logits).detach(), *memory) if self.labels == "updated" else memory
        return logits, margin(totals, org, adv), None

    def outcome(
        self, classifier: CoarseToFine, network: nn.Module, at: Iterate, coarse: Tensor, fine: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As in `Attack`. The network itself has the last word: a sweep's logits may be rounded differently."""
        changed = at.logits.argmax(1) != (coarse if self.level == "coarse" else fine)
        if at.loss is not None and changed.any():
            with torch.no_grad():
                logits = at.logits.detach().clone()
                logits[changed] = finite(network(at.inputs[changed]))
            at = replace(at, logits=logits)
        return super().outcome(classifier, network, at, coarse, fine)

    def gradient(self, at: Iterate, memory: tuple[Tensor, ...]) -> Tensor:
        """d loss / d eta, (N, 3, H, W): lines 5 and 6."""
        if at.loss is not None:
            return at.gradient(at.loss)
        if self.labels == "updated":
            memory = self.pair(at.logits, *memory)
        return input_gradient(lambda x: self.loss(at.prepared, x, memory), at.pixels + at.perturbation)

    def step(self, at: Iterate, memory: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        gradient = self.gradient(at, memory)
        if self.step_scale == "normalized":
            gradient = gradient / largest_entry(gradient)
        eps = self.eps if at.bounds is None else at.bounds
        return clip(at.perturbation - self.lr * gradient, at.pixels, eps), memory

    def rank(self, at: Iterate, memory: tuple[Tensor, ...]) -> Tensor | None:
        if self.iterate == "first":
            return None
        if at.loss is not None:
            return at.loss.detach()
        with torch.no_grad():
            return self.loss(at.prepared, at.pixels + at.perturbation, memory)

    def loss(self, lrp: "LRP | ZennitLRP", pixels: Tensor, memory: tuple[Tensor, ...]) -> Tensor:
        """What is descended, (N,)."""
        if self.objective == "eq7":
            org, adv = memory
            return lrp_loss(lrp, pixels, org, adv, self.p)
        return (regions_loss if self.objective == "regions" else attention_loss)(lrp, pixels, *memory)


class LRPC(LRPAttack):
    """Algorithm 1 at the coarse level, eq. (7): C(x + eta) is to differ from the label."""

    level: ClassVar[str] = "coarse"
    mixes_bounds: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class LRPF(LRPAttack):
    """Algorithm 1 at the fine level, eq. (9): F(x + eta) is to differ from the label, C(x + eta) to stay.

    fine_network  whose loss an image follows while its coarse label is another than its own. "updated": that of the
                  fine network which C(x + eta) names, as printed: line 9 updates r_org, and eq. (9) is for F^{r_org};
                  "kept": that of the fine network of its own coarse class, as the text reads (C(x + eta) = C(x) =
                  r_org). Fooled is the same in both. A coarse class with one fine class has no f_adv: there, and with
                  labels="clean", the image's own network is kept
    """

    fine_network: str = "updated"

    level: ClassVar[str] = "fine"
    mixes_bounds: ClassVar[bool] = True

    def __post_init__(self):
        super().__post_init__()
        if self.fine_network not in FINE_NETWORKS:
            allowed = ", ".join(FINE_NETWORKS)
            raise ValueError(f"fine_network is {self.fine_network!r}; choose one of {allowed}")
        if self.labels == "clean":
            object.__setattr__(self, "fine_network", "kept")

    @property
    def needs_coarse(self) -> bool:  # type: ignore[override]  # a setting here
        return self.fine_network == "updated"

    def prepare_in(self, classifier: CoarseToFine, network: nn.Module):
        lrp = self.prepare(network)
        if self.fine_network == "kept":
            return lrp
        own = next(label for label, fine in enumerate(classifier.fine) if fine is network)
        return FineNetworks(classifier, own, {own: lrp})

    def sweep(self, prepared, inputs: Tensor, memory: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor | None]:
        if not isinstance(prepared, FineNetworks):
            return super().sweep(prepared, inputs, memory)
        with torch.no_grad():
            coarse = finite(prepared.classifier.coarse(inputs)).argmax(1)
        (labels,), own = memory, prepared.own
        logits = inputs.new_empty(len(inputs), prepared.classifier.hierarchy.n_fine[own])
        loss = inputs.new_zeros(len(inputs))
        for label, rows in prepared.groups(coarse):
            (part,) = take_rows((inputs,), rows)
            named, totals = self.engine(prepared, label).logits_and_totals(part)
            named = finite(named).detach()
            # "given" means the true label, which another network does not have.
            pair = self.pair(named, labels[rows]) if label == own else adversarial_labels(named)
            loss = loss.index_put((rows,), margin(totals, *pair))
            with torch.no_grad():
                logits[rows] = named if label == own else finite(prepared.classifier.fine[own](part))
        return logits, loss, coarse

    def gradient(self, at: Iterate, memory: tuple[Tensor, ...]) -> Tensor:
        if at.loss is not None or not isinstance(at.prepared, FineNetworks):
            return super().gradient(at, memory)
        assert at.coarse is not None
        networks, (labels,) = at.prepared, memory
        gradient = torch.zeros_like(at.pixels)
        for label, rows in networks.groups(at.coarse):
            part = replace(at.select(rows), prepared=self.engine(networks, label))
            if label != networks.own:  # as in `sweep`
                with torch.no_grad():
                    logits = finite(networks.classifier.fine[label](part.pixels + part.perturbation))
                pair = adversarial_labels(logits)
                loss = lambda x, lrp=part.prepared, pair=pair: self.loss(lrp, x, pair)  # noqa: E731
                gradient[rows] = input_gradient(loss, part.pixels + part.perturbation)
            else:
                gradient[rows] = super().gradient(part, (labels[rows],))
        return gradient

    def engine(self, networks: "FineNetworks", label: int):
        """The relevance of the fine network of a coarse label, made when it is first asked for."""
        if label not in networks.engines:
            networks.engines[label] = self.prepare(networks.classifier.fine[label])
        return networks.engines[label]


@dataclass(frozen=True)
class FineNetworks:
    """What LRPF steps with where the coarse label of an image names its fine network.

    own: the coarse label whose images are attacked. engines: by coarse label, what computes relevance.
    """

    classifier: CoarseToFine
    own: int
    engines: dict

    def groups(self, coarse: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Each fine network's coarse label with the rows of the images that follow it, by C(x + eta), (N,)."""
        several = torch.tensor(self.classifier.hierarchy.n_fine, device=coarse.device) > 1
        named = coarse.where(several[coarse], self.own)
        for label in named.unique().tolist():
            yield label, (named == label).nonzero().flatten()
