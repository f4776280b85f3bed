"""What the runner of the tests loads: it runs whatever it is asked to, as a task's `process_results` might."""

import json
from collections.abc import Callable
from typing import Any


def factory(payload: dict[str, Any]) -> Callable[[str], Any]:
    """Return what answers a request: code is run, and what it leaves as `answer` is returned."""

    def handle(code: str) -> Any:
        names: dict[str, Any] = dict(payload)
        exec(code, names)
        return json.loads(json.dumps(names.get("answer")))

    return handle
