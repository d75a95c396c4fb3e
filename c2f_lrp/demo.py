"""The demo of notebook 00: an attack on one image, followed step by step, and the widgets that choose both."""

import base64
import html
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import torch
from ipywidgets import Layout
from matplotlib.cbook import get_sample_data
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

from c2f_lrp import attacks, get_profile, load_classifier, load_images, plotting, stage
from c2f_lrp.attacks import Attack, attack_class
from c2f_lrp.attacks.base import BoundedAttack
from c2f_lrp.attacks.lrp_attack import LRPAttack
from c2f_lrp.attacks.pgd import PGD
from c2f_lrp.classifier import CoarseToFine, level_network
from c2f_lrp.datasets import Images, stack
from c2f_lrp.datasets.opening import decode, open_photo, resize_and_crop
from c2f_lrp.lrp import choose_lrp
from c2f_lrp.metrics import relevance_mass
from c2f_lrp.objectives import adversarial_labels
from c2f_lrp.panels import Panel, panel
from c2f_lrp.photos import doubts
from c2f_lrp.profiles import PHOTO_PROFILE
from c2f_lrp.tables import READINGS

LEVELS = ("coarse", "fine")
ATTACKS: dict[str, dict[str, str]] = {}  # names in attacks.ATTACKS, by title and level
for name in attacks.ATTACKS:
    ATTACKS.setdefault(attack_class(name).title, {})[attack_class(name).level] = name
KINDS = [attack_class(name) for name in attacks.ATTACKS]
OWN_BOUNDS = {kind.eps for kind in KINDS if issubclass(kind, BoundedAttack)}  # type: ignore[misc]
BOUNDS = sorted({0.5, 1, 1.5, 4, 6, 8, 10, 15, 20, 30, 40} | OWN_BOUNDS)  # of 255; every attack's own default is there
# Our attention loss has no end: it is descended for all steps, and the best of them is shown.
LOSSES = {
    "the paper's, eq. (7) or (9)": {},
    "regions (ours)": {"objective": "regions"},
    "attention (ours)": {"objective": "attention"},
    "attention, best of all steps": {"objective": "attention", "iterate": "best"},
}
# 0 stands for the attack's own default, which the command and Python have too; a menu at None shows nothing.
STEP_SIZES = {"the attack's own": 0, "1 of 255": 1, "2.5 of 255": 2.5, "5 of 255": 5}
STEP_COUNTS = {"the attack's own": 0, "20": 20, "10": 10}


@dataclass(frozen=True)
class Example:
    """A thumbnail: an image by its name in the data set, an attack on it, and a sentence on what to look at.

    settings: of the attack, where they are not its defaults. A test holds that `fooled` is so, and that relevance
    leaves the object where `moves` says it does.
    """

    title: str
    look: str
    image: str
    attack: str
    eps: float | None = None
    settings: dict = field(default_factory=dict)
    fooled: bool = True
    moves: bool = False


SCENES = (
    Example(
        "another label",
        "Algorithm 1 (LRPC): compare the two pictures, then the labels. What was added is seen only when magnified.",
        "scene 2/2",
        "lrpc",
    ),
    Example(
        "relevance moves",
        "Our loss sees where relevance lies, not only how much there is: it leaves the burger, also for the fish.",
        "scene 2/4",
        "lrpc",
        20,
        {"objective": "attention", "iterate": "best", "lr": 2.5},
        moves=True,
    ),
    Example(
        "it fails",
        "Not every image gives way: all steps are taken, the bound is reached, and the label is what it was.",
        "scene 2/5",
        "lrpc",
        fooled=False,
    ),
    Example(
        "one level down",
        "LRPF, the fine level: the kind of fish must change, and it must still be a fish.",
        "scene 2/0",
        "lrpf",
    ),
    Example(
        "just across",
        "DeepFool stops right behind the boundary: both scores end nearly equal. Look at the curves below.",
        "scene 2/0",
        "dfc",
    ),
    Example(
        "two of 255",
        "PGD may move no pixel by more than a hundredth of its range, and moves nearly all of them as far as that.",
        "scene 2/11",
        "pgdc",
    ),
)
# Grace Hopper, photographed by the United States Navy: in the public domain, and part of matplotlib.
PHOTO = Example(
    "a photograph",
    "The label stands, its explanation does not: eq. (7) asks for more relevance of the runner-up, wherever that lies.",
    "grace_hopper.jpg",
    "lrpc",
    settings={"iterations": 10},
    fooled=False,
)


# --------------------------------------------------------------------------------------------- what an attack does
@dataclass
class Trace:
    """An attack's course on one image so far: the clean image first, then an iterate for each step.

    pixels         (3, H, W) in [0, 255];  perturbations: up to K + 1 of this shape, in pixel units
    labels         (coarse, fine), the classifier's own, each (1,)
    network        the attacked one;  names: of its labels;  org, adv: the labels of eq. (6) or (8)
    scores         as many arrays (M,): softmax of its logits
    """

    classifier: CoarseToFine
    attack: Attack
    pixels: Tensor
    labels: tuple[Tensor, Tensor]
    network: nn.Module
    names: tuple[str, ...]
    org: int
    adv: int
    perturbations: list[Tensor] = field(default_factory=list)
    scores: list[np.ndarray] = field(default_factory=list)
    returned: int | None = None  # which iterate the attack returned, once it has; not always the last
    panels: dict = field(default_factory=dict)  # by step and reading, once they were asked for
    engines: dict = field(default_factory=dict)  # by reading: each reads the network once
    doubts: list[str] | None = None  # of the classifier's labels, once they were asked for

    def panel(self, step: int, reading: dict) -> Panel:
        """What the network makes of an iterate, with the heatmaps of a reading of eqs. (3)-(4)."""
        key = (step, *reading.values())
        if key not in self.panels:
            lrp = self.engines.setdefault(key[1:], choose_lrp(self.network, **reading))
            self.panels[key] = panel(
                self.classifier, lrp, self.pixels, self.perturbations[step], self.org, self.adv, f"step {step}"
            )
        return self.panels[key]

    def fooled(self, now: Panel, before: Panel) -> bool:
        """Whether the network is fooled by an iterate: the level's label changed, and at the fine level that alone."""
        if self.attack.level == "coarse":
            return now.coarse != before.coarse
        return now.coarse == before.coarse and now.fine != before.fine


class Stopped(Exception):
    """Somebody pressed stop, or chose something else."""


def start_trace(classifier: CoarseToFine, pixels: Tensor, attack: Attack) -> Trace:
    """The trace of an attack on one image (3, H, W) that has not begun."""
    coarse, fine = classifier.predict(pixels[None])
    network, names = level_network(classifier, attack.level, coarse.item())
    if len(names) < 2:
        raise ValueError(f"{classifier.hierarchy.coarse_names[coarse.item()]} has a single fine class: no fine attack")
    with torch.no_grad():
        org, adv = (label.item() for label in adversarial_labels(network(pixels[None])))
    return Trace(classifier, attack, pixels, (coarse, fine), network, names, org, adv)


def run_trace(trace: Trace, each: Callable[[], None] = lambda: None) -> Trace:
    """Attack, and keep every iterate; the labels are the classifier's own. `each` is called after each."""

    def watch(at) -> None:
        trace.perturbations.append(at.perturbation[0].detach().contiguous().clone())
        trace.scores.append(at.logits[0].detach().softmax(0).numpy())
        each()

    returned = trace.attack(trace.classifier, trace.pixels[None], *trace.labels, watch=watch).perturbation[0]
    trace.returned = max(k for k, eta in enumerate(trace.perturbations) if torch.equal(eta, returned))
    return trace


def choose_attack(name: str, eps: float, loss: dict, size: float, count: int, reading: dict) -> Attack:
    """The attack that the widgets say; what they leave open (0) is the attack's own default."""
    chosen = attack_class(name)
    settings: dict[str, Any] = {"iterations": count} if count else {}
    if not issubclass(chosen, BoundedAttack):
        return chosen(**settings)
    settings["eps"] = eps
    if size:
        settings["step_size" if issubclass(chosen, PGD) else "lr"] = size
    if issubclass(chosen, LRPAttack):
        settings |= reading | loss
    return chosen(**settings)


def command_of(attack: Attack, profile: str) -> str:
    """The command that runs this attack on a photograph: settings that are not the attack's defaults are said."""
    words = ["c2f-lrp attack PHOTO", "--attack", type(attack).__name__.lower()]
    words += ["--profile", profile] if profile != PHOTO_PROFILE else []
    if isinstance(attack, BoundedAttack):
        words += ["--eps", f"{attack.eps:g}"]
    for setting in fields(attack):
        value = getattr(attack, setting.name)
        if setting.name != "eps" and value != setting.default:
            words += ["-p", setting.name, str(value)]
    return " ".join(words)


def attention(trace: Trace, image: Images, before: Panel, now: Panel) -> str:
    """A line of HTML: which share of the label's positive relevance lies on the object, and on the other object."""
    if image.object_masks is None:
        return "How much relevance left the object cannot be said: nobody drew outlines in this photograph."
    places = {"on the object (solid line)": image.object_masks}
    if image.secondary_masks is not None and image.secondary_masks.any():
        assert image.secondary_coarse is not None
        other = trace.classifier.hierarchy.coarse_names[image.secondary_coarse.item()]
        places[f"on the {other} beside it (dotted)"] = image.secondary_masks
    moves = []
    for place, mask in places.items():
        was, is_now = (relevance_mass(each.relevance_org[None], mask).item() for each in (before, now))
        moves.append(f"{place} {was:.0%} → <b>{is_now:.0%}</b>")
    return f"Relevance of {stage.words(trace.names[trace.org], plotting.ORG)} {', '.join(moves)}."


def draw(trace: Trace, step: int, reading: dict) -> Figure:
    """The figure that the book shows: before and now."""
    before, now = trace.panel(0, reading), trace.panel(step, reading)
    both = [replace(before, title="before"), replace(now, fooled=trace.fooled(now, before) if step else None)]
    labels = trace.classifier.hierarchy.describe([p.coarse for p in both], [p.fine for p in both])
    return plotting.attack_figure(both, trace.names[trace.org], trace.names[trace.adv], labels)


# ---------------------------------------------------------------------------------------------------- the widgets
STALE = '<div style="opacity: 0.3">'  # around a picture of another attack, until this one's first is drawn


@dataclass(frozen=True)
class Choice:
    """An image that can be attacked, what classifies it, and what the reader should know of it."""

    name: str
    profile: str
    classifier: CoarseToFine | None  # None: that of the photographs, which is loaded when the first is chosen
    image: Images


class Demo:
    """The page. Jupyter shows its widgets; where there are none, as on GitHub, a figure is shown.

    An attack runs in a thread of its own, so that its steps appear as they are computed and it can be stopped.
    Photographs are given to the networks of `PHOTO_PROFILE` where the profile's own know drawings only.
    """

    def __init__(self, profile: str = "scenes", root: Path | None = None, n_images: int = 64):
        classifier, images = load_classifier(profile), load_images(profile, limit=n_images, root=root)
        names = classifier.hierarchy.describe(images.coarse, images.fine)
        order = sorted(range(len(images)), key=lambda row: (images.coarse[row].item(), images.fine[row].item()))
        self.choices = [
            Choice(f"{names[row]} ({images.names[row]})", profile, classifier, images[[row]]) for row in order
        ]
        at = {images.names[row]: place for place, row in enumerate(order)}
        self.examples = [(example, at[example.image]) for example in SCENES if example.image in at]
        self.photo_profile = profile if get_profile(profile).needs_root else PHOTO_PROFILE
        self.photo_classifier = lru_cache(lambda: load_classifier(self.photo_profile))
        if self.examples:
            self.examples.append((PHOTO, len(self.choices)))
            self.add_choice(PHOTO.image, open_photo(get_sample_data(PHOTO.image, asfileobj=False)))
        self.traces: dict = {}
        self.drawing = threading.RLock()  # the attack's thread and a moved slider draw to the same page
        self.stopping = threading.Event()
        self.job: threading.Thread | None = None
        self.look, self.threads = "", torch.get_num_threads()
        self.make_widgets()
        if self.examples:
            self.choose(*self.examples[0])
        else:
            self.attack_again()
        self.finish()

    # -------------------------------------------------------------------------------------------- what there is to see
    def make_widgets(self) -> None:
        words = dict(style={"description_width": "initial"}, layout=Layout(width="auto"))
        self.thumbs = [self.thumb(number, *chosen) for number, chosen in enumerate(self.examples)]
        self.image = widgets.Dropdown(
            options=self.image_names(), description="image", tooltip="every image that can be attacked", **words
        )
        self.photo = widgets.FileUpload(
            accept="image/*",
            description="your photograph",
            tooltip="a JPEG, PNG, WebP, BMP, GIF or TIFF file; it stays on this computer",
            layout=Layout(width="auto"),
        )
        self.level = widgets.ToggleButtons(
            options=LEVELS,
            tooltips=(
                "change the group, such as fish to bird",
                "change the kind, such as shark to ray, within its group",
            ),
            style={"button_width": "5em"},
            layout=Layout(width="auto"),
        )
        self.attack = widgets.Dropdown(
            options=list(ATTACKS), description="attack", tooltip="how the change to the image is found", **words
        )
        # All that is above the pictures takes two lines of JupyterLab's at 1280 pixels, also while an attack runs.
        wide, narrow = (words | dict(layout=Layout(width=width, max_width="100%")) for width in ("185px", "160px"))
        self.eps = widgets.SelectionSlider(
            options=[(f"{value:g}", value) for value in BOUNDS],
            value=10,
            description="ε",
            tooltip="how far any pixel may be changed, of 255",
            continuous_update=False,
            **narrow,
        )
        self.play = widgets.Play(
            interval=500, show_repeat=False, tooltip="play the attack's steps", layout=Layout(width="76px")
        )
        self.step = widgets.IntSlider(
            0, 0, 1, description="step", tooltip="which of the attack's steps is shown", **wide
        )
        self.stop_button = widgets.Button(
            description="stop",
            icon="stop",
            tooltip="stop the attack and keep the steps so far",
            layout=Layout(width="auto"),
        )
        self.parts = widgets.Dropdown(
            options=STEP_SIZES, description="a step", tooltip="how far one step changes a pixel at most", **words
        )
        self.count = widgets.Dropdown(
            options=STEP_COUNTS, description="at most", tooltip="after how many steps the attack gives up", **words
        )
        self.reading = widgets.Dropdown(
            options=READINGS,
            description="relevance",
            tooltip="how eqs. (3) and (4) are read, for the heatmaps and for the LRP attack: notebook 03",
            **words,
        )
        self.loss = widgets.Dropdown(
            options=LOSSES, description="loss", tooltip="what the LRP attack makes small, step by step", **words
        )
        self.text = widgets.HTML(layout=Layout(width="auto"))
        row = Layout(flex_flow="row wrap", align_items="center", width="100%")
        self.advanced = widgets.Accordion(
            [widgets.HBox([self.image, self.reading, self.loss, self.parts, self.count], layout=row)],
            titles=("Advanced",),
        )
        boxes = [
            widgets.HBox(self.thumbs, layout=row),
            widgets.HBox(
                [self.photo, self.level, self.attack, self.eps, self.play, self.step, self.stop_button],
                layout=row,
            ),
            self.text,
            self.advanced,
        ]
        self.page = widgets.VBox(boxes, layout=Layout(max_width="1200px", width="100%"))
        widgets.jslink((self.play, "value"), (self.step, "value"))
        for control in (self.eps, self.parts, self.count, self.reading, self.loss):
            control.observe(self.attack_again, "value")
        for control in (self.attack, self.level):
            control.observe(self.attack_chosen, "value")
        self.image.observe(self.image_chosen, "value")
        self.step.observe(self.show, "value")
        self.photo.observe(self.add_photos, "value")
        self.stop_button.on_click(lambda button: self.stop())

    def thumb(self, number: int, example: Example, row: int) -> widgets.Widget:
        """A button with a picture."""
        pixels = Image.fromarray(plotting.as_picture(self.choices[row].image.pixels[0])).resize((64, 64))
        buffer = BytesIO()
        pixels.save(buffer, "PNG")
        code = base64.b64encode(buffer.getvalue()).decode()
        look = (
            f"<style>.c2f-thumb-{number} {{background: url(data:image/png;base64,{code}) 4px 4px / 48px 48px no-repeat "
            "#f5f5f4; padding: 0 2px 0 58px; text-align: left; line-height: 1.2; white-space: normal}</style>"
        )
        button = widgets.Button(
            description=example.title, tooltip=example.look, layout=Layout(width="139px", height="56px")
        )
        button.add_class(f"c2f-thumb-{number}")
        button.on_click(lambda _: self.choose(example, row))
        return widgets.Box([widgets.HTML(look, layout=Layout(display="none")), button])

    def image_names(self) -> list[tuple[str, int]]:
        return [(choice.name, row) for row, choice in enumerate(self.choices)]

    # ---------------------------------------------------------------------------------------------- what a click does
    def choose(self, example: Example, row: int) -> None:
        """A thumbnail was pressed: set every control to what it says, and attack."""
        chosen = attack_class(example.attack)
        given = example.settings
        quiet = {
            self.image: row,
            self.attack: chosen.title,
            self.level: chosen.level,
            self.parts: given.get("lr", 0),
            self.count: given.get("iterations", 0),
            self.loss: {key: given[key] for key in ("objective", "iterate") if key in given},
            self.reading: next(iter(READINGS.values())),
        }
        if issubclass(chosen, BoundedAttack):
            quiet[self.eps] = example.eps or chosen.eps  # type: ignore[misc]  # its default
        for control, value in quiet.items():
            self.set_quietly(control, value=value)
        self.look = example.look
        self.attack_again()

    def image_chosen(self, change=None) -> None:
        self.look = ""
        self.attack_again()

    def attack_chosen(self, change=None) -> None:
        """Another attack: its own bound goes with it."""
        chosen = attack_class(ATTACKS[self.attack.value][self.level.value])
        if issubclass(chosen, BoundedAttack):
            self.set_quietly(self.eps, value=chosen.eps)  # type: ignore[misc]
        self.look = ""
        self.attack_again()

    def attack_again(self, change=None) -> None:
        """Another image or attack was chosen: attack, and show the steps as they come."""
        self.stop()
        name = ATTACKS[self.attack.value][self.level.value]
        chosen = attack_class(name)
        self.eps.disabled = self.parts.disabled = not issubclass(chosen, BoundedAttack)
        self.loss.disabled = not issubclass(chosen, LRPAttack)
        self.name_defaults(choose_attack(name, self.eps.value, {}, 0, 0, {}))
        choice = self.choices[self.image.value]
        classifier = choice.classifier or self.photo_classifier()
        try:
            attack = choose_attack(
                name, self.eps.value, self.loss.value, self.parts.value, self.count.value, self.reading.value
            )
            key = (self.image.value, attack)
            self.trace = self.traces.get(key) or start_trace(classifier, choice.image.pixels[0], attack)
        except ValueError as error:
            self.say(str(error))
            return
        self.choice = choice
        if self.trace.returned is not None:
            self.show_step(self.trace.returned)
            return
        self.trace.perturbations.clear(), self.trace.scores.clear(), self.trace.panels.clear()
        if self.text.value and STALE not in self.text.value:
            self.text.value = f"{STALE}{self.text.value}</div>"
        self.stopping.clear()
        self.job = threading.Thread(target=self.run, args=(self.trace, key), daemon=True)
        self.set_busy(True)
        self.job.start()

    def name_defaults(self, attack: Attack) -> None:
        """Say in two menus which step and how many steps are the attack's own. attack: one with its own settings."""
        size = "ε / 4" if isinstance(attack, PGD) else f"{attack.lr:g} of 255" if hasattr(attack, "lr") else ""
        for control, options, own in ((self.parts, STEP_SIZES, size), (self.count, STEP_COUNTS, attack.iterations)):
            named = tuple((f"{text}: {own}" if own and not value else text, value) for text, value in options.items())
            if control.options != named:
                self.set_quietly(control, options=named, value=control.value)

    def run(self, trace: Trace, key) -> None:
        """The attack's thread: draw the first steps, and later ones as far as drawing takes a quarter of the time."""
        # One thread is quicker for an image so small, most of all where others compute as well.
        torch.set_num_threads(1 if trace.pixels.shape[-1] <= 64 else self.threads)
        drawn, cost = time.monotonic(), 0.0

        def each() -> None:
            nonlocal drawn, cost
            if self.stopping.is_set():
                raise Stopped
            now = time.monotonic()
            if len(trace.perturbations) <= 2 or now - drawn > 3 * cost:
                self.show_step(len(trace.perturbations) - 1)
                drawn = time.monotonic()
                cost = drawn - now

        try:
            run_trace(trace, each)
            self.traces[key] = trace
            assert trace.returned is not None
            self.show_step(trace.returned)
        except Stopped:
            pass
        except (ValueError, TypeError) as error:  # TypeError: of a layer that no rule is known for
            self.say(str(error))
        finally:
            self.set_busy(False)

    def stop(self) -> None:
        """Stop the attack that runs, if one does, and wait until it has."""
        self.stopping.set()
        self.finish()

    def finish(self) -> None:
        """Wait until the attack that runs is over."""
        if self.job is not None and self.job is not threading.current_thread():
            self.job.join()
            self.job = None

    def set_busy(self, busy: bool) -> None:
        self.running = busy
        self.stop_button.disabled = not busy
        self.stop_button.description = "attacking … stop" if busy else "finished"
        self.stop_button.icon = "stop" if busy else "check"
        self.stop_button.button_style = "warning" if busy else ""

    def show_step(self, step: int) -> None:
        """Move the slider to a step that has been computed, and draw it."""
        last = max(len(self.trace.perturbations) - 1, 1)
        self.play.max = last
        self.set_quietly(self.step, max=last, value=step)
        self.play.value = step  # it is linked to the slider
        self.show()

    def show(self, change=None) -> None:
        """Draw the step that the slider says."""
        with self.drawing:
            trace, reading = self.trace, self.reading.value
            step, last = self.step.value, len(self.trace.perturbations) - 1
            if not 0 <= step <= last:
                return
            before, now, end = (trace.panel(k, reading) for k in (0, step, last))
            image, org, adv = self.choice.image, trace.names[trace.org], trace.names[trace.adv]
            outlines = [m[0] for m in (image.object_masks, image.secondary_masks) if m is not None and m.any()]
            hierarchy = trace.classifier.hierarchy
            names = [(hierarchy.coarse_names[p.coarse], hierarchy.fine_names[p.coarse][p.fine]) for p in (before, now)]
            fooled = trace.fooled(now, before)
            row = stage.above_the_fold(
                before,
                now,
                end,
                names,
                trace.attack.level,
                org,
                adv,
                step,
                last,
                fooled,
                trace.returned is None,
                outlines,
            )
            scores = np.stack(trace.scores[: last + 1])[:, [trace.org, trace.adv]]
            more = stage.below_the_fold(before, now, org, adv, scores, step, outlines)
            facts = [attention(trace, image, before, now)]
            facts += [f'<span class="beware">Beware: {html.escape(doubt)}.</span>' for doubt in self.doubts(before)]
            command = command_of(trace.attack, self.choice.profile)
            facts.append(f"On the command line: <code>{html.escape(command)}</code>")
            self.text.value = stage.page(self.look or self.default_look(org, adv), row, facts, more)
            self.plain = f"{type(trace.attack).__name__}: {' → '.join(' / '.join(pair) for pair in names)}"

    def doubts(self, before: Panel) -> list[str]:
        if get_profile(self.choice.profile).drawn:
            return []  # its classes are all that it is shown
        if self.trace.doubts is None:
            self.trace.doubts = doubts(self.trace.classifier, self.trace.pixels, before)
        return self.trace.doubts

    def default_look(self, org: str, adv: str) -> str:
        return f"The attack lowers what speaks for {org} against the runner-up, {adv}."

    def add_photos(self, change) -> None:
        """Photographs were uploaded: scale them as the network's own were, and choose the last."""
        try:
            photos = [(file.name, decode(BytesIO(file.content), file.name)) for file in change.new]
        except ValueError as error:
            self.say(str(error))
            return
        for photo in photos:
            self.add_choice(*photo)
        self.look = ""
        self.set_quietly(self.image, options=self.image_names(), value=len(self.choices) - 1)
        self.attack_again()

    def add_choice(self, name: str, photo: Image.Image) -> None:
        pixels = resize_and_crop(photo, get_profile(self.photo_profile).image_size)
        image = stack([pixels], [-1], [-1], None, [name])  # its labels are not known
        self.choices.append(Choice(name, self.photo_profile, None, image.with_pixels(image.pixels.float())))

    def say(self, problem: str) -> None:
        """One line instead of the picture, which belongs to something else."""
        self.text.value = f"<b style='color: firebrick'>{html.escape(problem)}</b>"

    def set_quietly(self, control: widgets.Widget, **values) -> None:
        """Set traits of a control without its handlers being told."""
        handlers = {
            self.image: self.image_chosen,
            self.attack: self.attack_chosen,
            self.level: self.attack_chosen,
            self.step: self.show,
        }
        handler = handlers.get(control, self.attack_again)
        control.unobserve(handler, "value")
        for name, value in values.items():
            setattr(control, name, value)
        control.observe(handler, "value")

    def _repr_mimebundle_(self, **options) -> dict:
        """Widgets, or a figure."""
        figure = draw(self.trace, self.step.value, self.reading.value)
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=100)
        plt.close(figure)
        return {
            **self.page._repr_mimebundle_(**options),
            "image/png": base64.b64encode(buffer.getvalue()).decode(),
            "text/plain": self.plain,
        }
