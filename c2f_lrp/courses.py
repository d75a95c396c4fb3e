"""The course of an attack: every iterate on its way, with what the classifier says and sees there.

For pictures that move: the page to play with, and the animation.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from c2f_lrp.attacks import Attack
from c2f_lrp.classifier import CoarseToFine, level_network
from c2f_lrp.datasets import Images
from c2f_lrp.lrp import choose_lrp
from c2f_lrp.metrics import contrast
from c2f_lrp.objectives import adversarial_labels


@dataclass(frozen=True)
class Course:
    """What an attack did to one image: K + 1 iterates, the clean image first, the last one where the attack ended.

    pixels         (3, H, W) in [0, 255];  perturbations: (K + 1, 3, H, W), in pixel units
    names          of the labels of the attacked network, M of them;  scores: (K + 1, M), softmax of its logits
    org, adv       the clean image's label and runner-up, eq. (6) or (8)
    coarse, fine   int64 (K + 1,): what the classifier calls each iterate
    evidence       (K + 1, H, W): what speaks for org rather than for adv, `metrics.contrast` of their two heatmaps
    fooled         by the last iterate, as in `AttackResult`
    """

    attack: Attack
    pixels: Tensor
    perturbations: Tensor
    names: tuple[str, ...]
    org: int
    adv: int
    scores: Tensor
    coarse: Tensor
    fine: Tensor
    evidence: Tensor
    fooled: bool

    def __len__(self) -> int:
        """The number of iterates, K + 1."""
        return len(self.perturbations)

    def shares(self, mask: Tensor) -> Tensor:
        """(K + 1,): which share of the evidence for org lies inside a mask (H, W). nan where there is no evidence."""
        positive = self.evidence.clamp(min=0)
        return (positive * mask).sum((1, 2)) / positive.sum((1, 2))


def courses(
    classifier: CoarseToFine,
    pixels: Tensor,
    coarse: Tensor,
    fine: Tensor,
    attack: Attack,
    *,
    init: str = "one_hot",
    bias: str = "absorb",
) -> list[Course]:
    """The course of an attack on each of N images (N, 3, H, W) in [0, 255] with their labels (N,), in their order.

    All images of a network are attacked side by side. Heatmaps are in the reading `init`, `bias` of eqs. (3)-(4),
    whatever the attack itself descends, so that attacks can be compared. Raises ValueError for an attack that returns
    another iterate than its last (iterate="best"): its course is not the way to what it returns.
    """
    found: dict[int, Course] = {}
    for network, rows in attack.networks(classifier, coarse):
        if not len(rows):
            continue
        seen: list[Tensor] = []
        part = pixels[rows], coarse[rows], fine[rows]
        watch = lambda at, seen=seen: seen.append(at.perturbation.clone())  # noqa: E731
        result = attack(classifier, *part, batch_size=len(rows), watch=watch)
        # Images enter together and leave one by one, the others keep their order: step k holds those that got so far.
        steps: list[list[Tensor]] = [[] for _ in rows]
        for k, perturbations in enumerate(seen):
            still = (result.iterations >= k).nonzero().flatten().tolist()
            if len(still) != len(perturbations):
                raise ValueError(
                    f"{attack} does not return its last iterate, so there is no course to follow; "
                    'give an attack that stops at its first success, such as iterate="first"'
                )
            for image, perturbation in zip(still, perturbations, strict=True):
                steps[image].append(perturbation)
        _, names = level_network(classifier, attack.level, int(part[1][0]))
        lrp = choose_lrp(network, init, bias)
        for image, row in enumerate(rows.tolist()):
            eta = torch.stack(steps[image]).contiguous()
            iterates = (pixels[row] + eta).contiguous()
            with torch.no_grad():
                logits = network(iterates)
                labels = [label.repeat(len(eta)) for label in adversarial_labels(logits[:1])]
                evidence = contrast(*lrp.relevances(iterates, labels))[:, 0]
            found[row] = Course(  # type: ignore[call-arg]
                attack,
                pixels[row],
                eta,
                names,
                *(label[0].item() for label in labels),
                logits.softmax(1),
                *classifier.predict(iterates),
                evidence,
                bool(result.fooled[image]),
            )
    return [found[row] for row in range(len(pixels))]


def course_that_moves(classifier: CoarseToFine, images: Images, attack: Attack) -> Course:
    """The course of an attack on one of N images: of those it fools, the one whose evidence leaves its object most.

    The evidence for an image's label over its runner-up is compared, before the attack and after it, by the share on
    the labelled object; where the object's place is not known, by how much of it lies elsewhere (total variation).
    Images are to be classified correctly. Raises ValueError where the attack fools none of them.
    """
    result = attack(classifier, images.pixels, images.coarse, images.fine)
    fooled = result.fooled.nonzero().flatten()
    if not len(fooled):
        raise ValueError(f"{attack} fools none of {len(images)} images; give more images or a larger eps")
    gone = []
    for row in fooled.tolist():
        image = images[[row]]
        network, _ = level_network(classifier, attack.level, image.coarse.item())
        both = torch.cat([image.pixels, image.pixels + result.perturbation[[row]]])
        with torch.no_grad():
            labels = [label.repeat(2) for label in adversarial_labels(network(image.pixels))]
            evidence = contrast(*choose_lrp(network).relevances(both, labels))[:, 0].clamp(min=0)
        before, after = evidence / evidence.sum((1, 2), keepdim=True)
        if image.object_masks is None:
            gone.append((after - before).abs().sum().item() / 2)
        else:
            gone.append(((before - after) * image.object_masks[0]).sum().item())
    image = images[[fooled[max(range(len(gone)), key=gone.__getitem__)].item()]]  # the first of those with the most
    return courses(classifier, image.pixels, image.coarse, image.fine, attack)[0]
