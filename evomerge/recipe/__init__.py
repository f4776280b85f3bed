"""The recipe: one complete merge as a YAML document, its schema, its meaning and its canonical form.

Every mergekit file is a recipe; an optional `evomerge:` block holds what mergekit has no keys for. This package knows
the names of models, layers and tensors as words, and the parameters of methods. It must not import `checkpoint` or
anything above it: no model is opened, no tensor read, no architecture known.
"""

from evomerge.recipe._document import fingerprint_of
from evomerge.recipe._files import load_recipe, load_recipes
from evomerge.recipe._mergekit import MergekitText, has_gains, to_mergekit
from evomerge.recipe._moe import (
    PROMPTED_GATES,
    ExpertEntry,
    GateMode,
    MoeEntry,
    MoeRecipe,
    load_moe,
    parse_moe,
)
from evomerge.recipe._parameters import (
    Setting,
    lookup,
    read_setting,
    value_at,
)
from evomerge.recipe._problems import CHAT_TEMPLATES, TEXT_MODULE, WHOLE_MODEL
from evomerge.recipe._recipe import (
    Recipe,
    Slice,
    Source,
    parse_recipe,
)
from evomerge.recipe._reference import ModelRef, looks_local
from evomerge.recipe._schema import (
    DTYPES,
    ModelField,
    RecipeEntry,
    SettingField,
    TokenizerEntry,
    recipe_schema,
)
from evomerge.recipe._validation import (
    CheckedDocument,
    DescribedModel,
    StrictModel,
    check_document,
    described,
    json_schema,
)
from evomerge.recipe._vocabulary import TokenRule, VocabularyRule
from evomerge.recipe._yaml import (
    parse_yaml,
    read_documents,
    read_yaml,
)

__all__ = [
    "CHAT_TEMPLATES",
    "DTYPES",
    "PROMPTED_GATES",
    "TEXT_MODULE",
    "WHOLE_MODEL",
    "CheckedDocument",
    "DescribedModel",
    "ExpertEntry",
    "GateMode",
    "MergekitText",
    "ModelField",
    "ModelRef",
    "MoeEntry",
    "MoeRecipe",
    "Recipe",
    "RecipeEntry",
    "Setting",
    "SettingField",
    "Slice",
    "Source",
    "StrictModel",
    "TokenRule",
    "TokenizerEntry",
    "VocabularyRule",
    "check_document",
    "described",
    "fingerprint_of",
    "has_gains",
    "json_schema",
    "load_moe",
    "load_recipe",
    "load_recipes",
    "looks_local",
    "lookup",
    "parse_moe",
    "parse_recipe",
    "parse_yaml",
    "read_documents",
    "read_setting",
    "read_yaml",
    "recipe_schema",
    "to_mergekit",
    "value_at",
]
