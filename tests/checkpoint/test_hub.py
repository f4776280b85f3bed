"""Uploading, against a local stand-in for the hub: the real client, no network."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
from huggingface_hub import set_client_factory
from huggingface_hub.utils import get_session

from evomerge.checkpoint import plan_upload, push
from evomerge.errors import EvomergeError, InvalidInput


class FakeHub:
    """Answers what creating a repository and committing small files ask for, and remembers the commit."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.created: list[dict] = []
        self.refuse = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if self.refuse:
            return httpx.Response(403, json={"error": "Forbidden: you may not write here"})
        if path.endswith("/repos/create"):
            self.created.append(json.loads(request.content))
            name = json.loads(request.content)["name"]
            return httpx.Response(200, json={"url": f"https://huggingface.co/me/{name}", "name": f"me/{name}"})
        if path.endswith("/validate-yaml"):
            return httpx.Response(200, json={"errors": [], "warnings": []})
        if "/preupload/" in path:
            files = json.loads(request.content)["files"]
            answers = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]
            return httpx.Response(200, json={"files": answers})
        if "/commit/" in path:
            for line in request.content.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.files[entry["value"]["path"]] = entry["value"]["content"]
            return httpx.Response(
                200, json={"commitUrl": "https://huggingface.co/me/x/commit/1", "commitOid": "1" * 40, "success": True}
            )
        return httpx.Response(200, json={})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    fake = FakeHub()
    monkeypatch.setenv("HF_TOKEN", "hf_SENTINEL")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    set_client_factory(lambda: httpx.Client(transport=httpx.MockTransport(fake)))
    yield fake
    set_client_factory(lambda: httpx.Client())
    get_session()


def test_push_uploads_every_file_in_one_commit(hub: FakeHub, pico: dict[str, Path]) -> None:
    upload = push(pico["one"], "me/merged", private=True)
    assert set(hub.files) == {name for name, _ in upload.files} == {path.name for path in pico["one"].iterdir()}
    assert hub.created[0]["name"] == "merged"
    assert "me/merged" in str(upload.url)
    assert "hf_SENTINEL" not in str(upload)


def test_a_refusal_is_one_sentence(hub: FakeHub, pico: dict[str, Path]) -> None:
    hub.refuse = True
    with pytest.raises(EvomergeError, match="upload to me/merged failed") as error:
        push(pico["one"], "me/merged")
    assert "hf_SENTINEL" not in str(error.value)
    assert "\n" not in str(error.value)


def test_plan_upload_checks_folder_and_name(pico: dict[str, Path], tmp_path: Path) -> None:
    assert ("model.safetensors", (pico["one"] / "model.safetensors").stat().st_size) in plan_upload(
        pico["one"], "me/x"
    ).files
    with pytest.raises(InvalidInput, match="no repository name"):
        plan_upload(pico["one"], "me/x/y/z")
    with pytest.raises(InvalidInput, match=r"config\.json is missing"):
        plan_upload(tmp_path, "me/x")
