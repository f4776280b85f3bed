"""What is said where no cluster can be joined."""

from typing import Any

import pytest

from evomerge.errors import EvomergeError
from evomerge.run.workers.ray import connect


class Unreachable:
    """Stands for the module ray where nothing answers, or only with a token."""

    @staticmethod
    def init(**options: Any) -> None:
        raise ConnectionError("Failed to connect to GCS")


def test_a_cluster_that_may_want_a_token_is_named_with_the_way_in() -> None:
    with pytest.raises(EvomergeError, match="Failed to connect to GCS") as caught:
        connect(Unreachable, "10.0.0.1:6379", cpus=1)
    for word in ("~/.ray/auth_token", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE=disabled", "docs/cluster.md"):
        assert word in str(caught.value)


def test_without_an_address_there_is_no_token_to_ask_for() -> None:
    with pytest.raises(EvomergeError, match=r"workers\.count: 0 runs without") as caught:
        connect(Unreachable, None, cpus=1)
    assert "auth_token" not in str(caught.value)
