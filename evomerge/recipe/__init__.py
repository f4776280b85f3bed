"""The recipe: one complete merge as a YAML document, its schema, its meaning and its canonical form.

Every mergekit file is a recipe; an optional `evomerge:` block says what mergekit cannot. This room knows names of
models, layers and tensors as words; it refuses to open a model, to know a tensor's content or an architecture.
"""

from evomerge.recipe._dialect import Dialect, to_mergekit
from evomerge.recipe._parameters import Setting, lookup, read_setting, value_at
from evomerge.recipe._recipe import Recipe, Slice, Source, load_recipe, parse_recipe
from evomerge.recipe._reference import ModelRef, looks_local
from evomerge.recipe._schema import DTYPES, RecipeEntry
from evomerge.recipe._yaml import Checked, check, parse_yaml, read_yaml

__all__ = [
    "DTYPES",
    "Checked",
    "Dialect",
    "ModelRef",
    "Recipe",
    "RecipeEntry",
    "Setting",
    "Slice",
    "Source",
    "check",
    "load_recipe",
    "looks_local",
    "lookup",
    "parse_recipe",
    "parse_yaml",
    "read_setting",
    "read_yaml",
    "to_mergekit",
    "value_at",
]
