"""All figures of a run by name, and how they become files."""

from collections.abc import Collection, Mapping
from pathlib import Path

from evomerge.errors import InvalidInput
from evomerge.results._shares import Shares, shares_of
from evomerge.results.figures._drawing import Drawing
from evomerge.results.figures.comparisons import comparisons
from evomerge.results.figures.front import fronts
from evomerge.results.figures.genes import importance, movement
from evomerge.results.figures.heat_map import heat_map
from evomerge.results.figures.items import items
from evomerge.results.figures.pools import pools
from evomerge.results.figures.progress import progress
from evomerge.run import RunFacts, gene_importance, outcomes, short_names

PNG_ZOOM = 3  # pixels a unit: 1,380 across


class Figure:
    """One figure, which a notebook shows as it is.

    Attributes:
        name: of its files.
        drawing: what it shows.
    """

    def __init__(self, name: str, drawing: Drawing):
        self.name, self.drawing = name, drawing

    @property
    def title(self) -> str:
        """What it shows, in a few words."""
        return self.drawing.title

    def svg(self) -> str:
        """Return it as an SVG file of its own."""
        return self.drawing.svg(standalone=True)

    def _repr_svg_(self) -> str:
        return self.svg()

    def __repr__(self) -> str:
        return f"Figure({self.name!r}: {self.title})"

    def png(self) -> bytes:
        """Return it as a PNG.

        Raises:
            InvalidInput: resvg-py is not installed.
        """
        try:
            import resvg_py
        except ImportError:
            raise InvalidInput("PNG figures need resvg-py: pip install 'evomerge[figures]', or take the SVG") from None
        made: bytes = bytes(resvg_py.svg_to_bytes(svg_string=self.svg(), zoom=PNG_ZOOM))
        return made


def run_figures(
    facts: RunFacts, shares: Shares | None = None, *, only: Collection[str] | None = None
) -> dict[str, Figure]:
    """Return the figures that a run has something for, by name, in the order of a report.

    Args:
        facts: of the run.
        shares: of the pick, if they were found already.
        only: names of the figures that are wanted, of the two quick ones "comparisons" and "front"; None = all.
    """
    if only is not None:
        quick = {"comparisons": comparisons(facts), **_numbered("front", fronts(facts))}
        return {name: Figure(name, drawing) for name, drawing in quick.items() if drawing is not None and name in only}
    shares = shares_of(facts.run, facts.pick) if shares is None and facts.pick is not None else shares
    found, genes = outcomes(facts), gene_importance(facts)
    drawings: dict[str, Drawing | None] = {
        "comparisons": comparisons(facts),
        **_numbered("front", fronts(facts)),
        **progress(facts),
        "shares": None if shares is None else _heat_map(shares),
        "importance": importance(genes),
        "movement": movement(facts, genes),
        "pools": pools(facts),
        "items": None if found is None else items(facts, found),
    }
    return {name: Figure(name, drawing) for name, drawing in drawings.items() if drawing is not None}


def save_figures(facts: RunFacts, folder: Path, *, formats: tuple[str, ...] = ("svg",)) -> list[Path]:
    """Write every figure of a run into a folder.

    Args:
        facts: of the run.
        folder: is made if need be; files of the same names are replaced.
        formats: "svg" and "png".

    Returns:
        The files.

    Raises:
        InvalidInput: the folder cannot be written to, or PNG files are wanted without resvg-py.
    """
    written = []
    for figure in run_figures(facts).values():
        for suffix in formats:
            content = figure.svg().encode() if suffix == "svg" else figure.png()
            path = folder / f"{figure.name}.{suffix}"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            except OSError as error:
                raise InvalidInput(f"{path}: cannot be written ({error.strerror}); name another folder") from None
            written.append(path)
    return written


def _heat_map(shares: Shares) -> Drawing | None:
    parents = list(dict.fromkeys(parent for row in shares.factors.values() for parent in row))
    short = short_names(dict(enumerate(parents)))
    return heat_map(shares.factors, {parent: short[i] for i, parent in enumerate(parents)}, shares.title)


def _numbered(name: str, drawings: list[Drawing]) -> Mapping[str, Drawing]:
    return {name if number == 1 else f"{name}_{number}": drawing for number, drawing in enumerate(drawings, 1)}
