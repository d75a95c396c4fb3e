"""Rows of attacks in Parquet files, each named by a hash of all that determines it, each whole or not there."""

import ast
import functools
import hashlib
import json
import os
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pyarrow
import pyarrow.parquet

from c2f_lrp.files import atomic_write

# The modules that a row depends on. tests/test_shards.py holds the list against what evaluation/rows.py imports.
CODE = (
    "attacks/base.py",
    "attacks/bounds.py",
    "attacks/deepfool.py",
    "attacks/lrp_attack.py",
    "attacks/margin.py",
    "attacks/pgd.py",
    "classifier.py",
    "devices.py",
    "evaluation/rows.py",
    "lrp/affine.py",
    "lrp/choose.py",
    "lrp/engine.py",
    "lrp/graph.py",
    "lrp/operations.py",
    "lrp/rules.py",
    "lrp/zennit.py",
    "measures.py",
    "metrics.py",
    "objectives.py",
    "resources.py",
)
# Rows are named by what this code means: its syntax without docstrings, comments, imports, types of arguments and the
# names of files. So prose, types and moves rename nothing, and any change of what is computed does. Where a row changes
# its meaning and no line of the code above shows it (a library computes something else, say), raise this number: all
# rows are then made anew.
MEANING = 1


@functools.cache
def software() -> dict[str, str]:
    """The versions that rows depend on, and a hash of the meaning of this package's code."""
    folder = Path(__file__).parent
    code = meaning([(folder / name).read_text(encoding="utf-8") for name in CODE])
    return {"c2f_lrp": version("c2f_lrp"), "torch": version("torch"), "code": f"{MEANING}-{code[:16]}"}


def meaning(sources: list[str]) -> str:
    """A hash of Python sources that keeps to what they compute.

    Docstrings, comments, blank lines, imports, types of arguments and of what is returned, and the order of the
    definitions and the files they are in do not count. Types of a class's fields do: a ClassVar is no setting.
    """
    imports = (ast.Import, ast.ImportFrom)
    parts = [
        plain(node)
        for text in sources
        for node in ast.parse(text).body
        if not (isinstance(node, imports) or is_docstring(node))
    ]
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()


def plain(node) -> str:
    """A syntax tree as text: without docstrings and types of arguments, alike in every Python (`ast.dump` is not)."""
    if isinstance(node, list):
        return f"[{', '.join(plain(part) for part in node if not is_docstring(part))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    ignored = ("annotation", "kind") if isinstance(node, ast.arg) else ("kind", "returns")
    fields = ((name, value) for name, value in ast.iter_fields(node) if name not in ignored and value not in (None, []))
    return f"{type(node).__name__}({', '.join(f'{name}={plain(value)}' for name, value in fields)})"


def is_docstring(node) -> bool:
    """A text that stands alone: a docstring, wherever it is."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def content_hash(tensors) -> str:
    """SHA-256 of tensors' values, types and shapes; None stands for a tensor that is not there."""
    digest = hashlib.sha256()
    for tensor in tensors:
        if tensor is None:
            digest.update(b"none")
            continue
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy())
    return digest.hexdigest()


def classifier_facts(classifier) -> tuple[str, str]:
    """What rows say of the classifier that they depend on, a module: a hash of its numbers, and its layers in words.

    Buffers that no checkpoint holds count too: the hierarchy of a flat classifier, the mean of the pixels.
    """
    return content_hash([*classifier.parameters(), *classifier.buffers()]), str(classifier)


def image_facts(images) -> tuple[str, list[str]]:
    """What rows say of their `datasets.Images`: a hash of all that an attack or a measure sees of them, and names."""
    seen = images.pixels, images.coarse, images.fine, images.object_masks, images.secondary_masks
    return content_hash(seen), list(images.names)


def shard_key(facts: dict) -> str:
    """The name of the rows that these facts determine."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def open_store(folder: Path) -> None:
    """Make the folder, see that it can be written to before hours of work, and remove what killed runs left half."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(
            f"rows cannot be written to {folder} ({error.strerror or error}); make it a folder that can be written to "
            "and run again"
        ) from error
    for part in folder.glob("*.part"):
        if part.stat().st_mtime < time.time() - 3600:  # another run may be writing its own
            part.unlink(missing_ok=True)


def write_shard(folder: Path, table: pd.DataFrame, facts: dict) -> None:
    """Write rows, with the facts beside them in the file; on the disk, not only in its cache, when this returns."""
    path = folder / f"{shard_key(facts)}.parquet"
    content = pyarrow.Table.from_pandas(table, preserve_index=False)
    told = {"c2f_lrp": json.dumps(facts, sort_keys=True), "sha256": table_hash(table)}
    content = content.replace_schema_metadata(content.schema.metadata | told)
    try:
        with atomic_write(path) as part, part.open("wb") as file:
            pyarrow.parquet.write_table(content, file, write_page_checksum=True)
            file.flush()
            os.fsync(file.fileno())
        if os.name == "posix":  # the new name, too
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
    except OSError as error:
        raise OSError(
            f"{error}. Make room or give access, then run again with --resume: rows written so far are kept"
        ) from error


def table_hash(table: pd.DataFrame) -> str:
    """SHA-256 of rows, whether they were just made or read from a file: of their text, in which numbers are exact."""
    return hashlib.sha256(table.to_csv(index=False, lineterminator="\n").encode()).hexdigest()


def rows_hash(folder: Path, keys: list[str]) -> str | None:
    """`combined` of the rows in these shards; None where one is not there, "damaged" where it cannot be read."""
    try:
        tables = (pyarrow.parquet.read_table(folder / f"{key}.parquet").to_pandas() for key in keys)
        return combined({key: table_hash(table) for key, table in zip(keys, tables, strict=True)})
    except FileNotFoundError:
        return None
    except (pyarrow.ArrowException, OSError):
        return "damaged"


def combined(hashes: dict[str, str]) -> str:
    """One SHA-256 for {key of a shard: `table_hash` of its rows}."""
    return hashlib.sha256("".join(hashes.values()).encode()).hexdigest()


def read_shard(folder: Path, facts: dict) -> pd.DataFrame | None:
    """The rows; None where there are none, and where the file is damaged, which a warning names."""
    path = folder / f"{shard_key(facts)}.parquet"
    if not path.exists():
        return None
    try:
        content = pyarrow.parquet.read_table(path, page_checksum_verification=True)
        if shard_key(json.loads(content.schema.metadata[b"c2f_lrp"])) != path.stem:
            raise ValueError("its name is not that of its content")
        table = content.to_pandas()
        # Not every bit of a Parquet file lies in a page that has a checksum.
        if table_hash(table).encode() != content.schema.metadata[b"sha256"]:
            raise ValueError("its rows are not those that were written")
    except PermissionError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        warnings.warn(f"{path} is damaged ({reason}); its rows are computed again", stacklevel=2)
        return None
    return table
