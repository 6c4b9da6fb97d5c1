"""The page's files and their headers, and what the page asks before it sends an image."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from edge_sr.bundle import Bundle

pytest.importorskip("tests.edge_sr.service.rig")

from edge_sr.service.page import POLICY, load_static
from edge_sr.service.parameters import Include
from tests.edge_sr.service.rig import Rig, running
from tests.fakes import write_tiny_bundle

NAMES = sorted(load_static())


def test_the_page_is_at_the_root_and_says_what_it_is(rig: Rig) -> None:
    answer = rig.client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.content == rig.client.get("/static/index.html").content
    assert "Research use only" in answer.text
    assert "Not for diagnosis" in answer.text


@pytest.mark.parametrize("name", NAMES)
def test_every_file_is_served_as_it_lies_with_its_type_and_the_policy(rig: Rig, name: str) -> None:
    answer = rig.client.get(f"/static/{name}")
    kinds = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(kinds[name.rpartition(".")[2]])
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in answer.headers
    assert answer.content == (resources.files("edge_sr.service") / "static" / name).read_bytes()


def test_the_policy_lets_nothing_in_but_files_of_this_service() -> None:
    rules = dict(rule.split(" ", 1) for rule in POLICY.split("; "))
    assert rules["default-src"] == "'none'"
    assert {rules[name] for name in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}
    assert rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert "unsafe" not in POLICY


def test_a_file_that_did_not_change_is_not_sent_again(rig: Rig) -> None:
    first = rig.client.get("/")
    for tag in (first.headers["etag"], f'"other", W/{first.headers["etag"]}', "*"):
        again = rig.client.get("/", headers={"if-none-match": tag})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    assert rig.client.get("/", headers={"if-none-match": '"other"'}).status_code == 200
    assert first.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "path",
    [
        "/static/",
        "/static/other.js",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e%2f%2e%2e%2f__init__.py",
        "/static//etc/passwd",
        "/static/index.html%00.js",
        "/static/index.html/",
        "/index.html",
    ],
)
def test_no_other_path_leads_to_a_file(rig: Rig, path: str) -> None:
    answer = rig.client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("name", [n for n in NAMES if n.endswith((".html", ".js", ".css", ".svg"))])
def test_no_file_names_another_place_than_this_service(name: str) -> None:
    text = load_static()[name].content.decode()
    found = set(
        re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"')]*", re.sub(r"^\s*//.*$", "", text, flags=re.M))
    )
    assert found <= {"http://www.w3.org/2000/svg"}


def test_the_markup_has_no_inline_script_style_or_handler() -> None:
    text = load_static()["index.html"].content.decode()
    assert not re.findall(r"<style|\sstyle=|\son[a-z]+=|javascript:", text)
    assert all(" src=" in tag for tag in re.findall(r"<script[^>]*>", text))


def test_what_the_markup_refers_to_is_there() -> None:
    files = load_static()
    for name in NAMES:
        text = files[name].content.decode()
        wanted = re.findall(r"/static/([\w.-]+)", text) + re.findall(r"from \"\./([\w.-]+)\"", text)
        assert set(wanted) <= set(files), name


def test_the_description_of_the_service_says_what_it_runs_and_within_which_limits(rig: Rig) -> None:
    answer = rig.client.get("/v1/info")
    found: dict[str, Any] = answer.json()
    assert answer.headers["cache-control"] == "no-store"
    assert found["status"] == "ready"
    assert found["runtime"] == {"precision": "fp32", "backend": "fake", "version": "0", "provider": "numpy"}
    assert found["model"]["sha256"] == rig.upscaler.bundle.digest
    preset = rig.upscaler.bundle.diffusion.presets["even"]
    assert found["model"]["defaults"]["steps"] == preset.steps
    assert found["limits"]["queue_size"] == 1
    assert found["includes"] == [str(name) for name in Include]
    assert "Not for diagnosis" in found["disclaimer"]


def test_a_model_without_a_loop_has_no_defaults_of_one(tmp_path: Path) -> None:
    with running(write_tiny_bundle(tmp_path / "plain", family="regression")) as rig:
        assert rig.client.get("/v1/info").json()["model"]["defaults"] is None


def test_its_limits_are_those_that_were_set(opened: Bundle) -> None:
    with running(opened, max_steps=7, max_bytes=4096) as rig:
        limits = rig.client.get("/v1/info").json()["limits"]
    assert (limits["max_steps"], limits["max_bytes"]) == (7, 4096)
