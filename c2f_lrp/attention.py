"""Where relevance goes under attack: which images are looked at, and one row of measures per image and attack.

The paper's Figure 1 has a car with a person inside, attacked from "vehicle" to "clothes". `scene_pairs` looks for
scenes like it, whose second object is of the class that the attack seeks, and for others, whose second object is not.
"""

import dataclasses
import itertools
import json
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from c2f_lrp import shards
from c2f_lrp.attacks import Attack, MarginC, MarginF
from c2f_lrp.classifier import CoarseToFine
from c2f_lrp.datasets import Images
from c2f_lrp.evaluation import attackable
from c2f_lrp.evaluation.rows import Setting
from c2f_lrp.loading import open_images
from c2f_lrp.lrp import LRP
from c2f_lrp.measures import explain_all, measure, noise_like
from c2f_lrp.metrics import bootstrap, contrast
from c2f_lrp.objectives import adversarial_labels
from c2f_lrp.profiles import DEFAULT_PROFILE, get_profile
from c2f_lrp.tables import COLUMNS, table_attacks

FIRST_SCENE = 10_000  # of the evaluation's series: no notebook, and no training, draws a scene so far on
SLICE = 20  # images a shard
LARGEST_BOX = 0.9  # of the image; relevance lies in a larger one whatever happens


def tried_attacks(level: str, epsilons: list[float], **settings) -> dict[Setting, Attack]:
    """Those of Tables I or II, and beside them the margin attack at the smallest eps, which follows no relevance."""
    margin = MarginC if level == "coarse" else MarginF
    smallest = min(epsilons)
    return table_attacks(level, epsilons, **settings) | {
        Setting(margin.__name__, "", f"{smallest:g}"): margin(eps=smallest)
    }


def scene_pairs(
    classifier: CoarseToFine,
    n: int,
    first: int = FIRST_SCENE,
    others: int | None = None,
    profile: str = DEFAULT_PROFILE,
) -> tuple[Images, Images]:
    """n scenes whose second object is of r_adv's class (eq. 6), and `others` (None: n) whose second object is not.

    The first such scenes from index `first` on, float32 pixels; both levels classify them correctly, and some of the
    second object is in sight. About one scene in nine is of the first kind.
    """
    others = n if others is None else others
    if min(n, others) < 1:
        raise ValueError(f"{n} and {others} scenes were asked for; ask for at least one of each kind")
    wanted = {True: n, False: others}
    found: dict[bool, list[int]] = {True: [], False: []}
    series = open_images(profile, limit=first + 200 * max(n, others) + 2000)
    progress = tqdm(total=n, desc="choosing scenes", leave=False)
    for start in itertools.count(first, 128):
        if all(len(found[same]) == wanted[same] for same in found):
            break
        some = series[start : start + 128]
        if not len(some):
            raise ValueError(
                f"no {n} scenes from {first} on have a second object of the runner-up's class; ask for fewer"
            )
        assert some.secondary_masks is not None
        right = rightly_classified(classifier, some) & some.secondary_masks.any(2).any(1)
        _, adv = adversarial_labels(classifier.coarse(some.pixels.float()))
        for same in found:
            rows = (right & ((adv == some.secondary_coarse) == same)).nonzero().flatten() + start
            found[same] = (found[same] + rows.tolist())[: wanted[same]]
        progress.n = len(found[True])
        progress.refresh()
    one, other = (series[found[same]] for same in (True, False))
    return one.with_pixels(one.pixels.float()), other.with_pixels(other.pixels.float())


def unseen_images(
    classifier: CoarseToFine, profile: str, level: str, n: int, root: Path | None = None, first: int | None = None
) -> Images:
    """n images that both levels classify correctly and this level can attack, from the `first` of the profile on.

    first: by default beyond all that other notebooks use, FIRST_SCENE for the scenes and the tables' number of images
    for photographs; from the beginning where a profile evaluates every photograph there is. Fewer than n where there
    are no more. Boxes above LARGEST_BOX of the image are left out: their masks are empty.
    """
    settings = get_profile(profile)
    if first is None:
        first = FIRST_SCENE if settings.drawn else 0 if settings.evaluates_all else settings.table_images
    images = open_images(profile, limit=first + 3 * n + 64, root=root)[first:]
    images = images.with_pixels(images.pixels.float())
    images = images[attackable(classifier, images, level).tolist()]
    images = images[rightly_classified(classifier, images)][:n]
    if not len(images):
        raise ValueError(f"no image of {profile} from {first} on can be attacked; choose another first, or profile")
    if images.object_masks is None:
        return images
    masks = images.object_masks.clone()
    masks[masks.float().mean((1, 2)) > LARGEST_BOX] = False
    return dataclasses.replace(images, object_masks=masks)


def choose(
    classifier: CoarseToFine,
    profile: str,
    level: str,
    n: int,
    root: Path | None = None,
    first: int | None = None,
    others: int | None = None,
) -> tuple[Images, ...]:
    """Which images are looked at: `scene_pairs` of the scenes at the coarse level, else the one set `unseen_images`."""
    if get_profile(profile).drawn and level == "coarse":
        return scene_pairs(classifier, n, FIRST_SCENE if first is None else first, others, profile)
    return (unseen_images(classifier, profile, level, n, root, first),)


def rightly_classified(classifier: CoarseToFine, images: Images) -> Tensor:
    """bool (N,): both labels are right."""
    parts = [classifier.predict(pixels.float()) for pixels in images.pixels.split(64)]
    coarse, fine = (torch.cat(labels) for labels in zip(*parts, strict=True))
    return (coarse == images.coarse) & (fine == images.fine)


def run(
    classifier: CoarseToFine,
    images: Images,
    attacks: dict[Setting, Attack],
    *,
    init: str = "one_hot",
    bias: str = "absorb",
    store: Path | None = None,
) -> pd.DataFrame:
    """One row per setting and image: attack, reading, eps, image, the columns of `measures.measure`, and the same of
    sign noise with the perturbation's norm, as "noise: ...".

    images: classified correctly, float32. init, bias: the reading of the heatmaps, for all attacks the same one. With a
    folder `store` each setting's rows of SLICE images are kept there, and read again by the next run, so that a killed
    one goes on. All attacks must be of one level.
    """
    levels = {attack.level for attack in attacks.values()}
    if len(levels) != 1:
        raise ValueError(f"the attacks are of levels {sorted(levels)}; give those of one level")
    (level,) = levels
    if store is not None:
        shards.open_store(store := Path(store))
    common = dict(
        kind="attention",
        classifier=shards.classifier_facts(classifier),
        level=level,
        heatmaps=[init, bias],
        code=shards.software(),
    )
    tables, kept = [], {}
    with tqdm(total=len(images) * len(attacks), unit="image", desc="attacking and measuring") as progress:
        for rows in torch.arange(len(images)).split(SLICE):
            part, clean = images[rows.tolist()], None
            content = shards.image_facts(part)
            for setting, attack in attacks.items():
                told = dict(attack=type(attack).__name__, settings=dataclasses.asdict(attack), images=content)
                facts = common | told
                table = None if store is None else shards.read_shard(store, facts)
                if table is None:
                    clean = clean or explain_all(classifier, part, level, init, bias)
                    table = rows_of(classifier, part, attack, clean)
                    if store is not None:
                        shards.write_shard(store, table, facts)
                kept[shards.shard_key(facts)] = shards.table_hash(table)
                tables.append(table.assign(**setting._asdict()))
                progress.update(len(part))
    found = pd.concat(tables, ignore_index=True).assign(seed=-1)  # nothing here depends on an attack's seed
    if store is not None:
        found.attrs["shards"] = kept
    return found


def rows_of(classifier: CoarseToFine, images: Images, attack: Attack, clean: list) -> pd.DataFrame:
    """The rows of one attack on a few images. clean: of `explain_all`."""
    eta = attack(classifier, images.pixels, images.coarse, images.fine).perturbation
    noise = noise_like(eta, images.pixels, "sign")
    ours, control = (measure(classifier, images, some, attack.level, clean) for some in (eta, noise))
    table = ours.join(control.drop(columns=["r_org", "r_adv"]).add_prefix("noise: "))
    table.insert(0, "image", images.names)
    return table


def joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """The rows of several runs as those of one, which the sidecars of what is made of them all name."""
    rows = pd.concat(tables, ignore_index=True)
    rows.attrs["shards"] = {key: value for table in tables for key, value in table.attrs.get("shards", {}).items()}
    return rows


def is_stored(folder: Path, name: str, parameters: dict) -> bool:
    """Whether a folder of figures holds NAME_claims.csv of a run with these parameters; how many images may differ."""
    if not (folder / f"{name}_claims.csv").is_file():
        return False
    told = json.loads((folder / f"{name}_claims.json").read_text(encoding="utf-8"))["parameters"]
    return all(told.get(key) == value for key, value in parameters.items() if key not in ("n_images", "n_control"))


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """What each setting does on the whole: index attack, reading, eps, measure; columns images, mean, low, high, noise.

    Measures are the columns of `measures.measure`, and "ended at r_adv": the label is then the one of eq. (6) or (8).
    images: those that have the measure. low, high: the 95 % bootstrap interval of the mean. noise: the mean under sign
    noise of the same norm.
    """
    rows = rows.assign(**{"ended at r_adv": rows.label == rows.r_adv})
    strangers = {*COLUMNS, "image", "seed", "r_org", "r_adv", "label"}
    names = [name for name in rows if name not in strangers and not name.startswith("noise: ")]
    lines = {}
    for key, group in rows.groupby(COLUMNS, sort=False):
        for name in names:
            mean, low, high = bootstrap(group[name])
            line = {"images": group[name].notna().sum(), "mean": mean, "low": low, "high": high}
            noise = group[f"noise: {name}"].mean() if f"noise: {name}" in group else float("nan")
            lines[*key, name] = line | {"noise": noise}
    return pd.DataFrame(lines).T.rename_axis([*COLUMNS, "measure"]).astype({"images": int})


@torch.no_grad()
def label_maps(lrp: LRP, pixels: Tensor, labels: list[Tensor]) -> list[Tensor]:
    """The pictures of one image (3, H, W): heatmaps of r_org, r_adv and a third label, and two contrasts.

    labels: r_org, r_adv and the third one, int64 (1,) each. The contrasts are r_adv's and the third label's with r_org
    (`metrics.contrast`), (1, H, W).
    """
    org, adv, third = lrp.relevances(pixels[None], labels)
    return [org[0], adv[0], third[0], contrast(adv, org)[0], contrast(third, org)[0]]
