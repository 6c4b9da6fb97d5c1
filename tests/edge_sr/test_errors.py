"""The error tree: what a user reads, and what a caller can catch."""

from __future__ import annotations

import pytest

from edge_sr import errors
from edge_sr.errors import BackendError, EdgeSRError, EngineError

EVERY = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_every_error_is_an_edge_sr_error_with_a_message_and_a_hint(kind: type[EdgeSRError]) -> None:
    error = kind("wanted 4, got 5", hint="take 4")

    assert isinstance(error, EdgeSRError)
    assert (error.message, error.hint) == ("wanted 4, got 5", "take 4")
    assert kind.__doc__


def test_the_hint_follows_the_message_in_parentheses() -> None:
    assert str(EdgeSRError("wanted 4, got 5", hint="take 4")) == "wanted 4, got 5 (take 4)"


def test_an_error_without_a_hint_reads_as_its_message() -> None:
    assert str(EdgeSRError("wanted 4, got 5")) == "wanted 4, got 5"


def test_an_engine_that_fails_is_a_backend_that_fails() -> None:
    assert issubclass(EngineError, BackendError)
