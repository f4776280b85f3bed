"""`evomerge schema [recipe|search|space]`."""

import click

from evomerge.cli._output import print_json


@click.command()
@click.argument("kind", type=click.Choice(["recipe", "search", "space"]), default="recipe")
def command(kind: str) -> None:
    """Print the JSON Schema of a YAML file, for editors and other programs.

    \b
    Example:
      evomerge schema recipe > recipe.schema.json
    """
    if kind == "recipe":
        from evomerge.recipe import recipe_schema

        print_json(recipe_schema())
    elif kind == "search":
        from evomerge.run import search_schema

        print_json(search_schema())
    else:
        from evomerge.space import space_schema

        print_json(space_schema())
