"""`evomerge.transplant`: a model on another model's tokenizer."""

from pathlib import Path

from evomerge.checkpoint import Parents
from evomerge.derived import vocabulary
from evomerge.derived.vocabulary import NEW_ROWS, NewRows, TransplantReport
from evomerge.engine import ProgressCallback
from evomerge.errors import InvalidInput, did_you_mean
from evomerge.recipe import ModelRef


def transplant(
    model: Path | str,
    tokenizer: Path | str,
    out: Path | str,
    *,
    new_rows: NewRows = "omp",
    atoms: int = 64,
    progress: ProgressCallback | None = None,
) -> TransplantReport:
    """Write a model with the tokenizer of another, without training, as mergekit-tokensurgeon does.

    Args:
        model: whose weights are taken, a folder or hub id.
        tokenizer: the model whose tokenizer is taken, a folder or hub id.
        out: the folder to make; it must not exist.
        new_rows: rows of tokens that the model does not have: "omp" (the combination of shared tokens that gives their
            row in the other model), "subword" (the mean of the tokens that the model reads their text as) or "mean".
        atoms: with "omp", the most shared tokens in a combination.
        progress: called with bytes written and bytes in all.

    Returns:
        How many tokens kept their rows and how many got new ones.

    Raises:
        InvalidInput: a model or an option does not fit, or `out` exists.
        DegenerateModel: a new row is not finite. Nothing is left behind.
    """
    if new_rows not in NEW_ROWS:
        hint = did_you_mean(str(new_rows), NEW_ROWS)
        raise InvalidInput(f"new_rows: found {new_rows!r}, expected one of {', '.join(NEW_ROWS)}.{hint}")
    if atoms < 1:
        raise InvalidInput(f"atoms: found {atoms}, expected at least 1")
    refs = ModelRef.parse(str(model)), ModelRef.parse(str(tokenizer))
    parents = Parents(refs)
    return vocabulary.transplant(
        parents[refs[0]], parents[refs[1]], Path(out), new_rows=new_rows, atoms=atoms, progress=progress
    )
