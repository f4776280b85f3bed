"""Every search file under experiments/ passes the checks of a search: as it is, or with stand-ins for large parents."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml

from evomerge.run import check_search
from evomerge.testing.pico import write_pico

EXPERIMENTS = Path(__file__).resolve().parents[3] / "experiments"
FILES = sorted(str(path.relative_to(EXPERIMENTS)) for path in EXPERIMENTS.glob("*/*.yaml"))
QUICKSTART_TASKS = ("zoo_add", "zoo_kanji", "zoo_reverse")


@pytest.fixture(scope="module")
def pico_parents(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("stand-ins")
    base = write_pico(root / "0", 0)
    return [base, *(write_pico(root / str(seed), seed, near=base) for seed in range(1, 7))]


def with_stand_ins(data: dict[str, Any], pico: list[Path]) -> dict[str, Any]:
    """Replace parents by tiny ones, and tasks on the Hub by those of the quickstart."""
    parents = data["parents"]
    names = [*([parents["base"]] if "base" in parents else []), *parents["models"]]
    places = {name: str(path) for name, path in zip(names, pico, strict=False)}
    models = [places[name] for name in parents["models"]]
    data["parents"] = {"models": models, **({"base": places[parents["base"]]} if "base" in parents else {})}
    tasks = []
    for number, task in enumerate(data["tasks"]):
        name = QUICKSTART_TASKS[number % 3]
        kept = {key: value for key, value in task.items() if key in ("weight", "floor")}
        if isinstance(kept.get("floor"), dict):
            kept["floor"]["parent"] = places[kept["floor"]["parent"]]
        if all(known["task"] != name for known in tasks):
            tasks.append({"task": name, "metric": "acc", **kept})
    pools = {"search": min(data["pools"]["search"], 256), "select": 256, "report": 512}
    size = data.get("subset", {}).get("size", "auto")
    subset = {**data.get("subset", {}), "size": size if size == "auto" else min(size, 256)}
    left_out = ("lm_eval", "allow_test_split")
    kept = {key: value for key, value in data.items() if key not in left_out}
    return {
        **kept,
        "tasks": tasks,
        "task_path": str(EXPERIMENTS / "quickstart" / "tasks"),
        "pools": pools,
        "subset": subset,
    }


@pytest.mark.parametrize("name", FILES)
def test_a_search_file_passes_the_checks(name: str, pico_parents: list[Path]) -> None:
    path = EXPERIMENTS / name
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    parents = [data["parents"].get("base"), *data["parents"]["models"]]
    local = all((path.parent / parent / "config.json").is_file() for parent in parents if parent)
    setup = check_search(path if local else with_stand_ins(data, pico_parents), workers=0)
    setup.space.domain.check(setup.space.start)
    assert setup.references


def test_an_answer_is_right_by_its_last_number_and_in_japanese() -> None:
    spec = importlib.util.spec_from_file_location("gsm8k_ja", EXPERIMENTS / "sakana" / "tasks" / "gsm8k_ja.py")
    assert spec is not None and spec.loader is not None
    task = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(task)
    doc = {"question": "?", "answer_number": "1,018"}
    assert task.score(doc, ["卵は１６個です。答えは１，０１８ドルです。"]) == {"acc": 1.0, "acc_ja": 1.0}
    assert task.score(doc, ["She makes 1018 dollars."]) == {"acc": 1.0, "acc_ja": 0.0}
    assert task.score(doc, ["答えは 1018 ではなく 17 です。"]) == {"acc": 0.0, "acc_ja": 0.0}
    assert task.score(doc, ["分かりません。"]) == {"acc": 0.0, "acc_ja": 0.0}
    assert "### 応答:" in task.prompt({"question": "何個?"})
