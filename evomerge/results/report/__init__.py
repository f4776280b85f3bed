"""The report of a run: one HTML page that needs no network, and the same in a few lines of a terminal.

    write_report(run)                       # into the run folder, as report.html
    print("\\n".join(summary_lines(RunFacts(run))))

Must not compute what it shows (`evomerge.run.analysis` does) nor draw (`results.figures`).
"""

from evomerge.results.report._page import REPORT, report_page, write_report
from evomerge.results.report._summary import summary_lines

__all__ = ["REPORT", "report_page", "summary_lines", "write_report"]
