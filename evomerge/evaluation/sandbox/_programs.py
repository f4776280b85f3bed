"""What stands in for the metric `code_eval` of the evaluate library: programs are run by the runner, or not at all.

lm-eval's code tasks load that metric from the Hub, which a worker cannot reach, and it runs programs without limits of
memory, files or network. What it computes is short: how many programs of each problem pass, and from that pass@k.
"""

import importlib
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

NAME = "code_eval"
_LIBRARY = "evaluate"
SECONDS = 3.0  # of a program, as the metric has it

RunPrograms = Callable[[Sequence[str], float], Sequence[bool]]
"""(programs, seconds of each) -> whether each ran to its end."""


def pass_at(total: int, right: int, k: int) -> float:
    """Return the chance that one of k answers is right, of which there are more (Chen et al. 2021, arXiv 2107.03374).

    Args:
        total: answers, at least k.
        right: of them.
        k: that are drawn.
    """
    return 1.0 - math.comb(total - right, k) / math.comb(total, k)


class CodeEval:
    """The metric, with its `compute`."""

    def __init__(self, run: RunPrograms):
        self._run = run

    def compute(
        self,
        predictions: Sequence[Sequence[str]],
        references: Sequence[str],
        k: Sequence[int] = (1, 10, 100),
        num_workers: int = 1,
        timeout: float = SECONDS,
    ) -> tuple[dict[str, float], dict[int, list[tuple[int, dict[str, Any]]]]]:
        """Return pass@k, and each program's outcome, as the evaluate library's metric does.

        Args:
            predictions: programs of each problem.
            references: the test of each problem, which follows the program.
            k: as in `pass_at`; those above the number of programs are left out.
            num_workers: of no use here.
            timeout: seconds of a program.
        """
        rates: dict[int, list[float]] = {}
        outcomes = {}
        for problem, (programs, test) in enumerate(zip(predictions, references, strict=True)):
            passed = self._run([f"{program}\n{test}" for program in programs], timeout)
            outcomes[problem] = [
                (i, {"task_id": problem, "completion_id": i, "passed": ok, "result": "passed" if ok else "failed"})
                for i, ok in enumerate(passed)
            ]
            for wanted in k:
                if len(programs) >= wanted:
                    rates.setdefault(wanted, []).append(pass_at(len(programs), sum(passed), wanted))
        return {f"pass@{wanted}": math.fsum(found) / len(found) for wanted, found in rates.items()}, outcomes


@contextmanager
def code_eval_replaced() -> Iterator[None]:
    """Have `evaluate.load("code_eval")` return our metric, while a task's code is loaded.

    The library itself, which takes seconds to import, is loaded only for another metric. Modules that hold our metric
    are forgotten at the end: lm-eval, if it is called in this process, too, would take it for its own.
    """
    original, known = sys.modules.get(_LIBRARY), set(sys.modules)
    stand_in = ModuleType(_LIBRARY)

    def load(path: str, *arguments: Any, **options: Any) -> Any:
        if path == NAME:
            return CodeEval(program_results)
        if sys.modules.get(_LIBRARY) is stand_in:
            del sys.modules[_LIBRARY]
        return importlib.import_module(_LIBRARY).load(path, *arguments, **options)

    stand_in.__dict__["load"] = load
    sys.modules[_LIBRARY] = stand_in
    try:
        yield
    finally:
        if sys.modules.get(_LIBRARY) is stand_in:
            del sys.modules[_LIBRARY]
        if original is not None:
            sys.modules[_LIBRARY] = original
        for name in set(sys.modules) - known:
            content = getattr(sys.modules[name], "__dict__", {})
            ours = name.startswith("evomerge")  # a user's file, which nobody else finds there
            if not ours and any(held is stand_in or isinstance(held, CodeEval) for held in content.values()):
                del sys.modules[name]


def program_results(programs: Sequence[str], seconds: float) -> list[bool]:
    """Have programs run by the runner, from within a request; see `CodeEval`.

    Anywhere else none is run and all count as wrong: lm-eval's tasks try the metric when they are loaded.
    """
    return [False] * len(programs) if _ask_runner is None else _ask_runner(programs, seconds)


_ask_runner: Callable[[Sequence[str], float], list[bool]] | None = None


def set_runner(ask: Callable[[Sequence[str], float], list[bool]] | None) -> None:
    """Say how a request has programs run; called in the copy of the runner that answers it."""
    global _ask_runner
    _ask_runner = ask
