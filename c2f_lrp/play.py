"""The page to play with: a scene, an attack and its bound are chosen, and its steps are moved along, in a browser.

Nothing is computed there: the runs are made here, when the page is written, by the attacks of this package, and lie in
the page. `c2f-lrp book` writes it beside the book; `write_page` alone makes one file to open or to hand on.
"""

import base64
import json
import zlib
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from c2f_lrp.attacks import DFC, LRPC, PGDC, Attack, MarginC
from c2f_lrp.checkpoints import checkpoints_table, read_checkpoints
from c2f_lrp.classifier import CoarseToFine
from c2f_lrp.courses import Course, courses
from c2f_lrp.datasets import Images
from c2f_lrp.files import atomic_write
from c2f_lrp.loading import load_classifier, load_images
from c2f_lrp.lrp import choose_lrp
from c2f_lrp.metrics import contrast, relevance_mass
from c2f_lrp.objectives import adversarial_labels
from c2f_lrp.paths import NOTEBOOKS
from c2f_lrp.profiles import get_profile
from c2f_lrp.resources import one_thread
from c2f_lrp.tables import READINGS

TEMPLATE = NOTEBOOKS / "book" / "_play"
EPSILONS = (2.5, 5, 10, 20, 40)
STEPS, PARTS = 20, 4  # K, and a step is eps / 4: enough steps to watch, each large enough to see
POOL = 64  # scenes that are looked at before some are chosen
BESIDE = 60  # pixels of the second object at least, so that one can see what it is
# What a picture is rounded to: perturbations to 1/9 of their bound, heat maps to 1/16 of the end of their scale.
FINE, SHADES = 9, 16

ONE_HOT, LOGIT = READINGS.values()


def attacks() -> dict[str, dict]:
    """What the page offers, by key: title, a sentence, and `make`, which makes the attack of a bound.

    An attack without a bound ignores it.
    """

    def lrpc(reading: dict):
        return lambda eps: LRPC(eps=eps, lr=eps / PARTS, iterations=STEPS, **reading)

    return {
        "one_hot": dict(
            title="LRPC, one-hot start",
            says="Algorithm 1. Relevance starts at 1, which is eq. (3) to the letter, and biases absorb some of it.",
            make=lrpc(ONE_HOT),
        ),
        "logit": dict(
            title="LRPC, logit start",
            says="Algorithm 1 with relevance that starts at the logit: its loss is the margin between two labels.",
            make=lrpc(LOGIT),
        ),
        "pgd": dict(
            title="PGD",
            says="Every pixel takes the same step each time, up the cross-entropy of the label.",
            make=lambda eps: PGDC(eps=eps, step_size=eps / PARTS, iterations=STEPS, early_stop=True),
        ),
        "deepfool": dict(
            title="DeepFool",
            says="Steps to the nearest boundary. It has no ε: it takes what it needs.",
            make=lambda eps: DFC(),
        ),
        "margin": dict(
            title="margin",
            says="Descends the label's logit less the best other one. No relevance: compare with the logit start.",
            make=lambda eps: MarginC(eps=eps, lr=eps / PARTS, iterations=STEPS),
        ),
    }


# ------------------------------------------------------------------------------------------------ which scenes, and why
def pool(classifier: CoarseToFine) -> Images:
    """The first `POOL` scenes that both levels classify correctly and that show enough of a second object."""
    images = load_images("scenes", limit=3 * POOL)
    coarse, fine = classifier.predict(images.pixels)
    right = (coarse == images.coarse) & (fine == images.fine)
    assert images.secondary_masks is not None
    return images[right & (images.secondary_masks.sum((1, 2)) >= BESIDE)][:POOL]


def choose(classifier: CoarseToFine, images: Images) -> list[dict]:
    """The scenes of the page: for each its row in `images`, a title, what to look at, how it was chosen, and which
    attack and eps show it.

    Each is the extreme one by a rule, among the scenes that the rules before it left; a rule that no scene meets is
    left out. "The attack" is LRPC with the one-hot start at eps = 10, evidence the contrast of both labels' heatmaps.
    """
    make = {key: entry["make"] for key, entry in attacks().items()}
    names = classifier.hierarchy.coarse_names
    first, logit = (
        make[key](10)(classifier, images.pixels, images.coarse, images.fine) for key in ("one_hot", "logit")
    )
    resists = (~first.fooled).nonzero().flatten()
    part = images[resists]
    strongest = make["one_hot"](40)(classifier, part.pixels, part.coarse, part.fine)
    with torch.no_grad():
        scores = classifier.coarse(images.pixels + first.perturbation).softmax(1)
        scores_40 = classifier.coarse(part.pixels + strongest.perturbation).softmax(1)
        org, adv = adversarial_labels(classifier.coarse(images.pixels))
        evidence = [
            contrast(*choose_lrp(classifier.coarse).relevances(pixels, [org, adv]))
            for pixels in (images.pixels, images.pixels + first.perturbation)
        ]
    table = pd.DataFrame({"fooled": first.fooled.numpy(), "org": org.numpy(), "adv": adv.numpy()})
    for place, mask in {"object": images.object_masks, "beside": images.secondary_masks}.items():
        before, now = (relevance_mass(entry, mask).numpy() for entry in evidence)
        table[f"on_{place}"], table[f"then_on_{place}"], table[f"shift_{place}"] = before, now, now - before
    assert images.secondary_coarse is not None
    table["ends"], table["sure"] = scores.argmax(1).numpy(), scores.amax(1).numpy()
    table["beside"], table["steps"] = images.secondary_coarse.numpy(), logit.iterations.numpy()
    table["steps"] = table.steps.where(logit.fooled.numpy())
    table.loc[resists[~strongest.fooled].tolist(), "still_sure"] = scores_40.amax(1)[~strongest.fooled].numpy()
    for column in ("org", "adv", "ends", "beside"):
        table[column] = [names[label] for label in table[column]]
    fooled, never = table[table.fooled], table[table.still_sure.notna()]

    rules = [
        (
            "It moves",
            -fooled.shift_object,
            "Watch the red leave the {0.org}: of the evidence for {0.org}, {percent[0]} lie on it before and "
            "{percent[1]} in the end; on the {0.beside} beside it {percent[2]} become {percent[3]}.",
            "of those that the attack fools, the one whose evidence leaves its object most",
        ),
        (
            "It stays",
            -(fooled.shift_object.abs() + fooled.shift_beside.abs()),
            "The label flips to {0.ends}, and the evidence stays where it was: here the explanation shows nothing of "
            "the attack. Look at the last picture.",
            "of those that the attack fools, the one whose evidence on both objects changes least",
        ),
        (
            "The rival is here",
            fooled.shift_beside[fooled.beside == fooled.adv],
            "The runner-up, {0.adv}, stands beside the {0.org}, as the person sits in the paper's car. Does the "
            "evidence go there? Switch the outlines on and off.",
            "of those that the attack fools and whose second object is of the runner-up's class, the one whose "
            "evidence goes there most",
        ),
        (
            "It ends elsewhere",
            fooled.sure[fooled.ends != fooled.adv],
            "The runner-up is {0.adv}, but the image ends as {0.ends}. Move the steps and watch the bars: who is "
            "second at the start need not be first in the end.",
            "of those that the attack fools into another label than the runner-up, the one that gets there surest",
        ),
        (
            "One reading only",
            -never.steps.dropna(),
            "One algorithm, read in two ways: with the one-hot start it fails here, even at ε = 40; with the logit "
            "start it takes {0.steps:.0f} steps at ε = 10. Switch between the two.",
            "of those that the attack does not fool, not even at ε = 40, but with the logit start at ε = 10, the one "
            "that takes the fewest steps there",
        ),
        (
            "It holds",
            never.still_sure,
            "LRPC fails, even at ε = 40: still {0.org}. The noise is plain to see. Which of the other attacks gets it, "
            "and with how little?",
            "of those that the attack does not fool, not even at ε = 40, the one that stays surest of its label",
        ),
    ]
    chosen: list[dict] = []
    for title, value, says, how in rules:
        value = value.drop([scene["row"] for scene in chosen], errors="ignore")
        if len(value):
            row = value.idxmax()  # the first of those with the most
            line = table.loc[row]
            shares = line.on_object, line.then_on_object, line.on_beside, line.then_on_beside
            percent = [f"{100 * share:.0f}\N{NO-BREAK SPACE}%" for share in shares]
            start = {"attack": "one_hot", "eps": "40" if title == "It holds" else "10"}
            chosen.append(dict(row=row, title=title, says=says.format(line, percent=percent), how=how, start=start))
    return chosen


# --------------------------------------------------------------------------------------------------------- the numbers
class Blob:
    """Bytes one after the other; `put` says where they begin."""

    def __init__(self):
        self.parts: list[bytes] = []
        self.length = 0

    def put(self, values: np.ndarray) -> int:
        at = self.length
        self.parts.append(values.tobytes())
        self.length += len(self.parts[-1])
        return at


def changes(values: np.ndarray) -> np.ndarray:
    """int8 (K, ...): the first entry, then what each adds to the one before; small numbers, which compress well."""
    return np.diff(values.astype(np.int16), axis=0, prepend=np.zeros_like(values[:1], np.int16)).astype(np.int8)


def run_data(course: Course, eps: float | None, end: float, images: Images, blob: Blob) -> dict:
    """What the page knows of one course; pictures go into the blob, rounded, numbers are those of the exact iterates.

    eps: the attack's bound, None where it has none: the largest change stands for it.
    """
    bound = eps or course.perturbations.abs().max().item() or 1.0
    eta = (course.perturbations[1:] * (FINE / bound)).round().numpy().astype(np.int8)
    evidence = (course.evidence[1:] * (SHADES / end)).round().clamp(-SHADES, SHADES).numpy().astype(np.int8)
    assert images.object_masks is not None and images.secondary_masks is not None
    masks = images.object_masks[0], images.secondary_masks[0]
    return dict(
        last=len(course) - 1,
        fooled=course.fooled,
        bound=bound,
        scores=[[round(score, 4) for score in line] for line in course.scores.tolist()],
        labels=list(zip(course.coarse.tolist(), course.fine.tolist(), strict=True)),
        largest=[round(value, 2) for value in course.perturbations.abs().amax((1, 2, 3)).tolist()],
        shares=[[round(value, 3) for value in course.shares(mask).nan_to_num(0).tolist()] for mask in masks],
        eta=blob.put(changes(eta)),
        evidence=blob.put(changes(evidence)),
    )


def page_data() -> tuple[dict, bytes]:
    """What the page shows: words and numbers, and the bytes of its pictures, compressed with zlib.

    Takes some tens of seconds on one core. Deterministic on one machine.
    """
    with one_thread():  # quicker for images so small
        classifier = load_classifier("scenes")
        images = pool(classifier)
        hierarchy, offered, blob = classifier.hierarchy, attacks(), Blob()
        chosen = choose(classifier, images)
        part = images[[scene["row"] for scene in chosen]]
        runs: dict[tuple[str, float | None], list[Course]] = {}
        for key, entry in offered.items():
            for eps in EPSILONS if bounded(entry["make"](EPSILONS[0])) else (None,):
                attack = entry["make"](eps)
                runs[key, eps] = courses(classifier, part.pixels, part.coarse, part.fine, attack)
        scenes = []
        for k, scene in enumerate(chosen):
            image, mine = part[[k]], {setting: of[k] for setting, of in runs.items()}
            any_course = next(iter(mine.values()))
            # One scale for all runs of a scene: it holds the clean image's map and those at the ends of all attacks.
            maps = [any_course.evidence[0], *(course.evidence[-1] for course in mine.values())]
            end = torch.stack(maps).abs().flatten().quantile(0.995).item()
            before = (any_course.evidence[0] * (SHADES / end)).round().clamp(-SHADES, SHADES)
            assert image.object_masks is not None and image.secondary_masks is not None
            assert image.secondary_coarse is not None
            masks = image.object_masks[0].byte() + 2 * image.secondary_masks[0].byte()
            scenes.append(
                {name: scene[name] for name in ("title", "says", "how", "start")}
                | dict(
                    name=image.names[0],
                    org=any_course.org,
                    adv=any_course.adv,
                    beside=image.secondary_coarse.item(),
                    end=end,
                    pixels=blob.put(image.pixels[0].numpy().astype(np.uint8)),
                    masks=blob.put(masks.numpy()),
                    evidence=blob.put(before.numpy().astype(np.int8)),
                    runs={
                        key: {
                            "" if eps is None else f"{eps:g}": run_data(course, eps, end, image, blob)
                            for (name, eps), course in mine.items()
                            if name == key
                        }
                        for key in offered
                    },
                )
            )
    weights = read_checkpoints(checkpoints_table(get_profile("scenes")), "scenes")
    told = dict(
        size=images.pixels.shape[-1],
        fine_steps=FINE,
        shades=SHADES,
        coarse=hierarchy.coarse_names,
        fine=hierarchy.fine_names,
        epsilons=[f"{eps:g}" for eps in EPSILONS],
        attacks={key: {"title": entry["title"], "says": entry["says"]} for key, entry in offered.items()},
        scenes=scenes,
        made=dict(
            version=version("c2f_lrp"),
            torch=torch.__version__,
            weights=next(row["sha256"] for row in weights if row["network"] == "coarse"),
            pool=len(images),
            steps=STEPS,
            parts=PARTS,
        ),
    )
    return told, zlib.compress(b"".join(blob.parts), 9)


def bounded(attack: Attack) -> bool:
    return hasattr(attack, "eps")


# ------------------------------------------------------------------------------------------------------------ the page
def write_page(path: str | Path) -> Path:
    """Write the page, one HTML file that needs no network, no server and no other file; returns its path.

    Takes some tens of seconds: all its runs are computed. Raises OSError where it cannot be written.
    """
    path = Path(path)
    told, pictures = page_data()
    page = (TEMPLATE / "play.html").read_text(encoding="utf-8")
    # "<" is escaped, so that nothing in the data can end the script that holds it.
    data = json.dumps(told, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    for mark, text in {
        "/* play.css */": (TEMPLATE / "play.css").read_text(encoding="utf-8"),
        "/* play.js */": (TEMPLATE / "play.js").read_text(encoding="utf-8"),
        "/* data */": data,
        "/* pictures */": base64.b64encode(pictures).decode(),
    }.items():
        page = page.replace(mark, text)
    with atomic_write(path) as file:
        file.write_text(page, encoding="utf-8")
    return path
