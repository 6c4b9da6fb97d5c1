from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from benchmarks.environment import command, environment
from benchmarks.loop import timing
from benchmarks.records import check_writable, save, to_json
from edge_sr.errors import OutputError


def test_a_command_tells_no_folder_of_the_machine_that_ran_it() -> None:
    words = ["quality", "--bundle", "/home/someone/bundles/cxr-x4", "--pairs=../data/test", "--seeds", "3"]
    assert command(words) == (
        "python -m benchmarks quality --bundle FOLDER/cxr-x4 --pairs=FOLDER/test --seeds 3"
    )


def test_the_environment_names_machine_versions_and_commit() -> None:
    made = environment(["loop"], threads=2)
    assert made.cpu
    assert made.cores >= 1
    assert {"python", "numpy", "torch"} <= set(made.versions)
    assert re.fullmatch(r"unknown|[0-9a-f]{40}( with changes)?", made.commit)


def test_a_list_of_numbers_stands_on_one_line_and_reads_back() -> None:
    record = timing([1e-07, 2.5, -3.0], note="numbers")
    text = to_json(record)
    assert '"seconds": [1e-07, 2.5, -3.0]' in text
    assert json.loads(text) == record.model_dump(mode="json")


def test_results_are_written_beside_each_other(tmp_path: Path) -> None:
    out = tmp_path / "results" / "cxr-x4.v1"
    written = save(out, record=timing([1.0], note="one"), markdown="# one\n", png=b"png")
    assert [path.name for path in written] == ["cxr-x4.v1.png", "cxr-x4.v1.md", "cxr-x4.v1.json"]
    assert sorted(out.parent.iterdir()) == sorted(written)


def test_a_result_that_cannot_be_written_leaves_nothing_half_written(tmp_path: Path) -> None:
    (tmp_path / "name.md").mkdir()  # in the way of the second file
    with pytest.raises(OutputError):
        save(tmp_path / "name", record=timing([1.0], note="one"), markdown="# one\n", png=b"png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["name.md", "name.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot be written"):
        check_writable(tmp_path / "name")


def test_a_file_in_place_of_the_folder_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        check_writable(tmp_path / "file" / "name")
