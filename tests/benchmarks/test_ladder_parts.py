"""What a long run keeps of the seeds that it has finished."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.ladder.parts import Parts
from benchmarks.ladder.samples import SeedResult
from edge_sr.errors import ConfigError

REQUEST = {"data": "abc", "batch": 4}


@pytest.fixture
def result() -> SeedResult:
    rng = np.random.default_rng(0)
    return SeedResult(
        images={"fp32": rng.integers(0, 256, (2, 4, 4)).astype(np.uint8)},
        errors={"int8": rng.random((2, 3))},
        latent_std=rng.random((2, 3)),
        values={"fp32": {"psnr_db": rng.random(2), "ssim": rng.random(2)}},
        to_fp32={"int8": {"psnr_db": rng.random(2)}},
    )


def test_a_seed_comes_back_as_it_was(result: SeedResult, tmp_path: Path) -> None:
    Parts(tmp_path / "name", REQUEST).store(3, result)
    found = Parts(tmp_path / "name", REQUEST).load(3)
    assert found is not None
    np.testing.assert_equal(vars(found), vars(result))
    assert found.images["fp32"].dtype == np.uint8


def test_another_seed_or_another_request_finds_nothing(result: SeedResult, tmp_path: Path) -> None:
    Parts(tmp_path / "name", REQUEST).store(3, result)
    assert Parts(tmp_path / "name", REQUEST).load(4) is None
    assert Parts(tmp_path / "name", REQUEST | {"batch": 2}).load(3) is None
    assert Parts(tmp_path / "other", REQUEST).load(3) is None


def test_clearing_removes_the_own_files_alone(result: SeedResult, tmp_path: Path) -> None:
    ours, theirs = Parts(tmp_path / "name", REQUEST), Parts(tmp_path / "name", {})
    for parts in (ours, theirs):
        parts.store(0, result)
    ours.clear(range(2))
    assert ours.load(0) is None
    assert theirs.load(0) is not None


@pytest.mark.parametrize("content", [b"", b"PK no archive", b"[1, 2]"])
def test_a_damaged_file_is_an_error_that_names_it(content: bytes, result: SeedResult, tmp_path: Path) -> None:
    parts = Parts(tmp_path / "name", REQUEST)
    parts.store(0, result)
    (path,) = tmp_path.iterdir()
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=path.name) as caught:
        parts.load(0)
    assert "remove it" in caught.value.hint
