"""Genes: the parameters that vary, the values that they may have, and the tensors that share a value.

`_grids.py` holds the values of one gene and how coordinates stand for them, `_axes.py` the words of a gene's `per`,
`_groups.py` the groups of tensors that these make of a model, `_gene.py` how a gene is written into a recipe and read
from one, `_levels.py` what a coarse-to-fine search varies first. Must not import the kinds of space.
"""

from evomerge.space.genes._axes import AXES_SCHEMA, GeneAxis, read_axes
from evomerge.space.genes._gene import Gene
from evomerge.space.genes._grids import STEPS, Grid, Option, Options
from evomerge.space.genes._groups import Division, TensorGroup, divided, members_of, of_part, places_of
from evomerge.space.genes._levels import level_of
from evomerge.space.genes._totals import Total

__all__ = [
    "AXES_SCHEMA",
    "STEPS",
    "Division",
    "Gene",
    "GeneAxis",
    "Grid",
    "Option",
    "Options",
    "TensorGroup",
    "Total",
    "divided",
    "level_of",
    "members_of",
    "of_part",
    "places_of",
    "read_axes",
]
