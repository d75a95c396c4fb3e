"""Attacks with one call signature: `attack(classifier, pixels, coarse_labels, fine_labels) -> AttackResult`.

At the coarse level LRPC (Algorithm 1), PGDC and DFC; at the fine level LRPF (Algorithm 1), PGDF and DFF. MarginC and
MarginF are not the paper's: margin.py is the example of how an attack is added, conformance.py what it must keep to.
`preflight` says what speaks against believing an attack.

`ATTACKS` is the one list of them, by their names on the command line. The command, the demo, the figures of
photographs and the conformance tests read it; an attack is added by a line here. Classes are loaded when they are
asked for, so that the list can be read without torch.
"""

from importlib import import_module
from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for readers and type checkers; at run time `__getattr__` below loads each on first use
    from c2f_lrp.attacks.base import Attack, AttackResult
    from c2f_lrp.attacks.deepfool import DFC, DFF
    from c2f_lrp.attacks.lrp_attack import LRPC, LRPF
    from c2f_lrp.attacks.margin import MarginC, MarginF
    from c2f_lrp.attacks.pgd import PGDC, PGDF
    from c2f_lrp.attacks.preflight_checks import preflight

ATTACKS = {
    "lrpc": "c2f_lrp.attacks.lrp_attack:LRPC",
    "lrpf": "c2f_lrp.attacks.lrp_attack:LRPF",
    "pgdc": "c2f_lrp.attacks.pgd:PGDC",
    "pgdf": "c2f_lrp.attacks.pgd:PGDF",
    "dfc": "c2f_lrp.attacks.deepfool:DFC",
    "dff": "c2f_lrp.attacks.deepfool:DFF",
    "marginc": "c2f_lrp.attacks.margin:MarginC",
    "marginf": "c2f_lrp.attacks.margin:MarginF",
}
_HOMES = {"Attack": "base", "AttackResult": "base", "preflight": "preflight_checks"}
_HOMES |= {place.rpartition(":")[2]: place.rpartition(":")[0].rpartition(".")[2] for place in ATTACKS.values()}

__all__ = [
    "ATTACKS",
    "DFC",
    "DFF",
    "LRPC",
    "LRPF",
    "MarginC",
    "MarginF",
    "PGDC",
    "PGDF",
    "Attack",
    "AttackResult",
    "attack_class",
    "preflight",
]


def attack_class(name: str) -> "type[Attack]":
    """The class of an attack by its name in `ATTACKS`, in capitals or not. ValueError for another name."""
    if name.lower() not in ATTACKS:
        raise ValueError(f"attack {name!r} is unknown; choose one of {', '.join(ATTACKS)}")
    return resolve_name(ATTACKS[name.lower()])


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value
