"""Methods of others: found by name, complete or refused, merged into a folder and into a live model alike."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from evomerge import methods, plugins
from evomerge.cli import cli
from evomerge.errors import InvalidFile, InvalidInput
from evomerge.methods import Block, Inputs, LinearCombination, Method, Parameter, Settings, Statistics
from evomerge.testing.methods import MethodContract


class Clip(Method):
    """The base plus the first model's task vector, cut to a range."""

    name = "clip"
    title = "Clipped task vector"
    formula = "base + clamp(x - base, -limit, limit)"
    paper = "none"
    base = "required"
    inputs = (1, 1)
    parameters = (Parameter(name="limit", per="merge", default=0.01, low=0.0, gene=(0.001, 0.1), doc="largest change"),)

    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> float:
        return float(settings.shared("limit"))

    def combine(self, out: torch.Tensor, block: Block, coefficients: float) -> None:
        base = block.scratch.load("base", block.base)
        torch.add(base, out.copy_(block.models[0]).sub_(base).clamp_(-coefficients, coefficients), out=out)


class TestClip(MethodContract):
    method = Clip()
    shows_infinity = False


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Entry points: name -> object."""
    found: dict[str, Any] = {}
    monkeypatch.setattr("evomerge.plugins.plugin_names", lambda group: tuple(sorted(found)))
    monkeypatch.setattr("evomerge.plugins.load_plugin", lambda group, name: found[name])
    return found


def test_registered_methods_are_known_by_name() -> None:
    assert methods.register(Clip).name == "clip" and methods.names()[-1] == "clip"
    first = methods.get("clip")
    methods.register(Clip())  # as when a notebook's cell runs again
    assert isinstance(first, Clip) and methods.get("clip") is not first
    assert methods.registered() == (methods.get("clip"),)


def test_built_in_names_stay() -> None:
    class Mine(Clip):
        name = "ties"

    with pytest.raises(InvalidInput, match='the merge method "ties" comes with evomerge'):
        methods.register(Mine)


def test_what_is_no_method_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"found 'ties', expected an object .* of evomerge\.methods\.Method"):
        methods.register("ties")  # type: ignore[arg-type]


def test_entry_points_are_methods(installed: dict[str, Any]) -> None:
    installed["clip"] = Clip
    assert "clip" in methods.names() and isinstance(methods.get("clip"), Clip)
    assert methods.get("clip") is methods.get("clip") and methods.registered() == ()
    installed["other"] = Clip
    with pytest.raises(InvalidInput, match=r'"other" of evomerge\.methods names itself "clip"'):
        methods.get("other")
    with pytest.raises(InvalidInput, match='Did you mean "clip"'):
        methods.get("clib")


def test_entry_points_are_those_of_installed_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    point = SimpleNamespace(name="clip", value="pack:Clip", dist=None, load=lambda: Clip)
    monkeypatch.setattr(plugins, "_installed", lambda group: {"clip": point} if group == "methods" else {})
    plugins.load_plugin.cache_clear()
    assert isinstance(methods.get("clip"), Clip)
    plugins.load_plugin.cache_clear()


def test_an_incomplete_method_cannot_be_created() -> None:
    class Nameless(LinearCombination):
        title = formula = paper = "x"
        base = "input"
        inputs = (1, None)
        parameters = ()

        def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> Any: ...

    with pytest.raises(TypeError, match="Nameless does not say its name"):
        Nameless()

    class Half(Clip):
        combine = Method.combine

    with pytest.raises(TypeError, match="abstract"):
        Half()


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        ("name", "two words"),
        ("base", "needed"),
        ("inputs", (0, 1)),
        ("inputs", (3, 2)),
        ("parameters", [Parameter(name="t", per="merge")]),
        ("parameters", (Parameter(name="t", per="merge"),) * 2),
    ],
)
def test_facts_that_make_no_sense_are_refused_where_they_are_said(fact: str, value: Any) -> None:
    with pytest.raises(TypeError, match=fact):
        type("Wrong", (Clip,), {fact: value})


def test_a_method_of_ones_own_merges_into_both_sinks(pico: dict[str, Path], tmp_path: Path) -> None:
    from evomerge.checkpoint import Parents
    from evomerge.engine import LiveModel, make_plan
    from evomerge.recipe import load_recipe

    methods.register(Clip)
    file, out = tmp_path / "recipe.yaml", tmp_path / "out"
    models = f"base_model: {pico['base']}\nmodels: [{{model: {pico['one']}}}]"
    file.write_text(f"merge_method: clip\n{models}\nparameters: {{limit: 0.002}}\n")
    assert CliRunner().invoke(cli, ["merge", str(file), str(out)]).exit_code == 0
    recipe = load_recipe(file)
    parents = Parents(recipe.models, recipe.root, recipe.commits)
    live = LiveModel(parents)
    live.apply(make_plan(recipe, parents))
    written, base = load_file(out / "model.safetensors"), load_file(pico["base"] / "model.safetensors")
    state = live.model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in written.items())
    changes = torch.cat([(written[name].float() - base[name].float()).abs().flatten() for name in written])
    assert 0 < float(changes.max()) < 0.01


def test_recipes_check_the_parameters_of_ones_own_method(pico: dict[str, Path]) -> None:
    from evomerge.recipe import parse_recipe

    methods.register(Clip)
    document = {"merge_method": "clip", "base_model": str(pico["base"]), "models": [{"model": str(pico["one"])}]}
    for wrong, sentence in (({"limit": -1.0}, "from 0 to inf"), ({"limits": 1.0}, 'Did you mean "limit"')):
        with pytest.raises(InvalidFile, match=sentence):
            parse_recipe({**document, "parameters": wrong})


def test_the_command_lists_and_describes_ones_own_method() -> None:
    methods.register(Clip)
    assert "clip               Clipped task vector" in CliRunner().invoke(cli, ["methods"]).output
    assert "largest change" in CliRunner().invoke(cli, ["methods", "clip"]).output
