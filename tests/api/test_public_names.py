"""Every public name, resolved and called twice in one process, after every package has been imported."""

import pkgutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

import evomerge
from tests.choice_task import write_choice_task

NEEDS_OTHER_PACKAGES = {
    "evomerge.methods.kernels.gpu._triton",  # Triton comes with torch's CUDA builds only
    "evomerge.engine.vllm._engine",
}

Call = Callable[[Path], Any]


@pytest.fixture(scope="module", autouse=True)
def _everything_imported() -> None:
    for module in pkgutil.walk_packages(evomerge.__path__, "evomerge."):
        if module.name not in NEEDS_OTHER_PACKAGES and not module.name.endswith("__main__"):
            import_module(module.name)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task of two choices, with copies of its data kept out of the user's cache."""
    import datasets

    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("datasets")
    folder = tmp_path_factory.mktemp("tasks")
    write_choice_task(folder, "pairs", choices=2, count=30)
    return folder


@pytest.fixture
def calls(pico: dict[str, Path], tasks: Path, finished_run: Path) -> dict[str, Call]:
    """Public name -> a small real call of it that writes below a folder; paths go in as text."""
    one, two, base = (str(pico[name]) for name in ("one", "two", "base"))
    average = {"merge_method": "linear", "models": [{"model": one, "parameters": {"weight": 1}}, {"model": two}]}
    average["models"][1]["parameters"] = {"weight": 1}  # type: ignore[index]
    experts = {"base_model": base, "gate_mode": "random", "experts": [{"source_model": one}, {"source_model": two}]}
    for expert in experts["experts"]:
        expert["positive_prompts"] = ["1"]  # type: ignore[index]
    scored: dict[str, Any] = {"task_path": str(tasks), "limit": 10}
    source = str(finished_run.parent / "search.yaml")
    file = f"{one}/model.safetensors"
    files = {"merge_method": "passthrough", "models": [{"model": file}]}
    return {
        "Run": lambda out: evomerge.Run(str(finished_run)).pick,
        "evaluate": lambda out: evomerge.evaluate(one, ["pairs"], **scored)["pairs"],
        "export": lambda out: evomerge.export(str(finished_run), str(out / "export"), formats=["recipe"]),
        "extract_lora": lambda out: evomerge.extract_lora(one, base, str(out / "lora"), rank=2),
        "init": lambda out: evomerge.init(out / "s.yaml", [one, two], ["pairs"], base=base, check=False),
        "merge": lambda out: evomerge.merge(average, str(out / "merge")),
        "merge_files": lambda out: evomerge.merge_files(files, str(out / "files")),
        "moe": lambda out: evomerge.moe(experts, str(out / "moe")),
        "report": lambda out: evomerge.report(str(finished_run), str(out / "page.html")),
        "search": lambda out: evomerge.search(source, str(out / "run"), candidates=6).verdict,
        "transplant": lambda out: evomerge.transplant(one, two, str(out / "transplant")),
        "soup": lambda out: evomerge.soup([one, two], str(out / "soup"), ["pairs"], **scored).text,
    }


@pytest.mark.parametrize("name", evomerge.__all__)
def test_every_public_name_can_be_called_twice(name: str, calls: dict[str, Call], tmp_path: Path) -> None:
    for time in ("first", "second"):
        (tmp_path / time).mkdir()
        assert calls[name](tmp_path / time), (name, time)


def test_every_public_name_is_documented_and_listed() -> None:
    for name in evomerge.__all__:
        assert getattr(evomerge, name).__doc__, name
        assert name in dir(evomerge)
    with pytest.raises(AttributeError, match="no attribute 'serch'"):
        evomerge.serch  # noqa: B018


def test_scoring_takes_the_threads_it_is_given_and_gives_the_callers_back(
    pico: dict[str, Path], tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, taken = torch.get_num_threads(), []
    set_threads = torch.set_num_threads
    monkeypatch.setattr(torch, "set_num_threads", lambda count: (taken.append(count), set_threads(count)))
    for threads in (1, 2):
        evomerge.evaluate(pico["one"], ["pairs"], task_path=tasks, limit=4, threads=threads)
    assert taken == [1, before, 2, before]
    assert torch.get_num_threads() == before
