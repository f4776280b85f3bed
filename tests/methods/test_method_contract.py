"""Every built-in method passes the contract that outside authors' methods are held to."""

import pytest

from evomerge import methods
from evomerge.methods import Method
from evomerge.testing.methods import MethodContract


@pytest.mark.parametrize("method", [pytest.param(methods.get(name), id=name) for name in methods.built_in_names()])
class TestBuiltIn(MethodContract):
    @pytest.fixture(autouse=True)
    def _choose(self, method: Method) -> None:
        self.method = method
