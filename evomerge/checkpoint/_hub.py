"""Uploading a finished folder to the Hugging Face Hub."""

from pathlib import Path
from typing import NamedTuple

from evomerge.checkpoint._folder import Checkpoint
from evomerge.errors import EvomergeError, InvalidInput, first_line


class Upload(NamedTuple):
    """What is uploaded to the Hugging Face Hub.

    Attributes:
        repo: name of the repository there.
        files: name and size in bytes of each.
        url: of the repository; None before the upload.
    """

    repo: str
    files: tuple[tuple[str, int], ...]
    url: str | None


def plan_upload(folder: Path | str, repo: str) -> Upload:
    """Check a folder and list what would be uploaded.

    Args:
        folder: a finished model folder.
        repo: name of the repository on the hub.

    Raises:
        InvalidInput: not a model folder, or not a name that the hub accepts.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise InvalidInput(f'"{repo}" is no repository name: {error}') from None
    folder = Path(folder)
    Checkpoint(folder, str(folder))
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return Upload(repo, tuple((path.name, path.stat().st_size) for path in files), None)


def push(folder: Path | str, repo: str, *, private: bool = False) -> Upload:
    """Create the repository if necessary and upload the folder in one commit.

    Args:
        folder: a finished model folder.
        repo: name of the repository on the hub.
        private: whether a new repository is private.

    Raises:
        InvalidInput: see `plan_upload`.
        EvomergeError: the hub refused or could not be reached.
    """
    from huggingface_hub import HfApi

    planned = plan_upload(folder, repo)
    api = HfApi()
    try:
        created = api.create_repo(repo, private=private, exist_ok=True, repo_type="model")
        api.upload_folder(
            repo_id=created.repo_id,
            folder_path=folder,
            allow_patterns=[name for name, _ in planned.files],
            commit_message="Upload merge made with evomerge",
        )
    except Exception as error:  # the hub's errors come from several libraries; the user needs the sentence
        raise EvomergeError(f"upload to {repo} failed: {first_line(error)}; log in with `hf auth login`") from error
    return planned._replace(url=str(created))
