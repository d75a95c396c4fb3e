"""The command c2f-lrp: demo, reproduce, verify, train, attack, data, book, completion.

What is heavy, torch above all, is imported by the command that needs it: help and usage errors answer at once.
"""

import argparse
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from c2f_lrp.attacks import ATTACKS
from c2f_lrp.paths import NOTEBOOKS, REPOSITORY, lend_home
from c2f_lrp.profiles import DEFAULT_PROFILE, PHOTO_PROFILE, PROFILES, get_profile

DEVICES = ("cpu", "cuda")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 when it did what was asked, 1 after one line that says what was wrong."""
    options = parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="c2f-lrp-home-", ignore_cleanup_errors=True) as home:
        return run(options, home)


def run(options: argparse.Namespace, home: str) -> int:
    """One command in an environment of its own: what is set for it and its children is taken back afterwards."""
    environment = dict(os.environ)
    lend_home(home)
    if "OMP_WAIT_POLICY" not in os.environ:
        # How often torch's threads look for each other before they let another program have the core. libgomp's own
        # 300,000 is no faster alone, and several times slower beside others. Read when torch is loaded, on Linux.
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    os.environ["MPLBACKEND"] = "agg"  # nothing is shown; a notebook's or a desktop's backend may be missing here
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # ε, and names of files, whatever the terminal can show
    if getattr(options, "weights", None):
        os.environ["C2F_LRP_WEIGHTS"] = str(options.weights.resolve())  # the notebooks' kernels inherit it
    try:
        if getattr(options, "profile", None):
            profile = get_profile(options.profile)  # before anything heavy is loaded
            if getattr(options, "root", None) and not profile.needs_root:
                others = ", ".join(name for name, other in PROFILES.items() if other.needs_root)
                raise ValueError(
                    f"the profile {profile.name} draws its images; leave out --root, or choose a --profile of "
                    f"photographs: {others}"
                )
        return options.run(options)
    except (ValueError, OSError) as error:
        problem, code = str(error), 1
    except KeyboardInterrupt:
        again = {"reproduce": "; run it again with --resume to go on", "train": "; run it again to go on"}
        problem, code = f"interrupted{again.get(options.command, '')}", 130
    finally:
        os.environ.clear()
        os.environ.update(environment)
    # Out here, where the error and with it the loops it came from are gone: their progress bars have left the line.
    print(f"{options.command_line}: {problem}", file=sys.stderr)
    return code


EXAMPLES = """examples:
  c2f-lrp demo                            choose images and attacks with the mouse
  c2f-lrp attack photo.jpg                attack a photograph of yours
  c2f-lrp reproduce                       every figure and table of the paper
  c2f-lrp COMMAND --help                  what a command can do
"""
ATTACK_EXAMPLES = """examples:
  c2f-lrp attack photo.jpg                                   LRPC at the paper's three bounds
  c2f-lrp attack *.jpg --attack pgdf --eps 2                 another attack at a bound of 2 of 255
  c2f-lrp attack photo.jpg -p lr 2.5 -p objective attention  other settings of the attack
  c2f-lrp attack photo.jpg --json | jq .attacks[].fooled     for a program
  c2f-lrp attack photo.jpg --network torchvision:resnet50 --file resnet50.pth

All settings that are not given are the attack's own defaults, as in the demo and in Python.
"""
COMPLETION_EXAMPLES = """examples:
  c2f-lrp completion bash > ~/.local/share/bash-completion/completions/c2f-lrp
  c2f-lrp completion zsh > ~/.zfunc/_c2f-lrp      with ~/.zfunc in fpath, before compinit
"""


def parser(complete: bool = False) -> argparse.ArgumentParser:
    """The command line. complete: with what may stand where as choices, for a shell; a wrong word gets our own line."""
    shape: dict[str, Any] = dict(formatter_class=argparse.RawDescriptionHelpFormatter)
    about = "Explainable attacks on coarse-to-fine classifiers."
    top = argparse.ArgumentParser(prog="c2f-lrp", description=about, epilog=EXAMPLES, **shape)
    top.add_argument("--version", action="version", version=f"c2f-lrp {version('c2f_lrp')}")
    commands = top.add_subparsers(dest="command", required=True)

    weights = "folder of weights written by train --out"
    csv = "for the profile folder: a csv with columns folder,coarse[,name]"

    def offered(names) -> dict[str, Any]:
        return dict(choices=list(names), metavar="NAME") if complete else {}

    def plain(name: str, run, text: str, to=commands, **more) -> argparse.ArgumentParser:
        sub = to.add_parser(name, help=text, description=text, **more)
        sub.set_defaults(run=run, command_line=sub.prog)
        return sub

    def command(name: str, run, text: str, profile: str = DEFAULT_PROFILE, **more) -> argparse.ArgumentParser:
        sub = plain(name, run, text, **more)
        known = f"one of {', '.join(PROFILES)} (default {profile})"
        sub.add_argument("--profile", default=profile, help=known, **offered(PROFILES))
        return sub

    def cluster(sub: argparse.ArgumentParser, work: str) -> None:
        where = sub.add_mutually_exclusive_group()
        where.add_argument("--workers", type=int, help=f"{work} in so many processes on this machine (needs Dask)")
        where.add_argument("--scheduler", metavar="ADDRESS", help=f"{work} on the workers of this Dask scheduler")

    sub = plain("demo", demo, "Open the demo in JupyterLab.")
    sub.add_argument(
        "--page", action="store_true", help="as a page that runs by itself, by Voilà: python -m pip install voila"
    )
    sub.add_argument("options", nargs="*", help="after --, for Jupyter, such as: -- --no-browser --port 8899")

    sub = command("reproduce", reproduce, "Regenerate every figure and table by running the notebooks.")
    sub.add_argument("--only", action="append", metavar="NOTEBOOK", help="only this one, such as table_1; repeatable")
    sub.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    sub.add_argument("--root", type=Path, help="folder of photographs")
    sub.add_argument("--out", type=Path, help="where figures go (default: figures/)")
    sub.add_argument("--weights", type=Path, help=weights)
    sub.add_argument("--resume", action="store_true", help="keep the attacks that an earlier run finished")
    at_a_time = "notebooks to run at a time (default: one for each core, as far as memory goes)"
    sub.add_argument("--jobs", type=int, metavar="N", help=at_a_time)
    cluster(sub, "attack for the tables")

    sub = plain("verify", verify, "Say which figures and tables are stale or altered.")
    sub.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="such as figures/scenes")
    sub.add_argument("--weights", type=Path, help=weights)

    sub = plain("book", book, "Build the read-along book and the slides, as web pages.")
    sub.add_argument("--out", type=Path, default=Path("build/book"), help="where the pages go (default: build/book/)")

    sub = command("train", train, "Train the coarse and the fine networks; goes on where it was interrupted.")
    sub.add_argument("--root", type=Path, help="folder of photographs")
    sub.add_argument("--out", type=Path, help="write weights and checkpoints.csv here instead of the usual place")
    sub.add_argument("--hierarchy", type=Path, help=csv)
    sub.add_argument("--pretrained", type=Path, help="for the profile imagenet: where data weights --out wrote")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    cluster(sub, "train")

    text = "Attack photographs: a figure and a few lines for each."
    sub = command("attack", attack, text, PHOTO_PROFILE, epilog=ATTACK_EXAMPLES, **shape)
    sub.set_defaults(profile=None)  # so that one beside --network is noticed
    photos = sub.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="JPEG, PNG, WebP, BMP, GIF or TIFF")
    photos.complete = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}  # type: ignore[attr-defined]  # for shtab
    known = f"one of {', '.join(ATTACKS)} (default lrpc)"
    sub.add_argument("--attack", default="lrpc", help=known, **offered(ATTACKS))
    bounds = "bounds in pixel units (default 10 20 40 for lrpc and lrpf, else the attack's own)"
    sub.add_argument("--eps", type=bound, nargs="+", help=bounds)
    one_more = "another setting of the attack, such as -p lr 2.5; repeatable"
    sub.add_argument(
        "-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help=one_more
    )
    sub.add_argument("--out", type=Path, default=Path("attacked"), help="where the figures go (default: attacked/)")
    sub.add_argument("--weights", type=Path, help=weights)
    sub.add_argument("--device", default="cpu", help="cpu (default) or cuda", **offered(DEVICES))
    how = sub.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="a line of JSON for each photograph instead of the text")
    how.add_argument("--quiet", action="store_true", help="print only where each figure is")
    other = sub.add_argument_group("a flat ImageNet network of your own, instead of a profile's")
    other.add_argument("--network", metavar="LIBRARY:MODEL", help="such as torchvision:resnet50, or timm:...")
    other.add_argument("--file", type=Path, help="its weights: safetensors, or a state dict saved by torch.save")
    values = "of the pixels it was trained with, in 0..255; one number or three (default: ImageNet's)"
    other.add_argument("--mean", type=float, nargs="+", help=f"mean {values}")
    other.add_argument("--std", type=float, nargs="+", help=f"standard deviation {values}")
    other.add_argument("--size", type=int, help="pixels a side that it takes (default 224)")

    text = "Print what makes a shell complete this command's words."
    sub = plain("completion", completion, text, epilog=COMPLETION_EXAMPLES, **shape)
    sub.add_argument("shell", choices=["bash", "zsh", "tcsh"])

    data = commands.add_parser("data", help="Check, unpack, fetch and export data.").add_subparsers(required=True)

    sub = command("check", check, "Check that a profile's data can be read.", PHOTO_PROFILE, to=data)
    sub.add_argument("--root", type=Path, help="folder of photographs")
    sub.add_argument("--weights", type=Path, help=weights)
    sub.add_argument("--hierarchy", type=Path, help=csv)

    sub = plain("extract", extract, "Unpack the paper's 393 classes from ILSVRC2012_img_train.tar.", to=data)
    sub.add_argument("archive", type=Path)
    sub.add_argument("--root", type=Path, required=True, help="where train/<wnid>/ goes")

    sub = plain("weights", pretrained, "Fetch torchvision's vgg16 with its ImageNet weights (528 MB).", to=data)
    sub.add_argument("--out", type=Path, help="where they go (default: with the user's data)")
    sub.add_argument("--file", type=Path, help="a copy of torchvision's file that is here already")

    sub = plain("export-scenes", export_scenes, "Write embedded scenes as an image folder with its hierarchy.", to=data)
    sub.add_argument("--out", type=Path, required=True)
    sub.add_argument("-n", type=int, default=6400, help="how many (default 6400)")
    return top


def bound(text: str) -> float:
    """A value of --eps. What follows it is read as another one, so a photograph there gets a hint."""
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no number; photographs come before --eps") from error


# JupyterLab's own settings: whoever opens the demo is not asked, over the picture, whether it may fetch news.
LAB_SETTINGS = {"@jupyterlab/apputils-extension:notification": {"checkForUpdates": False, "fetchNews": "false"}}


def demo(options: argparse.Namespace) -> int:
    if options.page and not find_spec("voila"):
        raise ValueError("--page needs Voilà; install it with: python -m pip install voila")
    notebook = NOTEBOOKS / "00_demo.ipynb"
    if NOTEBOOKS.parent != REPOSITORY:  # installed: a copy of your own; one that is here stays as you left it
        mine = Path.cwd() / notebook.name
        if not mine.exists():
            shutil.copyfile(notebook, mine)
        notebook = mine
    if options.page:
        return subprocess.call([sys.executable, "-m", "voila", str(notebook), *options.options])
    # The notebook alone, without a file browser beside it: JupyterLab's single-document mode.
    place = [f"--ServerApp.root_dir={notebook.parent}", f"--LabApp.default_url=/doc/tree/{notebook.name}"]
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "labconfig" / "default_setting_overrides.json"
        settings.parent.mkdir()
        settings.write_text(json.dumps(LAB_SETTINGS), encoding="utf-8")
        paths = os.pathsep.join(filter(None, [folder, os.environ.get("JUPYTER_CONFIG_PATH")]))
        os.environ["JUPYTER_CONFIG_PATH"] = paths  # until main puts the environment back
        return subprocess.call([sys.executable, "-m", "jupyterlab", *place, *options.options])


def reproduce(options: argparse.Namespace) -> int:
    from c2f_lrp.reproduce import run_notebooks

    parameters = parameters_of(options)
    with scheduler_of(options) as scheduler:
        return run_notebooks(
            options.profile,
            only=options.only,
            parameters=parameters,
            root=options.root,
            out=options.out,
            resume=options.resume,
            scheduler=scheduler,
            jobs=options.jobs,
        )


def parameters_of(options: argparse.Namespace) -> dict:
    """What -p NAME VALUE gave, values read as YAML."""
    parameters = {}
    for name, value in options.parameter:
        try:
            parameters[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"parameter {name}: {value!r} is not YAML, such as 3, word or '[10, 20]'") from error
    return parameters


def scheduler_of(options: argparse.Namespace) -> AbstractContextManager[str | None]:
    """The address of the scheduler that was asked for, which was found to answer and to fit, or None."""
    if options.scheduler is None and options.workers is None:
        return nullcontext()
    from c2f_lrp.cluster import local, remote

    return remote(options.scheduler) if options.workers is None else local(options.workers)


def verify(options: argparse.Namespace) -> int:
    from c2f_lrp.provenance import verify as problems

    found = [f"{folder}/{line}" for folder in options.folders for line in problems(folder)]
    print("\n".join(found) or "everything is as its sidecars say, made with the weights that are here")
    return 1 if found else 0


def book(options: argparse.Namespace) -> int:
    from c2f_lrp.files import writable_folder

    notebooks = REPOSITORY / "notebooks"
    if not (REPOSITORY / "pyproject.toml").is_file():
        raise ValueError("the book shows figures/ and the README; build it in a copy of the repository")
    writable_folder(options.out)
    try:
        from sphinx.cmd.build import main as build
    except ImportError as error:
        raise ValueError(f'{error.name} is missing; run: python -m pip install -e ".[book]"') from error
    # Every page anew, as Sphinx does not see when figures change; a warning, such as of a link to nowhere, is an error.
    failed = build(["-EnWq", "--keep-going", "-c", str(notebooks / "book"), str(notebooks), str(options.out)])
    if not failed:
        print(f"open {options.out / 'index.html'}; the slides are {options.out / 'slides.html'}")
    return failed


def train(options: argparse.Namespace) -> int:
    from c2f_lrp.files import writable_folder
    from c2f_lrp.loading import open_reader
    from c2f_lrp.networks import FLAT
    from c2f_lrp.training import train as train_networks

    check_device(options.device)
    profile = get_profile(options.profile)
    if profile.networks == "flat":
        where = "ship with the package" if profile.ships else "come with: c2f-lrp data weights"
        raise ValueError(f"{profile.name} has no networks to train; its weights {where}")
    hierarchy = hierarchy_of(profile, options.hierarchy, options.out)
    reader = open_reader(profile, hierarchy, options.root)
    start, processes = None, os.cpu_count() or 1
    if profile.networks == "fine-tuned":
        start = (options.pretrained or get_profile("imagenet-flat").weights) / FLAT
        if not start.is_file():
            raise FileNotFoundError(f"there is no {start} to start from; fetch it with: c2f-lrp data weights")
        read = partial(reader.stream, workers=processes)  # type: ignore[attr-defined]  # ILSVRC2012's has it
    else:
        read = partial(reader.read, processes=processes)
    writable_folder(options.out or profile.weights)  # before images are drawn or read, which takes minutes
    images = [read(split=split) for split in ("train", "validation")]
    command = f"c2f-lrp train --profile {profile.name} --seed {options.seed}" + (" --root DIR" if options.root else "")
    common = dict(out=options.out, seed=options.seed, command=command, device=options.device, pretrained=start)
    common["hierarchy_csv"] = options.hierarchy
    with scheduler_of(options) as scheduler:
        rows = train_networks(profile, *images, **common, scheduler=scheduler)
    for row in rows:
        print(f"{row['network']:24} {float(row['accuracy']):.1%} of {row['validation_images']} held-out images")
    return 0


def hierarchy_of(profile, csv: Path | None, weights: Path | None):
    """The classes: of the csv that was given, or the profile's, of which a copy may lie beside weights."""
    from c2f_lrp.hierarchy import Hierarchy

    if csv and profile.manifest:
        raise ValueError(f"--hierarchy goes with the profile folder; {profile.name} has its own classes")
    return Hierarchy.from_folders_csv(csv) if csv else profile.hierarchy(weights)


def check_device(device: str) -> None:
    import torch

    if device not in DEVICES or (device == "cuda" and not torch.cuda.is_available()):
        raise ValueError(f"device {device!r} cannot be used here; choose cpu, or cuda where there is a GPU")


@contextmanager
def large_imports() -> Iterator[None]:
    """Python's garbage collector rests while torch and matplotlib are imported.

    They make hundreds of thousands of objects that stay; looking through them again and again took a fifth of the time.
    Afterwards it leaves them alone. Where torch is there already, as in a notebook, nothing is changed.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def attack(options: argparse.Namespace) -> int:
    with large_imports():
        import torch

        from c2f_lrp.photos import photo_attacks
        from c2f_lrp.resources import fitting_threads

    columns = photo_attacks(options.attack, options.eps, parameters_of(options))  # refused before anything is loaded
    check_device(options.device)
    name, classifier, size = network_of(options)
    classifier = classifier.to(options.device)
    with fitting_threads(classifier.coarse, torch.zeros(1, 3, size, size, device=options.device)):
        refused = sum(not attack_and_tell(options, photo, name, classifier, size, columns) for photo in options.photos)
    if refused:
        raise ValueError(f"{refused} of {len(options.photos)} photographs could not be attacked, for the reasons above")
    return 0


def attack_and_tell(options: argparse.Namespace, photo: Path, name: str, classifier, size: int, columns: dict) -> bool:
    """Attack one photograph and print what happened; False where it is one of several and could not be attacked."""
    from c2f_lrp.photos import as_text, attack_photo

    try:
        told = attack_photo(classifier, photo, size, columns, options.attack, options.out)
    except (ValueError, OSError) as error:
        if len(options.photos) == 1:
            raise
        print(f"c2f-lrp attack: {error}", file=sys.stderr, flush=True)  # the others are attacked all the same
        return False
    if options.json:
        print(json.dumps({"network": name} | told, ensure_ascii=True), flush=True)
    elif options.quiet:
        print(told.get("figure", f"{photo}: skipped, {told.get('skipped')}"), flush=True)
    else:
        print(as_text(told, name), end="\n\n" if photo != options.photos[-1] else "\n", flush=True)
    return True


def network_of(options: argparse.Namespace):
    """What is attacked: its name for the reader, the classifier, and the pixels a side that it takes."""
    from c2f_lrp.loading import load_classifier, load_flat

    own = {"--file": options.file, "--mean": options.mean, "--std": options.std, "--size": options.size}
    given = [name for name, value in own.items() if value is not None]
    if options.network is None:
        if given:
            raise ValueError(f"{given[0]} goes with --network LIBRARY:MODEL; a profile has its own")
        profile = get_profile(options.profile or PHOTO_PROFILE)
        classifier = load_classifier(profile.name, options.weights)
        classes = f"{sum(classifier.hierarchy.n_fine)} classes in {classifier.hierarchy.n_coarse} groups"
        return f"profile {profile.name}, {classes}", classifier, profile.image_size
    if options.file is None:
        raise ValueError(f"--network {options.network} needs its weights: --file FILE")
    if options.profile is not None:
        raise ValueError(f"--network stands in the place of a profile; leave out --profile {options.profile}")
    if options.weights is not None:
        raise ValueError("--weights goes with a profile; the weights of --network are given with --file")
    size = 224 if options.size is None else options.size
    how = {name: value for name, value in (("mean", options.mean), ("std", options.std)) if value is not None}
    classifier = load_flat(options.network, options.file, image_size=size, **how)
    return f"{options.network} of {options.file}, the paper's 393 classes in 8 groups", classifier, size


def completion(options: argparse.Namespace) -> int:
    import shtab

    print(shtab.complete(parser(complete=True), options.shell))
    return 0


def check(options: argparse.Namespace) -> int:
    from c2f_lrp.datasets.imagenet import in_training_set
    from c2f_lrp.loading import open_reader

    profile = get_profile(options.profile)
    reader = open_reader(profile, hierarchy_of(profile, options.hierarchy, options.weights), options.root)
    problems, passed_over, names = [], {}, set()
    for split in reader.splits:
        found = reader.check(split, os.cpu_count() or 1)
        problems += [line for line in found.problems if line not in problems]  # two splits may share photographs
        passed_over |= found.passed_over
        names |= set(found.names)
        print(f"{split:10} {len(found.coarse)} images, {len(found.coarse.unique())} coarse classes")
    if passed_over:
        print("passed over:\n  " + "\n  ".join(f"{count} {why}" for why, count in sorted(passed_over.items())))
    if known := sum(map(in_training_set, names)):
        print(
            f"{known} of {len(names)} photographs have names of ImageNet's own training set: a network with ImageNet "
            "weights was trained on them, which flatters its accuracy"
        )
    if problems:
        print("\n".join(problems))
        raise ValueError(f"what is listed above is wrong ({len(problems)}); mend, replace or remove it")
    return 0


def extract(options: argparse.Namespace) -> int:
    from c2f_lrp.datasets.imagenet import extract_classes

    unpacked = extract_classes(options.archive, options.root, get_profile("imagenet").hierarchy())
    print(f"{unpacked} classes were unpacked into {options.root / 'train'}; those that were there already were left")
    return 0


def pretrained(options: argparse.Namespace) -> int:
    from c2f_lrp.pretrained import fetch_vgg16

    print(f"wrote {fetch_vgg16(options.out or get_profile('imagenet-flat').weights, options.file)}")
    return 0


def export_scenes(options: argparse.Namespace) -> int:
    from c2f_lrp.datasets.scenes import export

    export(options.out, options.n, os.cpu_count() or 1)
    print(f"wrote {options.n} scenes to {options.out}, and their classes to {options.out / 'hierarchy.csv'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
