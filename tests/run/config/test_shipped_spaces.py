"""Every space that comes with evomerge passes the checks of a search, as it is."""

from pathlib import Path
from typing import Any

import pytest

from evomerge.engine import make_plan
from evomerge.errors import InvalidFile
from evomerge.run import check_search
from evomerge.space import shipped_spaces
from evomerge.testing.pico import write_pico
from tests.engine.test_vision_language import VISION_CONFIGS
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


def test_vision_language_parents_are_searched_by_part(tmp_path: Path) -> None:
    """Every reference is a point of a space of all parts; of the language model alone, the base is."""
    config = VISION_CONFIGS["llava"]
    base = write_pico(tmp_path / "base", 0, family="llava", **config)
    models = {"base": base, "one": write_pico(tmp_path / "one", 1, family="llava", near=base, **config)}
    models["two"] = models["one"]
    parents = {"base": str(base), "models": [str(models["one"])]}
    genes = {"genes": {"weight": {"per": ["model", {"groups": ["q_proj"]}], "range": [0, 1.5]}}}
    every: dict[str, Any] = {
        "method": "task_arithmetic",
        "modules": dict.fromkeys(("text_decoder", "vision_tower"), genes)
        | {"multi_modal_projector": {"genes": {"weight": {"range": [0, 1]}}}},
    }
    contained = []
    for space in ("vision_language", every):
        setup = check_search(write_search(tmp_path, models, space=space, parents=parents))
        contained.append(set(setup.reference_points))
        plan = make_plan(setup.recipe(setup.space.decode(setup.space.start)), setup.parents)
        kept = {tensor.name.split(".")[0] for tensor in plan.tensors if tensor.copied}
        assert ("vision_tower" in kept) == (space == "vision_language")
    assert contained[0] == {str(base)} and len(contained[1]) == 6
    wrong = {"method": "task_arithmetic", "modules": {"vision_towr": genes}}
    with pytest.raises(InvalidFile, match='Did you mean "vision_tower"'):
        check_search(write_search(tmp_path, models, space=wrong, parents=parents))
