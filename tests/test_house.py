"""The rules of the house that can be checked by machine (see CONTRIBUTING.md)."""

from pathlib import Path

import evomerge

PACKAGE = Path(evomerge.__file__).parent


def test_no_folder_has_the_name_of_a_public_function() -> None:
    """Importing a package sets its name on its parent: `import evomerge.search` would hide the function `search`."""
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    assert not folders & set(evomerge.__all__)
