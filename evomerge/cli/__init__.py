"""Commands: one file for each verb. Parse, call, print, exit code; nothing is decided here.

stdout carries results, stderr carries talk. Importing this room loads click alone; a verb loads what it needs.
"""

from evomerge.cli._main import cli, main

__all__ = ["cli", "main"]
