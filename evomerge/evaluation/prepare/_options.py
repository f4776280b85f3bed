"""The `lm_eval:` block of a search file: which of lm-eval's settings are passed on, and to whom."""

from collections.abc import Collection, Mapping
from typing import Any

from evomerge.errors import Problem, did_you_mean
from evomerge.evaluation._request import LmEvalOptions

_PROMPT = {
    "num_fewshot": int,
    "apply_chat_template": bool,
    "fewshot_as_multiturn": bool,
    "system_instruction": str,
    "fewshot_random_seed": int,
    "chat_template_args": Mapping,
}
_GENERATION = {
    "gen_kwargs": Mapping,
    "max_gen_toks": int,
    "max_gen_seconds": (int, float),
    "max_cut_answers": (int, float),
}
LM_EVAL_MODEL_OPTIONS: Mapping[str, Any] = {
    "max_length": int,
    "add_bos_token": bool,
    "prefix_token_id": int,
    "truncation": bool,
    "enable_thinking": bool,
    "think_end_token": (str, int),
}
"""Settings of lm-eval's model wrapper that are passed on, with their types."""

_KNOWN: Mapping[str, Any] = {**_PROMPT, **_GENERATION, **LM_EVAL_MODEL_OPTIONS}


def read_options(given: Mapping[str, Any]) -> tuple[LmEvalOptions, list[Problem]]:
    """Return the settings and what is wrong with them; `None` values count as not given."""
    problems = []
    values = {key: value for key, value in given.items() if value is not None}
    for key, value in list(values.items()):
        where = f"lm_eval.{key}"
        if key not in _KNOWN:
            known = ", ".join(_KNOWN)
            text = f"is not passed on to lm-eval (known: {known}).{did_you_mean(key, _KNOWN)}"
        elif not isinstance(value, _KNOWN[key]) or (isinstance(value, bool) and _KNOWN[key] is not bool):
            text = f"is {value!r}, expected {_type_name(_KNOWN[key])}"
        elif key in ("num_fewshot", "max_gen_toks", "max_length") and value < (0 if key == "num_fewshot" else 1):
            text = f"is {value}, expected a positive number"
        elif key == "max_gen_seconds" and value <= 0:
            text = f"is {value}, expected a positive number of seconds"
        elif key == "max_cut_answers" and not 0 <= value <= 1:
            text = f"is {value}, expected a share between 0 and 1"
        else:
            continue
        problems.append(Problem(where, text))
        del values[key]
    own = {key: value for key, value in values.items() if key not in LM_EVAL_MODEL_OPTIONS}
    model = {key: value for key, value in values.items() if key in LM_EVAL_MODEL_OPTIONS or key == "chat_template_args"}
    return LmEvalOptions(**own, model=model), problems


def unused_names(key: str, allowed: Collection[str], tasks: Collection[str]) -> list[Problem]:
    """Return a problem for each name under a key of the search file that is no task of the search."""
    return [
        Problem(key, f'"{name}" is none of the tasks.{did_you_mean(name, tasks)}')
        for name in allowed
        if name not in tasks
    ]


def _type_name(kind: Any) -> str:
    """Return how a user would call a type."""
    if kind == (int, float):
        return "a number"
    if isinstance(kind, tuple):
        return " or ".join(_type_name(option) for option in kind)
    return {int: "a whole number", bool: "true or false", str: "text"}.get(kind, "a mapping")
