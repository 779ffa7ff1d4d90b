"""Servers that the tests of this folder ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from running_server import Client, running
from small_models import small_model

from edgesam_export.modeling.sam import SamModel
from edgesam_export.serve.backends import Backend, backend_of_model
from edgesam_export.serve.sessions import Limits


@pytest.fixture(scope="package")
def small() -> SamModel:
    """A network of milliseconds."""
    return small_model()


@pytest.fixture(scope="package")
def small_backend(small: SamModel) -> Backend:
    """The network in PyTorch, called ``small/torch``."""
    return backend_of_model(small)


@pytest.fixture(scope="package")
def client(small_backend: Backend) -> Iterator[Client]:
    """A server with the default limits; afterwards no request has broken it."""
    with running([small_backend]) as client:
        yield client
        assert client.problems == []


@pytest.fixture
def serving(small_backend: Backend) -> Iterator[Callable[..., Client]]:
    """``serving(host=..., **limits)`` -> a server of its own with these limits."""
    with ExitStack() as stack:

        def serve(host: str = "127.0.0.1", **limits: Any) -> Client:
            return stack.enter_context(running([small_backend], Limits(**limits), host))

        yield serve
