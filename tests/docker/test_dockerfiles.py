"""The Dockerfiles keep the project's rules; hadolint finds nothing, where it is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docker.dockerfile import broken_rules, parse, sent_to_the_builder

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / "docker").glob("Dockerfile.*"))
JETSON = [path for path in DOCKERFILES if "jetson" in path.name]

each = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
each_jetson = pytest.mark.parametrize("path", JETSON, ids=lambda path: path.name)

GOOD = "FROM python:3.12-slim AS wheel\nFROM wheel\nCOPY pyproject.toml ./\nUSER 1000\n"


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_there_is_one_for_each_road() -> None:
    assert [path.name for path in DOCKERFILES] == [
        "Dockerfile.host",
        "Dockerfile.jetson",
        "Dockerfile.jetson7",
    ]


@each
def test_every_rule_is_kept(path: Path) -> None:
    assert broken_rules(read(path), ROOT) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("python:3.12-slim", "python"), "not pinned"),
        (("python:3.12-slim", "python:latest"), "not pinned"),
        (("python:3.12-slim", "python:slim"), "not pinned"),
        (("FROM python:3.12-slim", "ARG BASE=python\nFROM ${BASE}"), "not pinned"),
        (("USER 1000\n", ""), "it ends as root"),
        (("USER 1000", "USER 1000\nUSER root"), "it ends as root"),
        (("USER 1000", "USER 0:1000"), "it ends as 0:1000"),
        (("USER 1000", "USER somebody"), "not as a user with a number"),
        (("FROM wheel\n", "FROM wheel\nRUN curl -s https://example.org/x | sh\n"), "run unseen"),
        (
            ("FROM wheel\n", "FROM wheel\nRUN wget -qO- https://example.org/x \\\n  | sudo bash\n"),
            "run unseen",
        ),
        (("COPY", "ADD"), "COPY says what it does"),
        (("FROM wheel\n", "FROM wheel\nRUN --security=insecure true\n"), "more rights"),
        (("FROM wheel\n", "FROM wheel\nRUN chmod -R 777 /work\n"), "more rights"),
        (("FROM wheel\n", "FROM wheel\nRUN edge-sr build-engine --precision int8\n"), "no place in an image"),
        (("COPY pyproject.toml", "COPY step.plan"), "no place in an image"),
        (("COPY pyproject.toml", "COPY nothing.txt"), "there is no nothing.txt"),
        (("COPY pyproject.toml", "COPY Makefile"), ".dockerignore holds Makefile back"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[1].strip()[:40],
)
def test_a_broken_rule_is_found(change: tuple[str, str], sentence: str) -> None:
    assert broken_rules(GOOD, ROOT) == []
    assert any(sentence in found for found in broken_rules(GOOD.replace(*change), ROOT))


@each
def test_every_step_is_something_that_a_shell_can_read(path: Path) -> None:
    for step in (i for i in parse(read(path)) if i.word == "RUN"):
        script = re.sub(r"^(?:--\S+\s+)*", "", step.rest)
        run = subprocess.run(["sh", "-n", "-c", script], capture_output=True, text=True)
        assert run.returncode == 0, f"{path.name}:{step.line}: {run.stderr}"


@each
def test_the_extras_that_are_installed_exist(path: Path) -> None:
    _, _, table = read(ROOT / "pyproject.toml").partition("[project.optional-dependencies]\n")
    extras = set(re.findall(r"^([\w-]+) = \[", table.partition("\n[")[0], re.MULTILINE))
    named = re.findall(r'(?:\$1|"\.)\[([\w,-]+)\]"', read(path))
    assert named and "cpu" in extras
    assert {extra for group in named for extra in group.split(",")} <= extras


@each_jetson
def test_a_board_s_image_runs_edge_sr_as_a_member_of_both_groups_and_keeps_its_engines(path: Path) -> None:
    last = {i.word: i for i in parse(read(path))}
    text = read(path)
    assert last["ENTRYPOINT"].arguments == ["edge-sr"]
    assert "--groups video,render" in text
    assert "--system-site-packages" in text, "TensorRT belongs to the system's Python"
    state = re.search(r"STATE_DIRECTORY=(\S+)", text)
    assert state and last["VOLUME"].arguments == [state[1]]
    assert last["HEALTHCHECK"].rest == "NONE"


def test_the_builder_gets_no_tests_results_or_runs() -> None:
    sent = sent_to_the_builder(ROOT)
    tops = {name.partition("/")[0] for name in sent}
    rooms = {"edge_sr", "export", "calibration", "benchmarks"}
    assert tops == rooms | {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE"}
    assert not any(name.startswith("benchmarks/results/") or name.endswith(".pyc") for name in sent)
    assert "edge_sr/bundles/cxr-x4/bundle.json" in sent


@each
def test_hadolint_finds_nothing(path: Path) -> None:
    tool = shutil.which("hadolint") or shutil.which("hadolint", path=Path(sys.executable).parent)
    if tool is None:
        pytest.skip("hadolint is not installed; pip install 'edge-sr[docker-check]'")
    run = subprocess.run([tool, "--no-color", str(path)], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
