"""`evomerge methods [NAME]`."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from evomerge.cli._options import JSON
from evomerge.cli._output import print_json
from evomerge.errors import InvalidInput

if TYPE_CHECKING:
    from evomerge.methods import Method


@click.command()
@click.argument("name", required=False)
@JSON
def command(name: str | None, as_json: bool) -> None:
    """List the merge methods, or describe one: formula, paper and parameters.

    \b
    Example:
      evomerge methods ties
    """
    from evomerge.methods import get, names

    if name is None:
        known = _known(names())
        if as_json:
            print_json([{"name": method.name, "title": method.title} for method in known])
            return
        for method in known:
            click.echo(f"{method.name:<18} {method.title}")
        return
    document = _describe(get(name))
    if as_json:
        print_json(document)
        return
    click.echo(f"{document['name']}: {document['title']}\n  {document['formula']}\n  {document['paper']}")
    click.echo(f"  base model: {document['base']}; other models: {document['models']}")
    for parameter in document["parameters"]:
        default = "required" if parameter["default"] is None else f"default {parameter['default']}"
        head = f"  {parameter['name']:<18} {parameter['kind']}, one for each {parameter['per']}, {default}"
        click.echo(f"{head}: {parameter['doc']}")


def _known(names: Iterable[str]) -> "list[Method]":
    """Return methods by name; one whose package is broken is left out, with a sentence on stderr."""
    from evomerge.methods import get

    found = []
    for name in names:
        try:
            found.append(get(name))
        except InvalidInput as error:
            click.echo(f"evomerge: {error}", err=True)
    return found


def _describe(method: "Method") -> dict[str, Any]:
    low, high = method.inputs
    return {
        "name": method.name,
        "title": method.title,
        "formula": method.formula,
        "paper": method.paper,
        "base": {"required": "required", "optional": "optional", "input": "none needed"}[method.base],
        "models": f"{low}" if low == high else f"{low} or more" if high is None else f"{low} to {high}",
        "parameters": [
            {
                "name": p.name,
                "kind": p.kind,
                "per": {"merge": "merge", "input": "model", "parent": "model"}[p.per],
                "default": p.default,
                "search_range": list(p.gene) if p.gene else None,
                "doc": p.doc,
            }
            for p in method.parameters
        ],
    }
