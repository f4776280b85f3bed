"""Write docs/search_file.md: every key, optimizer and option of a search file, from the schema and the specs.

Usage: python scripts/make_reference.py            writes the page
       python scripts/make_reference.py --check    exit code 1 if the page is not what it would write
"""

import argparse
import dataclasses
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from evomerge.evaluation import LM_EVAL_MODEL_OPTIONS, LmEvalOptions
from evomerge.optimizers import OPTIMIZERS, OptionSpec
from evomerge.recipe import described
from evomerge.run import search_schema
from evomerge.space import shipped_spaces, space_schema

PAGE = Path(__file__).resolve().parents[1] / "docs" / "search_file.md"
HEAD = """# The search file

<!-- Written by `make reference` from the schema. Change the docstrings there, not this page. -->

Every key, with what it is, its default and an example. `evomerge init` writes a file to start from, `evomerge check`
says everything that is wrong with one, and `evomerge schema search` prints the JSON Schema that this page is made of:
with `# yaml-language-server: $schema=search.schema.json` in the file's first line, editors show the same words beside
each key. Paths start at the file's folder. `parents`, `space` and `tasks` are required.
"""
SECTIONS = {
    "parents": "ParentsEntry",
    "tasks": "TaskEntry",
    "tasks: floor": "RelativeFloor",
    "pools": "PoolsEntry",
    "subset": "SubsetEntry",
    "budget": "BudgetEntry",
    "workers": "WorkersEntry",
    "proof": "ProofEntry",
}
LM_EVAL_EXAMPLES: Mapping[str, Any] = {
    "num_fewshot": 5,
    "apply_chat_template": True,
    "fewshot_as_multiturn": False,
    "system_instruction": "Answer with one word.",
    "fewshot_random_seed": 7,
    "chat_template_args": {"enable_thinking": False},
    "gen_kwargs": {"until": ["###"]},
    "max_gen_toks": 256,
    "max_gen_seconds": 120.0,
    "max_cut_answers": 0.2,
}
KIND = "which kind of space this is; the other keys say so, too, for merges and layer stacks."
_NAMES = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "object": "mapping",
}


def page() -> str:
    """Return the text of the page."""
    search, space = search_schema(), space_schema()
    parts = [HEAD, _section("The whole file", search, search["$defs"])]
    for title, name in SECTIONS.items():
        parts.append(_section(title, search["$defs"][name], search["$defs"]))
    parts += [_lm_eval(), _spaces(space), _optimizers()]
    return "\n".join(parts)


def _section(title: str, schema: Mapping[str, Any], named: Mapping[str, Any]) -> str:
    """Return the keys of one mapping as a table."""
    required = schema.get("required", ())
    rows = []
    for key, found in schema["properties"].items():
        default = "" if key in required else _value(found.get("default"))
        if key == "kind":
            example = f"`{(found.get('enum') or [found['const']])[0]}`"
            rows.append((f"`{key}`", KIND, _kind(found, named), default, example))
            continue
        rows.append((f"`{key}`", _sentence(found["description"]), _kind(found, named), default, _example(found)))
    summary = schema.get("description")
    return "\n\n".join([f"## {title}", *([summary] if summary else []), _table(rows)])


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    head = ("key", "what", "value", "default", "example")
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def _kind(schema: Mapping[str, Any], named: Mapping[str, Any]) -> str:
    """Return which values a schema accepts, in a few words."""
    return " or ".join(dict.fromkeys(_kinds(schema, named)))


def _kinds(schema: Mapping[str, Any], named: Mapping[str, Any]) -> Iterator[str]:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        yield "mapping, see below" if name in SECTIONS.values() else _kind(named[name], named)
        return
    if "anyOf" in schema:
        for option in schema["anyOf"]:
            if option.get("type") != "null":
                yield from _kinds(option, named)
        return
    if "enum" in schema or "const" in schema:
        yield ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    elif schema.get("type") == "array":
        items = schema.get("items", {}) or (schema.get("prefixItems") or [{}])[0]
        inner = _kind(items, named) or "anything"
        yield f"pair of {inner}s" if "prefixItems" in schema else f"list: {inner}"
    else:
        bounds = [
            text.format(schema[key])
            for key, text in (
                ("minimum", "{} or more"),
                ("exclusiveMinimum", "above {}"),
                ("maximum", "at most {}"),
                ("exclusiveMaximum", "below {}"),
            )
            if key in schema
        ]
        types = schema.get("type", "")
        name = " or ".join(_NAMES.get(kind, "anything") for kind in (types if isinstance(types, list) else [types]))
        yield f"{name}, {', '.join(bounds)}" if bounds else name


def _sentence(text: str) -> str:
    return " ".join(text.split())


def _value(value: Any) -> str:
    """Return a default or an example as YAML in one line; nothing for none."""
    if value is None or value == {} or value == []:
        return ""
    text = yaml.safe_dump([value], default_flow_style=True, width=10**6, sort_keys=False).strip()[1:-1]
    return f"`{text}`"


def _example(schema: Mapping[str, Any]) -> str:
    return ", ".join(_value(value) for value in schema.get("examples", ()))


def _lm_eval() -> str:
    """Return the settings of lm-eval as a section."""
    summary, words = described(LmEvalOptions)
    rows = []
    for field in dataclasses.fields(LmEvalOptions):
        if field.name == "model":
            continue
        default = None if field.default is dataclasses.MISSING else field.default
        example = LM_EVAL_EXAMPLES[field.name]
        rows.append((f"`{field.name}`", words[field.name], _type(example), _value(default), _value(example)))
    passed = ", ".join(f"`{name}`" for name in LM_EVAL_MODEL_OPTIONS)
    return f"## lm_eval\n\n{summary}\n\n{_table(rows)}\nPassed on to lm-eval's model wrapper as they are: {passed}.\n"


def _type(value: Any) -> str:
    kinds = {bool: "true or false", int: "whole number", float: "number", str: "text"}
    return kinds.get(type(value), "mapping")


def _spaces(schema: Mapping[str, Any]) -> str:
    """Return what a space holds, kind by kind."""
    shipped = "\n".join(
        f"- `{name}`: {path.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}"
        for name, path in shipped_spaces().items()
    )
    merge, flow, hybrid = schema["anyOf"][:3]
    named = schema["$defs"]
    parts = [
        "## space\n\nThe name of a space that comes along (`evomerge spaces NAME` prints it):\n\n"
        f"{shipped}\n\nor a file, or the space itself, as below.\n",
        _section("space: merges, and layer stacks (`method: passthrough`)", merge, named),
        _section("space: genes", named["GeneEntry"], named),
        _section("space: parents", named["SelectionEntry"], named),
        _section("space: modules", named["PartEntry"], named),
        _section("space: `kind: data_flow`", flow, named),
        _section("space: `kind: hybrid`", hybrid, named),
        "In a layer stack (`method: passthrough`) the genes are `source` (which model's block; the base is one of "
        "them), `repeat` (how often, 0 to the end of its range) and `gain` (the factor on what a block adds).\n",
    ]
    return "\n".join(parts)


def _optimizers() -> str:
    """Return every optimizer with its options."""
    parts = [
        "## optimizer\n\n`optimizer: NAME`, or `optimizer: {name: NAME, OPTION: VALUE}`. `auto`, the default, is "
        "`guided` for weights, `catcma` where a space has choices or whole numbers, and `tpe` for a single number. "
        "`optuna` with `sampler: tpe|nsga2|nsga3|gp|qmc|random` is another way to name those.\n"
    ]
    for spec in OPTIMIZERS.values():
        rows = [_option(option) for option in spec.options]
        parts.append(f"### {spec.name}\n\n{spec.description[0].upper()}{spec.description[1:]}.\n\n{_table(rows)}")
    return "\n".join(parts)


def _option(option: OptionSpec) -> tuple[str, ...]:
    low, high = option.low, option.high
    bounds = "" if low is None or high is None else f", {low:g} to {high:g}"
    choices = ", ".join(f"`{choice}`" for choice in option.choices)
    kind = choices or _type(option.kind()) + bounds
    example = option.default if option.default is not None else int(low or 1) * 4
    if option.kind is bool:
        example = not option.default
    written = f"`{option.name}: {_value(example).strip('`')}`"
    return (f"`{option.name}`", option.description, kind, _value(option.default), written)


def main() -> None:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    made = page()
    if parser.parse_args().check:
        sys.exit(0 if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == made else f"{PAGE}: run `make reference`")
    PAGE.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
