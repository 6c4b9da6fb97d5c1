"""Results on disk: what was written reads back, and all else is refused with every reason."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_sr.bench.storage import check_writable, read_result, to_json, write_result
from edge_sr.errors import OutputError, ResultError
from tests.edge_sr.bench.results import record_of, result_of, row_of

Change = Callable[[dict[str, Any]], object]


def write(path: Path, record: object) -> Path:
    path.write_text(json.dumps(record), encoding="utf-8")
    return path


def test_a_result_reads_back_as_it_was_written(tmp_path: Path) -> None:
    result = result_of([row_of(), row_of(0.05, precision="int8")])
    write_result(tmp_path / "new" / "a.json", result)
    assert read_result(tmp_path / "new" / "a.json") == result
    assert "\n" not in to_json(result)


CHANGES: dict[str, tuple[Change, str]] = {
    "nan": (lambda r: r["rows"][0]["stages"]["loop"].__setitem__(3, float("nan")), "rows.0.stages.loop.3"),
    "infinity": (lambda r: r["rows"][0]["batches"][0]["latency"].__setitem__(0, float("inf")), "latency.0"),
    "negative": (lambda r: r["rows"][0]["stages"]["read"].__setitem__(0, -1.0), "stages.read.0"),
    "text for a number": (lambda r: r["rows"][0]["stages"]["read"].__setitem__(0, "1.0"), "stages.read.0"),
    "no samples": (lambda r: r["rows"][0]["warm_up"].update(seconds=[]), "rows.0.warm_up.seconds"),
    "no rows": (lambda r: r.update(rows=[]), "rows"),
    "one sample less": (lambda r: r["rows"][0]["stages"]["loop"].pop(), "same images"),
    "no time": (lambda r: r["rows"][0]["stages"].update(latency=[0.0] * 40), "took no time"),
    "unknown field": (lambda r: r["environment"].update(hostname="x"), "environment.hostname"),
    "missing field": (lambda r: r["settings"].pop("seed"), "settings.seed"),
    "backwards": (lambda r: r["rows"][0]["loads"][0].update(finished=[0.2, 0.2]), "finished before"),
    "two of a case": (lambda r: r["rows"].append(copy.deepcopy(r["rows"][0])), "same case"),
    "other rounds": (lambda r: r["rows"].append(row_of(count=7, precision="int8")), "same rounds"),
    "no digest": (lambda r: r["bundle"].update(digest="abc"), "bundle.digest"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_damaged_result_is_refused_by_the_place_of_the_damage(tmp_path: Path, name: str) -> None:
    record = copy.deepcopy(record_of())
    change, wanted = CHANGES[name]
    change(record)
    with pytest.raises(ResultError, match=wanted) as caught:
        read_result(write(tmp_path / "a.json", record))
    assert "edge-sr bench" in caught.value.hint


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    record = copy.deepcopy(record_of())
    for change, _ in (CHANGES["nan"], CHANGES["unknown field"], CHANGES["missing field"]):
        change(record)
    with pytest.raises(ResultError) as caught:
        read_result(write(tmp_path / "a.json", record))
    for wanted in ("rows.0.stages.loop.3", "environment.hostname", "settings.seed"):
        assert wanted in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("version", [2, 0, "1", None, True, 1.5, [1]])
def test_another_version_is_refused_with_what_is_read(tmp_path: Path, version: object) -> None:
    with pytest.raises(ResultError, match=r"schema version .*, this edge-sr reads 1"):
        read_result(write(tmp_path / "a.json", record_of() | {"schema_version": version}))


@pytest.mark.parametrize("record", [[], {}, 5, "text", None, {"kind": "edge-sr/loop", "schema_version": 1}])
def test_what_is_no_result_of_bench_is_refused_as_that(tmp_path: Path, record: object) -> None:
    with pytest.raises(ResultError, match="no result of edge-sr bench"):
        read_result(write(tmp_path / "a.json", record))


@pytest.mark.parametrize("keep", [0, 1, 500, -2])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "a.json"
    path.write_text(to_json(result_of())[:keep], encoding="utf-8")
    with pytest.raises(ResultError, match="is no JSON"):
        read_result(path)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"missing\.json cannot be read: No such file"):
        read_result(tmp_path / "missing.json")
    with pytest.raises(ResultError, match="no plain file"):
        read_result(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ResultError, match="no plain file"):
        read_result(tmp_path / "pipe")


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a folder"):
        check_writable(tmp_path)
    with pytest.raises(OutputError, match="cannot be made"):
        check_writable(tmp_path / "file" / "a.json")
    check_writable(tmp_path / "new" / "a.json")
    assert (tmp_path / "new").is_dir()
