"""Write docs/methods.md from what the methods say of themselves: formula, paper, parameters, variants, an example.

Usage: python scripts/make_methods_page.py

tests/docs/test_site.py says when the page is out of date.
"""

import inspect
import re
from pathlib import Path

import yaml

from evomerge.methods import Method, Parameter, built_in_names, get

PAGE = Path(__file__).resolve().parents[1] / "docs" / "methods.md"
MODELS = ("models/one", "models/two", "models/three")
SUBSCRIPTS = {"i": "ᵢ", **{str(digit): chr(0x2080 + digit) for digit in range(10)}}
SIGNS = {
    r"\blambda\b": "λ",
    r"\balpha\b": "α",
    r"\bepsilon\b": "ε",
    r" \* ": " · ",
    r" - ": " − ",
    ">=": "≥",
    "<=": "≤",
}
PER = {"merge": "the merge", "input": "each model", "parent": "each model but the base"}
BASE = {
    "required": "A base and {count}",
    "optional": "{count}, with or without a base",
    "input": "{count}; a base would be one of them",
}
HEAD = """# Methods

Written by `make reference` from what the methods say of themselves; do not edit. `evomerge methods NAME` prints the
same on a terminal. [extending.md](extending.md) shows how to write another; each is one file of `evomerge/methods/`.

In formulas, xᵢ is a tensor of model i, base that of the base, and xᵢ − base a task vector. Parameters can be
set for a whole merge, by layer or by kind of tensor ([recipes.md](recipes.md)); a search varies those with a search
range. Every example is a whole recipe, which the tests merge. For a layer stack see `passthrough` with `slices:`.
"""


def typeset(formula: str) -> str:
    """Return a formula in plain characters as one in Unicode: w_i becomes wᵢ, lambda λ."""
    for pattern, sign in SIGNS.items():
        formula = re.sub(pattern, sign, formula)
    formula = re.sub(r"\b([a-z])_([i\d])\b", lambda match: match[1] + SUBSCRIPTS[match[2]], formula)
    return re.sub(r"\^2\b", "²", formula)


def linked(paper: str) -> str:
    """Return a paper's line with its addresses as links."""
    return re.sub(r"https://[^\s,]+", lambda match: f"<{match[0]}>", paper)


def example(method: Method) -> str:
    """Return a recipe for a method: two models where it takes as many, and what a search would vary."""
    low, high = method.inputs
    names = MODELS[: low if high == low else max(low, 2)]

    def value(parameter: Parameter) -> object:
        if parameter.gene is None:
            return parameter.default
        if parameter.start == "equal":
            return round(1 / len(names), 4)
        return round(sum(parameter.gene) / 2, 4)

    wanted = [parameter for parameter in method.parameters if parameter.gene or parameter.default is None]
    settings = {parameter.name: value(parameter) for parameter in wanted if parameter.per == "merge"}
    each = {parameter.name: value(parameter) for parameter in wanted if parameter.per != "merge"}
    recipe = {
        "merge_method": method.name,
        **({"base_model": "models/base"} if method.base == "required" else {}),
        "models": [{"model": name, **({"parameters": each} if each else {})} for name in names],
        **({"parameters": settings} if settings else {}),
    }
    return yaml.dump(recipe, sort_keys=False, default_flow_style=None, Dumper=_Plain, width=110)


class _Plain(yaml.SafeDumper):
    """Writes a value that occurs twice as it stands, without an anchor."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def parameter_row(parameter: Parameter) -> str:
    """Return a parameter as a row of a table."""
    default = "required" if parameter.default is None else str(parameter.default).lower()
    span = "" if parameter.gene is None else "{:g} to {:g}".format(*parameter.gene)
    return f"| `{parameter.name}` | {PER[parameter.per]} | {default} | {span} | {parameter.doc} |"


def section(method: Method) -> str:
    """Return what the page says about one method."""
    low, high = method.inputs
    number = f"{low}" if low == high else f"{low} or more" if high is None else f"{low} to {high}"
    count = f"{number} model{'' if high == 1 else 's'}"
    random = "; draws random masks, by `seed`" if method.random else ""
    rows = [parameter_row(parameter) for parameter in method.parameters]
    table = ["| parameter | one for | default | search range | |", "|---|---|---|---|---|", *rows] if rows else []
    variants = [
        f"- Variant `{variant.name}` ({', '.join(f'`{option}`' for option in variant.options)}; "
        f"the first is the default): {variant.doc}."
        for variant in method.variants
    ]
    parts = [
        f"## {method.name}",
        f"**{method.title}.** {typeset(inspect.getdoc(type(method)) or '')}",
        f"> {typeset(method.formula)}",
        f"{linked(method.paper)}. {BASE[method.base].format(count=count)}{random}.",
        "\n".join(table),
        "\n".join(variants),
        f"```yaml\n{example(method)}```",
    ]
    return "\n\n".join(part for part in parts if part)


def page() -> str:
    """Return the whole page."""
    return "\n\n".join([HEAD.rstrip(), *(section(get(name)) for name in built_in_names())]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
