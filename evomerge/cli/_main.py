"""The command `evomerge`: finds a verb's file when it is called, and turns errors into sentences and exit codes."""

import gc
import os
import sys
from importlib import import_module
from typing import NoReturn

import click

from evomerge.errors import EvomergeError

INTERRUPTED = 130

# verb -> what it does; kept here so that `evomerge --help` imports no verb.
VERBS = {
    "merge": "build a checkpoint folder from a recipe",
    "merge-files": "merge files of tensors that are no models",
    "check": "validate a recipe or a search file without running it",
    "init": "write a search file to start from",
    "search": "find the best merge, or resume the search",
    "status": "where a run stands",
    "watch": "follow a run until it is done",
    "front": "a run's front, finalists and references with their scores",
    "runs": "list the runs in a folder",
    "compare": "two runs beside each other",
    "report": "one HTML page about a run, and its figures as files",
    "explain": "one candidate: recipe, shares by layer, scores",
    "export": "write a candidate as a model, a recipe or a mergekit file",
    "evaluate": "score one model or recipe",
    "soup": "average checkpoints greedily by a held-out score",
    "moe": "make a mixture of experts out of dense models",
    "lora": "extract a LoRA adapter from a fine-tune",
    "transplant": "put a model on another model's tokenizer",
    "push": "upload a model folder to the Hugging Face Hub",
    "methods": "list and describe merge methods",
    "schema": "print the JSON Schema of a recipe, search or space file",
    "spaces": "list and show the search spaces that come with evomerge",
}


class Verbs(click.Group):
    """A group that imports a verb's file only when the verb is called."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        command: click.Command = import_module(f"evomerge.cli.{name.replace('-', '_')}").command
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from evomerge.errors import did_you_mean

        if args and args[0] not in VERBS and not args[0].startswith("-"):
            context.fail(f'no such command "{args[0]}".{did_you_mean(args[0], VERBS)}')
        return super().resolve_command(context, args)


@click.command(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="evomerge")
def cli() -> None:
    """Find the best merge of language models by evolutionary search, and prove that it is better."""


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    try:
        code = cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = 2
    except (KeyboardInterrupt, click.Abort):
        click.echo("evomerge: interrupted", err=True)
        code = INTERRUPTED
    except EvomergeError as error:
        click.echo(f"evomerge: {error}", err=True)
        code = error.exit_code
    except BrokenPipeError:  # the reader of a pipe has gone; nothing is left to print
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        import traceback

        click.echo(traceback.format_exc(), err=True)
        click.echo(f"evomerge: unexpected {type(error).__name__}: {error}; this is a bug, please report it", err=True)
        code = 1
    gc.freeze()  # the interpreter would search a million objects of torch's for cycles before it exits: 0.3 s
    sys.exit(code or 0)
