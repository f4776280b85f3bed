"""How to make the same run, and the same model, again."""

from collections.abc import Mapping
from typing import Any

import yaml

from evomerge.results.report._html import code, folded, paragraph, section, table
from evomerge.run import RunFacts

SHORT_DIGEST = 16  # characters of a digest that a table shows


def reproduce(facts: RunFacts) -> str:
    """The commands, the search file, the parents, the tasks and the versions."""
    run = facts.run
    name = run.path.resolve().name
    lines = [f"evomerge search search.yaml --out {name}      # the search file below; the same seed, the same points"]
    if facts.pick is not None:
        lines.append(f"evomerge export {name} merged/            # the pick as a model folder with its card")
        lines.append(f"evomerge explain {name} {facts.pick.id}")
    search = yaml.safe_dump(run.fact("search", {}), sort_keys=False, allow_unicode=True)
    versions: Mapping[str, str] = run.fact("versions", {})
    tasks = yaml.safe_dump(run.fact("facts", {}), sort_keys=False, allow_unicode=True)
    return section(
        "reproduce",
        "How to reproduce",
        code("\n".join(lines)),
        folded("search.yaml", code(search)),
        folded("The parents", table(["parent", "license", "dtype", "layers", "commit", "digest"], _parents(facts))),
        folded("Library versions", table(["library", "version"], [[k, v] for k, v in versions.items()], words=(0, 1))),
        folded("The tasks, with their digests", code(tasks) if run.fact("facts") else ""),
        *(paragraph(note, soft=True) for note in run.version_notes),
    )


def _parents(facts: RunFacts) -> list[list[str]]:
    digests: Mapping[str, str] = facts.run.fact("identity", {}).get("parents", {})
    base: Mapping[str, Any] | None = facts.run.fact("base")
    parents: list[Mapping[str, Any]] = [*([] if base is None else [base]), *facts.run.fact("models", [])]
    rows = []
    for parent in parents:
        digest = digests.get(parent["name"], "") or parent.get("digest", "")
        said = f"{parent['name']} (base)" if parent is base else parent["name"]
        rows.append(
            [
                said,
                parent.get("license") or "not stated",
                parent.get("dtype", ""),
                str(parent.get("num_layers", "")),
                parent.get("commit") or "-",
                digest[:SHORT_DIGEST],
            ]
        )
    return rows
