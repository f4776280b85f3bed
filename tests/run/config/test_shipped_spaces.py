"""Every space that comes with evomerge passes the checks of a search, as it is."""

from pathlib import Path
from typing import Any

import pytest

from evomerge.errors import InvalidFile
from evomerge.run import check_search
from evomerge.space import shipped_spaces
from tests.run.pico_search import write_search


@pytest.mark.parametrize("name", sorted(shipped_spaces()))
def test_a_shipped_space_passes_the_checks(name: str, pico: dict[str, Path], tmp_path: Path) -> None:
    parents: dict[str, Any] = {
        "base": str(pico["base"]),
        "models": [str(pico[other]) for other in ("one", "two", "three")],
    }
    if "slerp" in name:
        parents["models"] = [str(pico["one"])]
    setup = check_search(write_search(tmp_path, pico, space=name, parents=parents))
    setup.space.domain.check(setup.space.start)
    assert setup.space.domain.size > 0


@pytest.mark.parametrize("name", ["method_choice", "parent_selection"])
@pytest.mark.parametrize("optimizer", ["cma", "cmaes_lra", "guided"])
def test_what_an_optimizer_cannot_vary_is_refused_with_what_can(
    name: str, optimizer: str, pico: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(InvalidFile, match=f"{optimizer} cannot vary categories; use catcma"):
        check_search(write_search(tmp_path, pico, space=name, optimizer=optimizer))
