"""The pages that people follow: their commands exist, their samples are true, their links lead on."""

from __future__ import annotations

import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from edge_sr.cli import cli
from edge_sr.cli.install_service import install_service
from edge_sr.device import Process
from edge_sr.doctor import DoctorReport, Finding, examine, human_lines
from edge_sr.service.settings import ServiceSettings
from tests.docker.dockerfile import parse as parse_dockerfile
from tests.edge_sr import trees

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "docker/README.md"]
JETSON = (ROOT / "docs/jetson.md").read_text(encoding="utf-8")
SERVICE = (ROOT / "docs/service.md").read_text(encoding="utf-8")
COMMAND = re.compile(
    r"(?:^|[|&]\s*)(?:sudo )?(?:\S*/)?(?:edge-sr|docker compose .* run --rm device)(?= )(?P<rest>[^|&>]*)"
)


def code_lines(text: str) -> Iterator[str]:
    """The lines of a page's code blocks, without the prompt."""
    fenced = False
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip().removeprefix("$ ")


def commands(path: Path) -> list[str]:
    """The arguments of every `edge-sr` in a file: in code, between backticks, in comments, in an image."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        lines = [*code_lines(text), *re.findall(r"`(edge-sr [^`]+)`", text)]
    elif path.suffix == ".yaml":
        lines = [line.lstrip("# ") for line in text.splitlines()]
    else:
        last = {i.word: i.arguments for i in parse_dockerfile(text) if i.word in ("ENTRYPOINT", "CMD")}
        lines = [i.rest for i in parse_dockerfile(text) if i.word == "RUN"]
        lines.append(shlex.join([*last["ENTRYPOINT"], *last["CMD"]]))
    found = [match["rest"].strip() for line in lines for match in COMMAND.finditer(line)]
    return [arguments for arguments in found if not re.match(r"[A-Z]+\b", arguments)]  # COMMAND is any


FILES = [*PAGES, *sorted((ROOT / "docker").glob("*.yaml")), *sorted((ROOT / "docker").glob("Dockerfile.*"))]
ALL = [(path.relative_to(ROOT).as_posix(), arguments) for path in FILES for arguments in commands(path)]


def parse(arguments: str) -> None:
    """Has the command line read the arguments, and do nothing.

    Raises:
        click.UsageError: It does not know the command or an option.
    """
    name, *rest = shlex.split(arguments, comments=True)
    command = cli.get_command(click.Context(cli), name)
    if command is None:
        raise click.UsageError(f"no command {name}")
    if "--help" not in rest:
        command.make_context(name, rest)


@pytest.mark.parametrize(("file", "arguments"), ALL, ids=[f"{file}: {text[:50]}" for file, text in ALL])
def test_every_command_on_a_page_exists_with_its_options(file: str, arguments: str) -> None:
    parse(arguments)


@pytest.mark.parametrize(
    "wrong", ["upscal a.png", "doctor --jsn", "build-engine --precision int4", "info a b"]
)
def test_a_command_that_does_not_exist_would_be_found(wrong: str) -> None:
    with pytest.raises(click.UsageError):
        parse(wrong)


def test_the_walk_through_and_the_images_have_commands_to_check() -> None:
    counts = {file: sum(name == file for name, _ in ALL) for file, _ in ALL}
    assert counts["docs/jetson.md"] >= 15
    assert counts["docs/service.md"] >= 6
    assert counts["docker/README.md"] >= 2 and counts["docker/compose.yaml"] >= 1
    assert {shlex.split(text)[0] for file, text in ALL if file == "docs/jetson.md"} == {
        *("doctor", "build-engine", "selftest", "upscale", "info"),
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        linked = page if not name else page.parent / name
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}, target


# ---- what doctor says


def board(
    tree: str, root: Path, *, is_venv: bool = True, sees_all: bool = True, gids: frozenset[int] | None = None
) -> DoctorReport:
    process = trees.technician(is_venv=is_venv, sees_all=sees_all)
    if gids is not None:
        process = trees.technician(gids=gids)
    return examine(trees.make(tree, root), process=process)


HIDDEN = ("onnxruntime", "openvino", "cv2", "cuda", "tensorrt")


@pytest.fixture
def no_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Python that sees no packages but those that a test puts into this folder."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.setattr(sys, "path", [str(site), *(p for p in sys.path if "-packages" not in p)])
    for name in [n for n in sys.modules if n.partition(".")[0] in HIDDEN]:
        monkeypatch.delitem(sys.modules, name)
    return site


def install(site: Path, **versions: str) -> None:
    """Puts packages there: `tensorrt="10.3.0"`; "__" stands for the dot in a module's name."""
    for name, version in versions.items():
        module, distribution = name.replace("__", "/"), name.replace("__", "_")
        trees.write(site, {f"{module}/__init__.py": ""})
        metadata = f"Metadata-Version: 2.1\nName: {distribution.replace('_', '-')}\nVersion: {version}\n"
        trees.write(site, {f"{distribution}-{version}.dist-info/METADATA": metadata})


def test_the_sample_of_doctor_is_what_it_prints(
    no_libraries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    install(no_libraries, onnxruntime="1.23.2", tensorrt="10.3.0", cuda__bindings="12.9.2")
    trees.write(no_libraries, {"cv2/__init__.py": ""})
    _, _, rest = JETSON.partition("<!-- doctor: orin-nano-jp62 -->\n")
    sample = [line.removeprefix("    ") for line in rest.partition("\n\n")[0].splitlines()]
    assert sample == human_lines(board(trees.ORIN_NANO_JP62, tmp_path / "root"))


def findings(site: Path, tmp_path: Path) -> Iterator[Finding]:
    """What doctor finds wrong on every tree, for several users, with nothing and with too much installed."""
    users: tuple[dict[str, Any], ...] = ({"sees_all": False}, {"gids": frozenset({1000})}, {})
    for turn in range(2):
        for tree in trees.TREES:
            for index, user in enumerate(users):
                yield from board(tree, tmp_path / f"{turn}{tree}{index}", **user).findings
        install(site, onnxruntime="1.23.2", onnxruntime_gpu="1.23.2", opencv_python="4.12.0", cv2="0")
    root = trees.make(trees.ORIN_NANO_JP62, tmp_path / "hot")
    trees.write(
        root, trees.thermal(("tj-thermal", "97500")) | {"proc/meminfo": trees.meminfo(7650336, 900000, 0)}
    )
    old = Process(1000, frozenset({44}), (3, 6), "/usr/bin/python3", False, True)
    yield from examine(root, process=old).findings


def test_every_blocker_and_warning_of_doctor_has_its_row(no_libraries: Path, tmp_path: Path) -> None:
    found = {(f.level, f.subject) for f in findings(no_libraries, tmp_path)}
    serious = {f"`[{level}] {subject}`" for level, subject in found if level in ("blocker", "warning")}
    rows = set(re.findall(r"^\| (`\[\w+\] \w+`)", JETSON, re.MULTILINE))
    assert serious == rows


def test_the_python_commands_of_the_pages_have_their_module() -> None:
    rooms = {"export", "calibration", "benchmarks"}
    named = {m for page in PAGES for m in re.findall(r"python -m (\w+) ", page.read_text(encoding="utf-8"))}
    assert named & rooms == named - {"pip", "venv", "pytest"}


PROGRAMS = ("sudo", "cat", "export", "mkdir", "curl", "systemctl", "journalctl", "echo")
SHELL = [line for page in (JETSON, SERVICE) for line in code_lines(page) if line.startswith(PROGRAMS)]


@pytest.mark.parametrize("line", SHELL)
def test_every_other_command_of_the_walk_through_is_something_that_a_shell_can_read(line: str) -> None:
    run = subprocess.run(["bash", "-n", "-c", line], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


# ---- the page "As a service"


def rows(heading: str) -> dict[str, str]:
    """The names between backticks in the first cells of the table under a heading, with the second cells."""
    _, _, section = SERVICE.partition(f"\n## {heading}\n")
    cells = re.findall(r"^\| (`[^|]+) \| ([^|]*) \|", section.partition("\n## ")[0], re.MULTILINE)
    return {name: second for first, second in cells for name in re.findall(r"`(\w+)`", first)}


def test_every_setting_of_the_service_has_its_row_with_its_default() -> None:
    said, fields = rows("Settings"), ServiceSettings.model_fields
    assert set(said) == set(fields)
    for name in ("queue_size", "deadline_s", "start_s", "drain_s", "max_connections", "max_bytes"):
        assert float(said[name]) == fields[name].default
    for names in (
        ("head_s", "upload_s", "send_s"),
        ("max_pixels", "max_output_pixels"),
        ("max_steps", "max_samples"),
    ):
        assert [float(text) for text in said[names[0]].split(", ")] == [
            fields[name].default for name in names
        ]


def test_every_figure_of_the_service_has_its_row() -> None:
    counters = pytest.importorskip("edge_sr.service.counters", reason="needs the extra service")
    from edge_sr.service.worker import Worker

    worker = Worker(lambda: pytest.fail("not opened"), warm_up=lambda _: None, slots=1)
    found = re.findall(r"^# TYPE (\w+) (\w+)$", counters.Counters(worker).text().decode(), re.MULTILINE)
    assert {name for name, _ in found if not name.endswith("_created")} == set(rows("Figures"))


def test_the_options_of_install_service_are_on_the_page() -> None:
    options = {name for option in install_service.params for name in (*option.opts, *option.secondary_opts)}
    assert options == {name for name in re.findall(r"--[\w-]+", SERVICE) if name in options}
