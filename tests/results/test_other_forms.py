"""A run and its scores in the forms of other tools: an Optuna study, and lm-eval's result file."""

import json
from pathlib import Path

import optuna
import pytest

from evomerge import export
from evomerge.run import Run, RunFacts
from tests.large_run import make_large_run


def journal(file: Path) -> optuna.storages.JournalStorage:
    """Return the storage behind a file."""
    return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(file)))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with three objectives and failures."""
    return Run(make_large_run(tmp_path_factory.mktemp("large") / "run", 60))


def test_a_run_is_an_optuna_study(large: Run, tmp_path: Path) -> None:
    (file,) = export(large, tmp_path / "out", formats=["optuna"])
    storage = journal(file)
    study = optuna.load_study(study_name="run", storage=storage)
    facts = RunFacts(large)
    searched = facts.searched
    assert len(study.trials) == len(searched)
    states = [trial.state.name for trial in study.trials]
    assert states.count("FAIL") == sum(candidate.failure is not None for candidate in searched)
    front = {trial.user_attrs["candidate"] for trial in study.best_trials}
    known = [c.id for c in searched if c.id in facts.ranking.values]
    assert front == set(facts.ranking.front(known)), "the study's front is ours"
    point = next(c for c in searched if c.id == large.fact("pick")).point
    pick = next(trial for trial in study.trials if trial.user_attrs["candidate"] == large.fact("pick"))
    assert point is not None
    assert list(pick.params.values()) == pytest.approx([1.5 * value for value in point.reals]), "weights as weights"
    assert "report arithmetic" in pick.user_attrs and study.user_attrs["pick"] == large.fact("pick")
    references = optuna.load_study(study_name="run references", storage=storage)
    assert len(references.trials) == 6


def test_a_run_without_a_verdict_is_a_study_too(tmp_path: Path) -> None:
    run = Path(__file__).parents[1] / "golden" / "old_runs" / "interrupted"
    (file,) = export(str(run), tmp_path / "out", formats=["optuna"])
    trials = optuna.load_study(study_name="interrupted", storage=journal(file)).trials
    assert trials and all(trial.params for trial in trials)


def test_scores_are_read_by_what_reads_lm_evals_files(finished_run: Path, tmp_path: Path) -> None:
    from lm_eval.utils import make_table

    (file,) = export(finished_run, tmp_path / "out", formats=["lm_eval"])
    document = json.loads(file.read_text())
    pick = Run(finished_run).pick
    assert pick is not None
    score = pick.scores["report"]["share"]
    assert document["results"]["share"]["share,none"] == score.value
    assert document["results"]["share"]["share_stderr,none"] == score.stderr
    assert document["n-samples"]["share"]["effective"] == score.n == 40
    assert f"|{score.value:.4f}".rstrip("0") in make_table(document)


def test_two_formats_at_once_share_a_folder(finished_run: Path, tmp_path: Path) -> None:
    files = export(finished_run, tmp_path / "out", formats=["recipe", "lm_eval", "optuna"])
    assert {file.name for file in files} == {"recipe.yaml", "results.json", "optuna.journal"}
    assert all(file.is_file() for file in files)
