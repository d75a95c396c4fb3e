"""Training of one coarse and M fine networks from a seed, resumable after every epoch."""

from c2f_lrp.training.run import train

__all__ = ["train"]
