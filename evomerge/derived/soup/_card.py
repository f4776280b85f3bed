"""The sections of a soup's model card."""

from evomerge.derived.soup._soup import Soup
from evomerge.run import displayed_value


def soup_sections(soup: Soup) -> list[str]:
    """Return the card's sections about a greedy soup."""
    rows = [
        f"| `{soup.models[step.model]}` | {step.alone:.4f} | {'-' if step.mixed is None else f'{step.mixed:.4f}'} "
        f"| {'yes' if step.kept else 'no'} |"
        for step in soup.greedy.steps
    ]
    made = [
        "## How it was made",
        "",
        f"A greedy soup (Wortsman 2022): {len(soup.models)} checkpoints, best first, each kept if the average with it "
        "scored no worse on the selection items (weighted mean over the tasks).",
        "",
        "| checkpoint | alone | soup with it | kept |",
        "|---|---|---|---|",
        *rows,
    ]
    named = [("this model", "soup"), ("the best single checkpoint", "best")]
    scores = [
        f"| {label} | {o.name} ({o.metric}) | {displayed_value(o, soup.report[who][o.name].value):.4f} "
        f"| {soup.report[who][o.name].n} |"
        for label, who in named
        for o in soup.objectives
    ]
    judged = [
        "## Scores on items that chose nothing",
        "",
        "| model | task | score | items |",
        "|---|---|---|---|",
        *scores,
        "",
        soup.text,
    ]
    return ["\n".join(made), "\n".join(judged)]
