"""The commands, one file a verb: parse, call, print, exit code. Nothing is decided here.

Results go to stdout, messages and progress to stderr. Importing this package loads click alone; a verb imports what it
needs when it is called. Nothing below imports `cli`.
"""

from evomerge.cli._main import VERBS, cli, main

__all__ = ["VERBS", "cli", "main"]
