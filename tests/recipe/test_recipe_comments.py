"""What a person wrote beside a recipe's keys survives in the recipe and the card that are written with the model."""

from pathlib import Path

import evomerge
from evomerge.recipe import load_recipe

TEXT = """# Why these two: see the notes of March.
merge_method: task_arithmetic  # ties lost the tables
base_model: BASE
models:
  - model: ONE  # the math one
    parameters: {weight: 0.5}
  - {model: TWO, parameters: {weight: 0.25}}  # for its style
dtype: bfloat16
"""


def written(folder: Path, pico: dict[str, Path], text: str = TEXT) -> Path:
    file = folder / "recipe.yaml"
    for name in ("base", "one", "two"):
        text = text.replace(name.upper(), str(pico[name]))
    file.write_text(text)
    return file


def test_comments_survive_in_the_recipe_and_the_card(pico: dict[str, Path], tmp_path: Path) -> None:
    file = written(tmp_path, pico)
    evomerge.merge(file, tmp_path / "out", seed=7)
    kept = (tmp_path / "out" / "recipe.yaml").read_text()
    card = (tmp_path / "out" / "README.md").read_text()
    assert kept.startswith(file.read_text().rstrip()) and "seed: 7" in kept
    for comment in ("# Why these two: see the notes of March.", "# the math one", "# for its style"):
        assert comment in kept and comment in card
    assert load_recipe(tmp_path / "out" / "recipe.yaml").document == load_recipe(file).with_seed(7).document


def test_relative_parents_are_found_from_the_new_place(pico: dict[str, Path], tmp_path: Path) -> None:
    relative = TEXT.replace("BASE", "base").replace("ONE", "one").replace("TWO", "two")
    file = written(pico["base"].parent, pico, relative)
    evomerge.merge(file, tmp_path / "out")
    file.unlink()
    kept = load_recipe(tmp_path / "out" / "recipe.yaml")
    assert "parents_in" in kept.source and "# the math one" in kept.source
    evomerge.merge(kept, tmp_path / "again")
    first, second = (folder / "model.safetensors" for folder in (tmp_path / "out", tmp_path / "again"))
    assert first.read_bytes() == second.read_bytes()


def test_where_the_text_cannot_be_added_to_lines_of_comments_stand_first(pico: dict[str, Path], tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, pico, TEXT + "evomerge: {seed: 1}\n")).with_seed(2)
    text = recipe.to_yaml()
    assert text.startswith("# Why these two: see the notes of March.\n") and "seed: 2" in text
    (tmp_path / "again.yaml").write_text(text)
    assert load_recipe(tmp_path / "again.yaml") == recipe
