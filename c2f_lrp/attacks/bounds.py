"""Attacks that differ in their bound alone, such as those of a table, share their batches.

Few images in a batch are dear: of a scene alone, a step takes three times as long as of one among sixteen.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor
from tqdm.auto import tqdm

from c2f_lrp.attacks.base import Attack, AttackResult
from c2f_lrp.classifier import CoarseToFine


def families(attacks: Mapping[Any, Attack]) -> list[list[Any]]:
    """The attacks' names in groups, each of attacks that `attack_family` can run together; others are alone."""
    groups: list[tuple[Any, list[Any]]] = []
    for name, attack in attacks.items():
        kind = (type(attack), asdict(attack) | {"eps": None}) if getattr(attack, "takes_bounds", False) else name
        found = next((names for other, names in groups if other == kind), None)
        if found is None:
            groups.append((kind, [name]))
        else:
            found.append(name)
    return [names for _, names in groups]


def attack_family(
    attacks: list[Attack], classifier: CoarseToFine, pixels: Tensor, coarse_labels: Tensor, fine_labels: Tensor
) -> list[AttackResult]:
    """Each attack's result on the same images, as if it were called alone. The attacks are of one of the `families`."""
    n, times = len(pixels), len(attacks)
    if not n or times == 1:
        return [attack(classifier, pixels, coarse_labels, fine_labels) for attack in attacks]
    bounds = pixels.new_tensor([attack.eps for attack in attacks]).repeat_interleave(n)  # type: ignore[attr-defined]
    images = pixels.repeat(times, 1, 1, 1), coarse_labels.repeat(times), fine_labels.repeat(times)
    result = attacks[0](classifier, *images, bounds=bounds)
    parts = zip(*(values.split(n) for values in (result.perturbation, result.fooled, result.iterations)), strict=True)
    return [AttackResult(*part) for part in parts]


def attack_each(
    attacks: Mapping[Any, Attack], classifier: CoarseToFine, pixels: Tensor, coarse_labels: Tensor, fine_labels: Tensor
) -> dict[Any, AttackResult]:
    """Each attack's result on the same images, by name."""
    results: dict[Any, AttackResult] = {}
    for names in tqdm(families(attacks), desc="attacks", leave=False):
        some = [attacks[name] for name in names]
        results |= zip(names, attack_family(some, classifier, pixels, coarse_labels, fine_labels), strict=True)
    return {name: results[name] for name in attacks}
