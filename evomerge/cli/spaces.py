"""`evomerge spaces [NAME]`."""

import click

from evomerge.cli._options import JSON
from evomerge.cli._output import print_json
from evomerge.errors import InvalidInput, did_you_mean


@click.command()
@click.argument("name", required=False)
@JSON
def command(name: str | None, as_json: bool) -> None:
    """List the search spaces that come with evomerge, or print one to start your own from.

    \b
    Example:
      evomerge spaces layerwise_ties > mine.yaml
    """
    from evomerge.space import shipped_spaces

    spaces = shipped_spaces()
    if name is None:
        about = {known: path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ") for known, path in spaces.items()}
        if as_json:
            print_json([{"name": known, "about": text} for known, text in about.items()])
            return
        for known, text in about.items():
            click.echo(f"{known:<26} {text}")
        return
    if name not in spaces:
        raise InvalidInput(f'no space is called "{name}"; there are {", ".join(spaces)}.{did_you_mean(name, spaces)}')
    text = spaces[name].read_text(encoding="utf-8")
    if as_json:
        print_json({"name": name, "yaml": text})
    else:
        click.echo(text, nl=False)
