"""Can vLLM do what is asked of it? Said before hours are spent."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from evomerge.checkpoint import Model, generation_settings
from evomerge.engine.vllm import CACHE_SHARE, VllmOptions, lacking, missing_sentence, unknown_family, wrong_device
from evomerge.errors import InvalidFile, InvalidInput, Problem
from evomerge.evaluation import Prepared
from evomerge.recipe import check_document
from evomerge.run.config._collector import ProblemCollector
from evomerge.run.config._schema import EngineEntry, WorkersEntry, named

_PLACE = "workers.engine"


def read_engine(value: object, where: str) -> EngineEntry:
    """Read which engine is wanted, in the words of `workers.engine` of a search file.

    Args:
        value: a name, or a mapping of a name and options.
        where: what messages call its place.

    Raises:
        InvalidFile: it is none that is known, or vLLM is wanted and not installed.
    """
    entry, problems = check_document(EngineEntry, named(value), where)
    missing = missing_sentence() if entry is not None and entry.name == "vllm" else None
    if entry is None or problems or missing is not None:
        raise InvalidFile([*problems, *([] if missing is None else [Problem(where, missing)])])
    return entry


def vllm_options(engine: EngineEntry) -> VllmOptions | None:
    """Return how vLLM is to write answers; None = transformers does."""
    if engine.name != "vllm":
        return None
    return VllmOptions(tensor_parallel=engine.tensor_parallel, max_length=engine.max_length, eager=engine.eager)


def check_engine(
    workers: WorkersEntry, prepared: Prepared | None, models: Sequence[Model], problems: ProblemCollector
) -> None:
    """Note what keeps vLLM from writing the answers of a search (see `engine_problems`).

    Args:
        workers: as the search file says.
        prepared: the tasks; None while something is wrong with them.
        models: the parents, as far as they could be opened.
        problems: what is found.
    """
    engine = workers.engine
    wanted = engine.tensor_parallel
    if engine.name == "vllm" and workers.gpus and workers.gpus != wanted and wanted > 1:
        problems.add(_PLACE, f"tensor_parallel: {wanted} needs workers.gpus: {wanted}, found {workers.gpus:g}")
    for sentence in engine_problems(engine, prepared, models, "cuda" if workers.gpus else "cpu"):
        problems.add(_PLACE, sentence)


def engine_problems(
    engine: EngineEntry, prepared: Prepared | None, models: Sequence[Model], device: str
) -> Iterator[str]:
    """Yield what keeps an engine from writing answers: the installation, the tasks, the parents.

    Args:
        engine: that is wanted.
        prepared: the tasks; None while something is wrong with them.
        models: the parents.
        device: that merges are built on.
    """
    if engine.name != "vllm":
        return
    if prepared is not None and not prepared.needs(prepared.tasks).text:
        yield "vllm has no effect: no task generates text; leave it out, which is faster, too"
    missing = missing_sentence()
    if missing is not None:
        yield missing
        return
    elsewhere = wrong_device(device)
    if elsewhere is not None:
        yield elsewhere
    yield from dict.fromkeys(_of_families(models))


def engine_notes(workers: WorkersEntry, prepared: Prepared) -> list[str]:
    """Return who does what, and what it takes, where two engines share the work."""
    if workers.engine.name != "vllm":
        return []
    needs = {name: prepared.evaluators[name].needs(task) for name, task in prepared.tasks.items()}
    written = ", ".join(name for name, need in needs.items() if need.text)
    read = ", ".join(name for name, need in needs.items() if need.model)
    cache = f"for keys and values vLLM takes up to {CACHE_SHARE:.0%} of the memory that is free when it starts"
    if not read:
        return [f"vLLM writes the answers of {written}; a worker holds one model, which is vLLM's; {cache}"]
    return [
        f"vLLM writes the answers of {written}, and transformers scores {read}, so that log-likelihoods are the same "
        f"numbers with either engine: a worker holds two models; {cache}"
    ]


def _of_families(models: Iterable[Model]) -> Iterator[str]:
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
                f"vLLM cannot generate with {setting}, as {folder} says; change that there, or take engine: "
                "transformers"
            )
