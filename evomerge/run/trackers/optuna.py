"""The tracker `optuna`: the run as an Optuna study, so that optuna-dashboard shows it while it goes on.

    trackers: [optuna]     # then: optuna-dashboard RUN/logs/optuna.journal

One study holds what the search tried, with the genes as parameters; a second one, "... references", the parents, simple
merges, start recipes and means, which were scored on other items. Nothing is read back: the ledger stays the memory.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evomerge.errors import InvalidInput
from evomerge.records import Candidate, Domain, Point, Pool, Score
from evomerge.run.trackers._service import run_name
from evomerge.run.trackers._tracker import RunEnded, RunStarted, Tracker

if TYPE_CHECKING:
    import optuna

FILE = "logs/optuna.journal"
Ranges = Mapping[str, tuple[float, float]]


class OptunaStudy(Tracker):
    """Mirrors a run into an Optuna study."""

    name = "optuna"

    def __init__(self, *, storage: str | None = None, study: str | None = None, ranges: Ranges | None = None):
        """Keep the options.

        Args:
            storage: a database (sqlite:///FILE, mysql://...) or the path of a journal file; None = a journal in the run
                folder. A journal takes about a hundredth of the time.
            study: its name; by default that of the run folder.
            ranges: gene -> (low, high) of its values, where the coordinates 0 to 1 are to appear in units of its own.
        """
        self._storage, self._study_name, self._ranges = storage, study, ranges or {}

    def started(self, run: RunStarted) -> None:
        """Make the studies; those of an earlier session are made anew if the run begins anew, else continued."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._run = run
        file = run.folder / FILE
        if self._storage is None:
            file.parent.mkdir(parents=True, exist_ok=True)
        storage = _storage(self._storage or str(file))
        name = run_name(run, self._study_name)
        directions = ["maximize" if o.direction == "max" else "minimize" for o in run.objectives]
        self._studies = [_study(storage, title, directions, run) for title in (name, f"{name} references")]
        self._known = {
            trial.user_attrs.get("candidate") for study in self._studies for trial in study.get_trials(deepcopy=False)
        }

    def candidate_scored(self, candidate: Candidate, pool: Pool) -> None:
        """Add a trial; what it scores on the later pools becomes an attribute of the study, as trials are final."""
        study = self._studies[candidate.kind != "candidate"]
        if candidate.id not in self._known:
            study.add_trial(_trial(candidate, candidate.scores.get(pool), self._run, self._ranges))
            self._known.add(candidate.id)
        elif pool in candidate.scores:
            scores = {o.name: o.displayed(candidate.scores[pool][o.name].value) for o in self._run.objectives}
            study.set_user_attr(f"{candidate.name}, {pool}", scores)

    def ended(self, result: RunEnded) -> None:
        """Note pick and verdict on the study."""
        for study in self._studies:
            study.set_user_attr("state", result.state)
            study.set_user_attr("pick", result.pick)
            study.set_user_attr("verdict", (result.verdict or {}).get("text"))


def _storage(address: str) -> Any:
    """Return Optuna's storage behind a database's address or a journal's path."""
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    return RDBStorage(address) if "://" in address else JournalStorage(JournalFileBackend(address))


def _study(storage: object, name: str, directions: Sequence[str], run: RunStarted) -> "optuna.Study":
    import optuna

    known = {found.study_name: found for found in optuna.get_all_study_summaries(storage, include_best_trial=False)}
    if name in known and known[name].n_trials and not run.resumed:
        raise InvalidInput(f'there is a study "{name}" in this storage already; name another with `study:`')
    study = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([objective.name for objective in run.objectives])
    study.set_user_attr("optimizer", run.optimizer)
    study.set_user_attr("seed", run.seed)
    return study


def _trial(
    candidate: Candidate, scores: Mapping[str, Score] | None, run: RunStarted, ranges: Ranges
) -> "optuna.trial.FrozenTrial":
    """Return a candidate as a trial: complete with its scores in the metrics' own units, or failed."""
    import optuna

    parameters, distributions = _parameters(candidate.point, run.coordinates, run.domain, ranges)
    attributes: dict[str, Any] = {"candidate": candidate.id, "name": candidate.name, "kind": candidate.kind}
    attributes |= {"generation": candidate.generation, "seconds": candidate.seconds, "worker": candidate.worker}
    if candidate.failure is not None:
        attributes["failure"] = f"{candidate.failure.kind}: {candidate.failure.reason}"
    for pool in ("select", "report"):
        for objective in run.objectives:
            score = candidate.scores.get(pool, {}).get(objective.name)
            if score is not None:
                attributes[f"{pool} {objective.name}"] = objective.displayed(score.value)
    if scores is None:
        state, values = optuna.trial.TrialState.FAIL, None
    else:
        state = optuna.trial.TrialState.COMPLETE
        values = [objective.displayed(scores[objective.name].value) for objective in run.objectives]
    return optuna.trial.create_trial(
        state=state, values=values, params=parameters, distributions=distributions, user_attrs=attributes
    )


def _parameters(
    point: Point | None, names: Sequence[str], domain: Domain | None, ranges: Ranges
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a point's coordinates by name, and what each may be."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if point is None or domain is None or len(names) != domain.size:
        return {}, {}
    parameters: dict[str, Any] = {}
    distributions: dict[str, Any] = {}
    for name, coordinate in zip(names, point.reals, strict=False):
        low, high = ranges.get(name, (0.0, 1.0))
        distributions[name] = FloatDistribution(low, high)
        parameters[name] = min(high, max(low, low + coordinate * (high - low)))
    rest = names[len(point.reals) :]
    for name, value, levels in zip(rest, point.integers, domain.integers, strict=False):
        distributions[name], parameters[name] = IntDistribution(0, levels - 1), value
    rest = rest[len(point.integers) :]
    for name, value, options in zip(rest, point.categories, domain.categories, strict=False):
        distributions[name], parameters[name] = CategoricalDistribution(list(range(options))), value
    return parameters, distributions
