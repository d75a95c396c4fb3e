"""Attacks over many images: one row for each image and attack setting, kept in shards, and the tables made of them."""

from c2f_lrp.evaluation.run import attackable, evaluate
from c2f_lrp.evaluation.summary import summarize

__all__ = ["attackable", "evaluate", "summarize"]
