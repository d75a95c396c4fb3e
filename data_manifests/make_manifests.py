"""Write the manifests of this folder: which ImageNet classes make up the paper's eight coarse classes.

The paper names eight groups and their total, 393 of ImageNet's 1000 classes, but prints no list. Here a class
belongs to a group if it lies under one of the group's synsets in WordNet 3.0. Seven of the groups are one
synset each. Their 372 classes leave 21 for "electrical device", which is no single synset: the union of the
four below has exactly 21.

    python data_manifests/make_manifests.py --wordnet DIR --synsets FILE --tiny DIR

--wordnet  a folder with WordNet 3.0's data.noun (Debian's package wordnet-base: /usr/share/wordnet)
--synsets  ImageNet's 1000 classes in index order: lines of index and wnid, tab-separated, under a heading
--tiny     the folder tiny-imagenet-200, of which wnids.txt is read

scenes_c2f.csv needs none of them: it lists what c2f_lrp.datasets.scenes draws.

imagenet_lite_boxes.csv is not made here but was drawn by eye. It takes the RGB photographs of the 393 classes in one
folder of ImageNet samples, in the order of c2f_lrp.datasets.splits.position, and keeps the first 64 that show their
class clearly. x0, y0, x1, y1 is the tightest box around the labelled object, in pixels of the upright photograph,
corners included: around all instances that touch or hide one another, else around the largest. secondary_coarse
names another of the eight coarse classes that is clearly visible, and sx0 to sy1 is its box; most rows have none.
Two photographs among them were left out: mopeds in the dark (n03785016_0) and a missile far away (n03773504_0).
An edge is right to about 2 % of the photograph's side. Photographs themselves are not part of the project.
"""

import argparse
import csv
from collections import Counter
from pathlib import Path

from c2f_lrp.datasets.scenes import COARSE_NAMES, FINE_NAMES
from c2f_lrp.hierarchy import COLUMNS

# coarse class: (its synsets, its number of classes), in the paper's order
GROUPS = {
    "fish": (["n02512053"], 16),
    "bird": (["n01503061"], 59),
    "reptile": (["n01661091"], 36),
    "clothes": (["n03051540"], 49),  # clothing
    "food": (["n07555863"], 27),  # solid food
    "vehicle": (["n04524313"], 67),
    # electronic equipment, digital computer, electrical device, electronic device
    "electrical device": (["n03278248", "n03196324", "n03269401", "n03277771"], 21),
    "dog": (["n02084071"], 118),
}


def read_nouns(folder):
    """{wnid: (words, hypernym wnids)}, one synset a line; see wndb(5WN) for the format."""
    nouns = {}
    for line in (folder / "data.noun").read_text(encoding="ascii").splitlines():
        if line.startswith(" "):  # the licence
            continue
        fields = line.split(" | ")[0].split()
        n_words = int(fields[3], 16)
        words = fields[4 : 4 + 2 * n_words : 2]
        n_pointers = int(fields[4 + 2 * n_words])
        pointers = fields[5 + 2 * n_words :]  # four fields each: symbol, synset, part of speech, words
        symbols, synsets = pointers[: 4 * n_pointers : 4], pointers[1 : 4 * n_pointers : 4]
        # "@" points at a hypernym, "@i" at what a named individual is an instance of.
        parents = [f"n{synset}" for symbol, synset in zip(symbols, synsets, strict=True) if symbol[0] == "@"]
        nouns[f"n{fields[0]}"] = (words, parents)
    return nouns


def ancestors(wnid, nouns):
    """The synset itself and everything it is a kind of; a synset may have several parents."""
    return {wnid}.union(*(ancestors(parent, nouns) for parent in nouns[wnid][1]))


def readable(wnid, nouns, repeated):
    """The first word, and the second where two classes share the first: ImageNet has two kinds of maillot."""
    words = [word.replace("_", " ") for word in nouns[wnid][0]]
    return f"{words[0]} ({words[1]})" if words[0] in repeated and len(words) > 1 else words[0]


def numbered(classes):
    """Append its fine_index to each (wnid, class_index, name, coarse), counting inside each coarse class."""
    seen = Counter()
    for row in classes:
        yield (*row, seen[row[3]])
        seen[row[3]] += 1


def write(path, classes):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *numbered(classes)])
    print(path.name, len(classes), dict(Counter(row[3] for row in classes)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wordnet", type=Path, required=True)
    parser.add_argument("--synsets", type=Path, required=True)
    parser.add_argument("--tiny", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()

    nouns = read_nouns(args.wordnet)
    wnids = [line.split("\t")[1] for line in args.synsets.read_text(encoding="utf-8").splitlines()[1:]]
    kinds = {wnid: ancestors(wnid, nouns) for wnid in wnids}
    members = {}
    for coarse, (synsets, expected) in GROUPS.items():
        members[coarse] = [wnid for wnid in wnids if kinds[wnid] & set(synsets)]
        found = len(members[coarse])
        if found != expected:
            raise SystemExit(f"{coarse}: {found} classes, must be {expected}; is this WordNet 3.0?")
    chosen = [wnid for group in members.values() for wnid in group]
    if len(chosen) != len(set(chosen)):
        raise SystemExit("a class lies in two groups; is this WordNet 3.0?")

    names = Counter(readable(wnid, nouns, set()) for wnid in chosen)
    repeated = {name for name, count in names.items() if count > 1}
    classes = [
        (wnid, wnids.index(wnid), readable(wnid, nouns, repeated), coarse)
        for coarse, group in members.items()
        for wnid in group
    ]
    write(args.out / "imagenet_c2f_393.csv", classes)
    tiny = set((args.tiny / "wnids.txt").read_text(encoding="utf-8").split())
    write(args.out / "tiny_imagenet_c2f.csv", [row for row in classes if row[0] in tiny])

    groups = zip(COARSE_NAMES, FINE_NAMES, strict=True)
    scenes = [(name, coarse) for coarse, names in groups for name in names]
    drawn = [(f"{coarse}/{name}", index, name, coarse) for index, (name, coarse) in enumerate(scenes)]
    write(args.out / "scenes_c2f.csv", drawn)


if __name__ == "__main__":
    main()
