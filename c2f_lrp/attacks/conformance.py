"""What any attack must keep to, the six here and yours: call `check_attack` in a test of your own."""

import dataclasses
import zlib

import torch
from torch import Tensor

from c2f_lrp.attacks.base import Attack, AttackResult
from c2f_lrp.classifier import CoarseToFine


def check_attack(
    attack: Attack, classifier: CoarseToFine, pixels: Tensor, coarse: Tensor, fine: Tensor, tolerance: float = 1e-3
) -> None:
    """Run an attack several times on a few images, (N, 3, H, W) with their true labels, and look at what it does.

    Bounds of the pixels and of eps; shapes, dtype and device; one result for the same call, also with gradients
    switched off; the same result for an image in any company; images that leave when fooled, and only then; "fooled"
    as the classifier itself says; a classifier and images left as they were, nothing attached to the model.

    tolerance: by how much of a pixel unit an image's result may depend on the images around it. Sums are rounded
    differently in batches of different sizes: 1e-3 suits float32, 1e-8 float64.

    Give at least two images, of which at least one is fooled. Raises AssertionError with what was found.
    """
    n, name = len(pixels), type(attack).__name__
    require(n >= 2, f"{n} image was given; company cannot be checked with fewer than two")
    given = [tensor.clone() for tensor in (pixels, coarse, fine)]
    before = snapshot(classifier)
    result = attack(classifier, pixels, coarse, fine, batch_size=n)
    require(snapshot(classifier) == before, f"{name} changed the classifier: weights, gradients, mode or hooks")
    require(
        all(map(torch.equal, given, (pixels, coarse, fine))), f"{name} changed the images or labels that it was given"
    )
    check_result(attack, result, pixels)
    check_fooled(attack, result, classifier, pixels, coarse, fine)

    def same(other: AttackResult, rows, exact: bool, what: str) -> None:
        moved = (other.perturbation - result.perturbation[rows]).abs().amax().item()
        counts = (other.fooled, other.iterations), (result.fooled[rows], result.iterations[rows])
        equal = all(map(torch.equal, *counts))
        require(equal and moved <= (0 if exact else tolerance), f"{name}: {what}; pixels differ by up to {moved:.2g}")

    every = torch.arange(n, device=pixels.device)
    other = attack(classifier, pixels, coarse, fine, batch_size=n, progress=True)
    same(other, every, True, "a second call gives another result")
    with torch.no_grad():
        other = attack(classifier, pixels, coarse, fine, batch_size=n)
    same(other, every, True, "the result is another where gradients are switched off")
    same(attack(classifier, pixels, coarse, fine, batch_size=1), every, False, "batches of one give another result")
    other = attack(classifier, pixels, coarse, fine, batch_size=n // 2 + 1)
    same(other, every, False, "images that come in when others have left get another result")
    back = every.flip(0)
    other = attack(classifier, pixels[back], coarse[back], fine[back])
    same(other, back, False, "the order of the images matters")
    check_leaving(attack, result, classifier, pixels, coarse, fine)


def check_result(attack: Attack, result: AttackResult, pixels: Tensor) -> None:
    name, eta = type(attack).__name__, result.perturbation
    require(eta.shape == pixels.shape, f"{name}: perturbation has shape {tuple(eta.shape)}, not {tuple(pixels.shape)}")
    for field, tensor, dtype in (
        ("perturbation", eta, pixels.dtype),
        ("fooled", result.fooled, torch.bool),
        ("iterations", result.iterations, torch.int64),
    ):
        require(tensor.dtype == dtype, f"{name}: {field} is {tensor.dtype}, not {dtype}")
        require(tensor.device == pixels.device, f"{name}: {field} is on {tensor.device}, pixels on {pixels.device}")
        require(len(tensor) == len(pixels), f"{name}: {field} is for {len(tensor)} images, not {len(pixels)}")
        require(not tensor.requires_grad, f"{name}: {field} is still attached to a graph")
    require(bool(eta.isfinite().all()), f"{name}: the perturbation is not finite")
    attacked = pixels + eta
    low, high = attacked.min().item(), attacked.max().item()
    require(low >= 0 and high <= 255, f"{name}: attacked images lie in [{low:g}, {high:g}], not in [0, 255]")
    if hasattr(attack, "eps"):
        largest = eta.abs().max().item()
        require(largest <= attack.eps, f"{name}: the perturbation reaches {largest:.9g}, eps is {attack.eps:g}")
    most = int(result.iterations.max())
    require(0 <= most <= attack.iterations, f"{name}: took {most} iterations of {attack.iterations}")


def check_fooled(attack, result, classifier, pixels, coarse, fine) -> None:
    """Fooled is what the classifier says: the level's label changed, and at the fine level the coarse one did not."""
    name, attacked = type(attack).__name__, pixels + result.perturbation
    with torch.no_grad():
        changed = classifier.coarse(attacked).argmax(1) != coarse
        if attack.level == "fine":
            labels = torch.stack(
                [classifier.fine[y](image[None]).argmax() for y, image in zip(coarse.tolist(), attacked, strict=True)]
            )
            changed = (labels != fine) & ~changed
    wrong = (changed != result.fooled).nonzero().flatten().tolist()
    require(not wrong, f"{name}: images {wrong} are not fooled as the attack says they are")


def check_leaving(attack, result, classifier, pixels, coarse, fine) -> None:
    """An image fooled after n steps is the one that an attack of n steps returns: nothing touches it afterwards."""
    name, fooled = type(attack).__name__, result.fooled.nonzero().flatten()
    require(len(fooled) > 0, f"{name} fooled none of {len(pixels)} images, so leaving cannot be checked; give others")
    if getattr(attack, "iterate", "first") == "best":
        return
    n = int(result.iterations[fooled].min())
    if n == 0:
        return
    # In the same company, so that sums are rounded in the same way.
    short = dataclasses.replace(attack, iterations=n)(classifier, pixels, coarse, fine, batch_size=len(pixels))
    done = fooled[result.iterations[fooled] == n]
    require(bool(short.fooled[done].all()), f"{name}: images {done.tolist()}, fooled after {n} steps, are not by {n}")
    require(
        torch.equal(short.perturbation[done], result.perturbation[done]),
        f"{name}: images {done.tolist()} were touched after they had been fooled, at step {n}",
    )


def snapshot(classifier: CoarseToFine) -> tuple:
    """All that an attack could leave behind: weights, gradients, modes, hooks."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return (
        {name: checksum(tensor) for name, tensor in classifier.state_dict().items()},
        [(p.requires_grad, None if p.grad is None else checksum(p.grad)) for p in classifier.parameters()],
        [(module.training, *(len(getattr(module, kind)) for kind in hooks)) for module in classifier.modules()],
    )


def checksum(tensor: Tensor) -> int:
    return zlib.crc32(tensor.detach().contiguous().cpu().numpy().tobytes())


def require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)
