"""What the tests of the service share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_sr.bundle import Bundle


@pytest.fixture(scope="session")
def opened(bundle: Path) -> Bundle:
    """The tiny bundle, open."""
    return Bundle.open(bundle)


@pytest.fixture
def rig(opened: Bundle) -> Iterator[Any]:
    """A service that is ready, two slots wide: one image runs while one waits."""
    from tests.edge_sr.service.rig import running

    with running(opened, queue_size=1) as found:
        yield found
