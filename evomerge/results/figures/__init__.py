"""Figures of a run as SVG written by hand: small, readable without color, the same in a page and in a paper.

    for name, figure in run_figures(RunFacts(run)).items(): ...
    save_figures(RunFacts(run), Path("figures"))

One figure a file. Must not compute what a figure shows: that is `evomerge.run.analysis`.
"""

from evomerge.results.figures._drawing import STYLE, Drawing
from evomerge.results.figures._figures import Figure, run_figures, save_figures

__all__ = ["STYLE", "Drawing", "Figure", "run_figures", "save_figures"]
