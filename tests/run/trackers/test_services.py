"""The adapters to experiment trackers: each passes the contract where its package is installed."""

from pathlib import Path

import optuna
import pytest

from evomerge.errors import InvalidInput
from evomerge.records import Domain
from evomerge.run.trackers import RunEnded, RunStarted, Tracker, create, names
from evomerge.testing.trackers import TrackerContract

SERVICES = ("mlflow", "optuna", "tensorboard", "trackio", "wandb")


def journal(file: Path) -> "optuna.storages.JournalStorage":
    """Return the storage behind a file."""
    return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(file)))


class OfHere(TrackerContract):
    """The contract with a run that knows its genes."""

    def run(self, folder: Path, *, resumed: bool = False) -> RunStarted:
        """Return how a session begins."""
        from dataclasses import replace

        return replace(super().run(folder, resumed=resumed), coordinates=("a", "b"), domain=Domain(reals=2))


class TestOptunaStudy(OfHere):
    """Comes with evomerge's own dependencies."""

    def create(self) -> Tracker:
        """Return a mirror in the run folder."""
        return create("optuna", {})

    def test_a_study_holds_genes_scores_and_verdict(self, tmp_path: Path) -> None:
        tracker = self.create()
        tracker.started(self.run(tmp_path))
        for number in range(3):
            tracker.candidate_scored(self.candidate(number, "search"), "search")
        tracker.candidate_scored(self.candidate(1, "search", "report"), "report")
        tracker.ended(RunEnded(state="done", seconds=1.0, pick=1, verdict={"text": "Gain"}))
        storage = journal(tmp_path / "logs" / "optuna.journal")
        study = optuna.load_study(study_name=tmp_path.name, storage=storage)
        assert [trial.params for trial in study.trials] == [{"a": 0.25, "b": 0.75}] * 3
        assert study.directions == [optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE]
        assert study.trials[0].values == [-0.5, pytest.approx(1.6487, abs=1e-4)], "in the metrics' own units"
        assert study.user_attrs["pick"] == 1 and study.user_attrs["verdict"] == "Gain"
        assert "sums" in study.user_attrs["candidate 1, report"]

    def test_a_database_can_be_named_instead(self, tmp_path: Path) -> None:
        address = f"sqlite:///{tmp_path / 'optuna.sqlite3'}"
        tracker = create("optuna", {"storage": address, "study": "mine"})
        tracker.started(self.run(tmp_path))
        tracker.candidate_scored(self.candidate(0, "search"), "search")
        assert len(optuna.load_study(study_name="mine", storage=address).trials) == 1

    def test_a_study_that_is_there_already_is_not_added_to(self, tmp_path: Path) -> None:
        for _ in ("killed before its first result", "again"):
            tracker = self.create()
            tracker.started(self.run(tmp_path))
        tracker.candidate_scored(self.candidate(0, "search"), "search")
        with pytest.raises(InvalidInput, match="already"):
            self.create().started(self.run(tmp_path))


class TestTensorboard(OfHere):
    """Needs tensorboard."""

    def create(self) -> Tracker:
        """Return a writer into the run folder."""
        pytest.importorskip("tensorboard")
        return create("tensorboard", {})

    def test_scores_are_scalars(self, tmp_path: Path) -> None:
        tracker = self.create()
        tracker.started(self.run(tmp_path))
        tracker.candidate_scored(self.candidate(0, "search"), "search")
        tracker.ended(RunEnded(state="done", seconds=1.0, pick=0, verdict={"gain": 0.5, "text": "Gain"}))
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        found = EventAccumulator(str(tmp_path / "logs" / "tensorboard"))
        found.Reload()
        assert found.Scalars("search/sums")[0].value == -0.5 and found.Scalars("verdict/gain")[0].value == 0.5


class TestMlflow(OfHere):
    """Needs mlflow."""

    @pytest.fixture(autouse=True)
    def _store(self, tmp_path: Path) -> None:
        self._uri = f"sqlite:///{tmp_path / 'mlflow.db'}"

    def create(self) -> Tracker:
        """Return a client of a file."""
        pytest.importorskip("mlflow")
        return create("mlflow", {"uri": self._uri})

    def test_scores_are_metrics_of_a_run(self, tmp_path: Path) -> None:
        tracker = self.create()
        tracker.started(self.run(tmp_path))
        tracker.candidate_scored(self.candidate(0, "search"), "search")
        tracker.ended(RunEnded(state="done", seconds=1.0, pick=0, verdict={"gain": 0.5, "text": "Gain"}))
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self._uri)
        experiment = client.get_experiment_by_name("evomerge")
        assert experiment is not None
        (run,) = client.search_runs([experiment.experiment_id])
        assert run.data.metrics["search/sums"] == -0.5 and run.data.metrics["verdict/gain"] == 0.5
        assert run.info.status == "FINISHED" and run.data.tags["verdict"] == "Gain"


class TestTrackio(OfHere):
    """Needs trackio."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))

    def create(self) -> Tracker:
        """Return a run that is kept on this machine."""
        pytest.importorskip("trackio")
        return create("trackio", {"project": "tests"})


class TestWandb(OfHere):
    """Needs wandb; nothing leaves the machine."""

    def create(self) -> Tracker:
        """Return an offline run."""
        pytest.importorskip("wandb")
        return create("wandb", {"mode": "offline"})

    def test_an_offline_run_lies_in_the_run_folder(self, tmp_path: Path) -> None:
        tracker = self.create()
        tracker.started(self.run(tmp_path))
        tracker.candidate_scored(self.candidate(0, "search"), "search")
        tracker.ended(RunEnded(state="done", seconds=1.0, pick=0, verdict={"gain": 0.5, "text": "Gain"}))
        (file,) = (tmp_path / "logs" / "wandb").glob("offline-run-*/*.wandb")
        assert b"search/sums" in file.read_bytes()

    def test_an_unknown_mode_is_a_sentence(self) -> None:
        pytest.importorskip("wandb")
        with pytest.raises(InvalidInput, match="expected one of online, offline, disabled"):
            create("wandb", {"mode": "off"})


def test_all_services_are_known() -> None:
    assert set(SERVICES) < set(names())


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "optuna"])
def test_a_service_whose_package_is_missing_names_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evomerge.run.trackers._service.find_spec", lambda package: None)
    with pytest.raises(InvalidInput, match=f"needs the package {name}: pip install {name}"):
        create(name, {})


def test_a_search_is_mirrored_while_it_goes_on(finished_run: Path, tmp_path: Path) -> None:
    import shutil

    import yaml

    from evomerge.run import Run, search

    for file in ("share.py", "items.jsonl"):
        shutil.copy(finished_run.parent / file, tmp_path)
    data = yaml.safe_load((finished_run.parent / "search.yaml").read_text())
    data |= {"trackers": ["optuna"], "budget": {"candidates": 8}}
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(data))
    run = search(tmp_path / "search.yaml", tmp_path / "run")
    storage = journal(run.path / "logs" / "optuna.journal")
    searched = optuna.load_study(study_name="run", storage=storage).trials
    references = optuna.load_study(study_name="run references", storage=storage).trials
    wanted = [c for c in run.candidates() if c.kind == "candidate"]
    assert {trial.user_attrs["candidate"] for trial in searched} == {c.id for c in wanted}
    assert len(references) == len(run.candidates()) - len(wanted)
    assert set(searched[0].params) == set(Run(run.path).fact("coordinates"))
