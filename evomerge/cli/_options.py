"""Options that several verbs take, and how their values are read."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

_COUNT = click.IntRange(min=1)
MIN_SHARD_BYTES = 1000  # tests write small shards; a mergekit user's "5B" would be 5
_UNIT_BYTES = {"k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}

JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def _bytes_of(context: click.Context, parameter: click.Parameter, value: str) -> int:
    """Read a size such as "500MB"; a bare number counts bytes."""
    text = value.strip().lower().removesuffix("b") or "x"
    factor = _UNIT_BYTES.get(text[-1], 1)
    number = text[:-1] if text[-1] in _UNIT_BYTES else text
    try:
        count = int(float(number) * factor)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no size; write for example 500MB or 5GB") from None
    if count < MIN_SHARD_BYTES:
        raise click.BadParameter(
            f"{value!r} is {max(count, 0)} bytes, which no weight file holds; write for example 500MB or 5GB "
            "(what mergekit calls 5B is 5GB here)"
        )
    return count


SHARD_SIZE = click.option(
    "--shard-size", default="5GB", show_default=True, callback=_bytes_of, help="Largest weight file."
)


def _engine_of(context: click.Context, parameter: click.Parameter, value: str) -> object:
    """Read a name, or a mapping written as in YAML."""
    if not value.lstrip().startswith("{"):
        return value
    import yaml

    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        raise click.BadParameter(f"{value!r} is no mapping; write for example '{{name: vllm, eager: true}}'") from None


def scoring_options(*, limit: int | None, limit_help: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that adds what every verb that scores models takes; `scoring_settings` reads most of it.

    Args:
        limit: default of --limit; None = all items.
        limit_help: what --limit limits.
    """
    folder = click.Path(exists=True, file_okay=False, path_type=Path)
    options = [
        click.option("--tasks", required=True, help="lm-eval tasks, separated by commas; task/metric names a metric."),
        click.option("--task-path", type=folder, help="A folder with task YAMLs of your own."),
        click.option("--limit", type=_COUNT, default=limit, show_default=limit is not None, help=limit_help),
        click.option("--allow-code", default="", help="Tasks that may run code that the model writes, or are classes."),
        click.option("--num-fewshot", type=click.IntRange(min=0), help="Examples in each prompt."),
        click.option("--apply-chat-template", is_flag=True, help="Wrap prompts in the model's chat template."),
        click.option("--batch-size", type=_COUNT, default=64, show_default=True, help="Most rows of a forward pass."),
        click.option(
            "--threads", type=_COUNT, default=1, show_default=True,
            help="CPU threads. One gives a search's scores to the last bit; more pay off for large models.",
        ),
        click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N."),
        click.option(
            "--engine", default="transformers", show_default=True, callback=_engine_of,
            help="What writes answers: transformers, vllm, or '{name: vllm, max_length: 2048}' as in a search file.",
        ),
        click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the sample."),
    ]  # fmt: skip

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        return functools.reduce(lambda decorated, option: option(decorated), reversed(options), command)

    return decorate


def scoring_settings(
    num_fewshot: int | None, apply_chat_template: bool, allow_code: str, **settings: Any
) -> dict[str, Any]:
    """Return the values of `scoring_options` as `evomerge.evaluate` and `evomerge.soup` take them."""
    lm_eval = {"num_fewshot": num_fewshot, "apply_chat_template": apply_chat_template or None}
    settings["allow_code"] = split_names(allow_code)
    return {**settings, "lm_eval": {key: value for key, value in lm_eval.items() if value is not None}}


def split_names(text: str) -> list[str]:
    """Return the names in a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]
