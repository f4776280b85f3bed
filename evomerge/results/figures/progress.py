"""How the search went: the best candidate, and the front's hypervolume, over items and over time."""

from collections.abc import Sequence
from typing import NamedTuple

from evomerge.results.figures._axes import Scale, frame, spanning
from evomerge.results.figures._drawing import Drawing, clipped
from evomerge.run import CoursePoint, RunFacts, course, hypervolume_course

PLOT = (46.0, 446.0)  # from left to right
HIDDEN_SHARE = 0.05  # of the candidates, the worst, which are drawn on the lower edge
MAX_DOTS = 4000  # of a figure; of more candidates, every second or third is drawn


def progress(facts: RunFacts) -> dict[str, Drawing]:
    """Return the best fitness and the hypervolume over items, and the same over the workers' time, by name."""
    points = course(facts)
    if not any(point.best is not None for point in points):
        return {}
    volumes = hypervolume_course(facts)
    made = {}
    for over in ("items", "time"):
        made[f"progress_over_{over}"] = _best(facts, points, over)
        if volumes and volumes[-1][1] > 0:
            made[f"hypervolume_over_{over}"] = _hypervolume(volumes, over)
    return made


def _best(facts: RunFacts, points: Sequence[CoursePoint], over: str) -> Drawing:
    """Return every candidate's fitness, the best so far, and the best reference as a line."""
    last = points[-1]
    reference = max(
        ((facts.ranking.fitness(c.id), c) for c in facts.references if c.id in facts.ranking.values),
        key=lambda found: (found[0], -found[1].id),
        default=None,
    )
    drawing = Drawing(
        300,
        title=f"The best candidate so far, over {over}",
        description=f"The best adjusted mean score reaches {last.best:.4f} after {last.items:,} items"
        + ("." if reference is None else f"; the best reference, {reference[1].name}, has {reference[0]:.4f}."),
    )
    x = _across(points, over)
    scored = [point for point in points if point.fitness is not None]
    y = spanning(_seen(scored, None if reference is None else reference[0]), 250, 26)
    frame(drawing, x.scale, y, x_label=x.label, y_label="mean score, adjusted for item difficulty")
    step = 1 + len(scored) // MAX_DOTS
    drawing.dots((x(p), y(max(p.fitness, y.low))) for p in scored[::step] if p.fitness is not None and p.searched)
    if reference is not None:
        level = y(reference[0])
        drawing.line(x.scale.start, level, x.scale.end, level, "second")
        said = clipped(f"best reference: {facts.names[reference[1].id]}", 260)
        drawing.text(x.scale.end, level + (14 if level < 230 else -6), said, css="small", anchor="end")
    steps = [(x(p), y(p.best)) for p in points if p.best is not None]
    drawing.path(steps, "curve", steps=True)
    return drawing


def _seen(scored: Sequence[CoursePoint], reference: float | None) -> list[float]:
    """Return what the vertical axis must hold: the best so far, the best reference, all but the worst candidates."""
    searched = sorted(point.fitness for point in scored if point.fitness is not None and point.searched)
    best = [point.best for point in scored if point.best is not None]
    return [*searched[int(HIDDEN_SHARE * len(searched)) :], *best, *([] if reference is None else [reference])]


def _hypervolume(volumes: Sequence[tuple[CoursePoint, float]], over: str) -> Drawing:
    drawing = Drawing(
        300,
        title=f"Hypervolume of the front, over {over}",
        description=f"The front dominates {100 * volumes[-1][1]:.1f}% of the box around all scored candidates in the "
        f"end, {100 * volumes[len(volumes) // 2][1]:.1f}% half way.",
    )
    x = _across([point for point, _ in volumes], over)
    y = spanning([0.0, *(volume for _, volume in volumes)], 250, 26)
    frame(drawing, x.scale, y, x_label=x.label, y_label="share of the box that the front dominates")
    drawing.path([(x(point), y(volume)) for point, volume in volumes], "curve", steps=True)
    return drawing


class _Across(NamedTuple):
    """The horizontal axis of a course.

    Attributes:
        scale: of its values.
        label: below it.
        unit: seconds in a unit of the scale; None: the scale counts items.
    """

    scale: Scale
    label: str
    unit: float | None

    def __call__(self, point: CoursePoint) -> float:
        """Return where a point of the course is."""
        return self.scale(float(point.items) if self.unit is None else point.seconds / self.unit)


def _across(points: Sequence[CoursePoint], over: str) -> _Across:
    last = points[-1]
    if over == "items":
        label = "items scored in the search (with a gradient: three each)"
        return _Across(Scale(0.0, max(1.0, last.items), *PLOT), label, None)
    seconds = max(last.seconds, 1e-9)
    unit, words = (3600.0, "hours") if seconds > 7200 else (60.0, "minutes") if seconds > 180 else (1.0, "seconds")
    return _Across(Scale(0.0, seconds / unit, *PLOT), f"{words} of scoring, all workers together", unit)
