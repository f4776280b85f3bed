"""Can vLLM do what a search file asks of it? Said before hours are spent."""

from collections.abc import Iterable, Sequence
from typing import Any

from evomerge.checkpoint import Model, generation_settings
from evomerge.engine.vllm import lacking, missing_sentence, unknown_family
from evomerge.errors import InvalidInput
from evomerge.evaluation import Prepared
from evomerge.run.config._collector import ProblemCollector
from evomerge.run.config._schema import WorkersEntry

_PLACE = "workers.engine"


def check_engine(
    workers: WorkersEntry, prepared: Prepared | None, models: Sequence[Model], problems: ProblemCollector
) -> None:
    """Note what keeps vLLM from writing answers: the installation, the tasks, the parents' families and settings.

    Args:
        workers: as the search file says.
        prepared: the tasks; None while something is wrong with them.
        models: the parents, as far as they could be opened.
        problems: what is found.
    """
    engine = workers.engine
    if engine.name != "vllm":
        return
    if prepared is not None and not prepared.needs(prepared.tasks).text:
        problems.add(_PLACE, "vllm has no effect: no task generates text; leave it out, which is faster, too")
    if workers.gpus and workers.gpus != engine.tensor_parallel and engine.tensor_parallel > 1:
        wanted = engine.tensor_parallel
        problems.add(_PLACE, f"tensor_parallel: {wanted} needs workers.gpus: {wanted}, found {workers.gpus:g}")
    missing = missing_sentence()
    if missing is not None:
        problems.add(_PLACE, missing)
        return
    for sentence in dict.fromkeys(_of_families(models)):
        problems.add(_PLACE, sentence)


def engine_notes(workers: WorkersEntry, prepared: Prepared) -> list[str]:
    """Return who does what, and what it takes, where two engines share the work."""
    if workers.engine.name != "vllm":
        return []
    needs = {name: prepared.evaluators[name].needs(task) for name, task in prepared.tasks.items()}
    written = ", ".join(name for name, need in needs.items() if need.text)
    read = ", ".join(name for name, need in needs.items() if need.model)
    if not read:
        return [f"vLLM writes the answers of {written}; a worker holds one model, which is vLLM's"]
    return [
        f"vLLM writes the answers of {written}, and transformers scores {read}, so that log-likelihoods are the same "
        "numbers with either engine: a worker holds two models"
    ]


def _of_families(models: Iterable[Model]) -> Iterable[str]:
    """Yield what vLLM lacks for the parents."""
    for model in models:
        unknown = unknown_family(model.config)
        if unknown is not None:
            yield unknown
        folder = model.tokenizer.folder
        try:
            settings: dict[str, Any] = generation_settings(model.config, folder).to_dict()
        except InvalidInput:  # said elsewhere, or without effect
            continue
        for setting in lacking({**settings, "do_sample": False}):
            yield (
                f"vLLM cannot generate with {setting}, as {folder} says; change that there, or set workers: "
                "{engine: transformers}"
            )
