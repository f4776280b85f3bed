"""`evomerge push FOLDER REPO`."""

from pathlib import Path

import click

from evomerge.cli._options import JSON
from evomerge.cli._output import print_json
from evomerge.errors import format_bytes


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("repo")
@click.option("--private", is_flag=True, help="Create the repository as a private one.")
@click.option("--dry-run", is_flag=True, help="List what would be uploaded, and stop.")
@JSON
def command(folder: Path, repo: str, private: bool, dry_run: bool, as_json: bool) -> None:
    """Upload a model folder to the Hugging Face Hub (log in first with `hf auth login`, or set HF_TOKEN).

    \b
    Example:
      evomerge push merged/ my-name/my-merge --dry-run
    """
    from evomerge.checkpoint import plan_upload, push

    upload = plan_upload(folder, repo) if dry_run else push(folder, repo, private=private)
    if as_json:
        files = [{"name": name, "bytes": count} for name, count in upload.files]
        print_json({"version": 1, "repo": repo, "files": files, "url": upload.url})
        return
    for name, count in upload.files:
        click.echo(f"{format_bytes(count):>10}  {name}", err=not dry_run)
    click.echo(upload.url or f"would be uploaded to {repo}")
