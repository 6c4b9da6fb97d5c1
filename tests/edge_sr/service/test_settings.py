"""The configuration of the service: what is read, what goes over it, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_sr.cli import run
from edge_sr.cli.serve import serve
from edge_sr.errors import ConfigError
from edge_sr.service.settings import is_loopback, load_settings

EXIT_CONFIG = 78


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_without_a_file_it_listens_to_this_machine_alone() -> None:
    settings = load_settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert is_loopback(settings.host)


def test_toml_and_json_say_the_same(tmp_path: Path) -> None:
    values = {"port": 9000, "queue_size": 3, "precision": "int8", "deadline_s": 1.5}
    toml = "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
    read = [load_settings(write(tmp_path / "a.json", json.dumps(values)))]
    read.append(load_settings(write(tmp_path / "a.toml", toml)))
    assert read[0] == read[1]
    assert {name: getattr(read[0], name) for name in values} == values


def test_an_option_goes_over_the_file_and_one_that_is_not_given_does_not(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", '{"port": 9000, "threads": 2}')
    settings = load_settings(file, port=9001, threads=None)
    assert (settings.port, settings.threads) == (9001, 2)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", '{"prot": 1}', "prot"),
        ("a.json", '{"port": 70000, "batch": 0}', "batch"),
        ("a.json", '{"port": "many"}', "port"),
        ("a.json", "[1]", "list"),
        ("a.json", "{", "valid JSON"),
        ("a.json", "[" * 100_000, "valid JSON"),
        ("a.json", '{"backend": "magic"}', "magic"),
        ("a.toml", "port = ", "valid TOML"),
        ("a.yaml", "port: 1", ".toml or .json"),
        ("a.json", " " * (2**20 + 1), "bytes"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_settings(write(tmp_path / name, text))


def test_text_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="valid TOML"):
        load_settings(path)


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(tmp_path / name)


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(write(tmp_path / "a.json", '{"port": -1, "queue_size": 0, "colour": 1}'))
    assert all(word in caught.value.message for word in ("port", "queue_size", "colour"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_addresses_of_this_machine_alone_need_nothing_more(host: str) -> None:
    assert load_settings(host=host).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "clinic.example", ""])
def test_any_other_address_must_be_asked_for_as_insecure(host: str) -> None:
    with pytest.raises(ConfigError, match="nobody who they are"):
        load_settings(host=host)
    assert load_settings(host=host, insecure=True).host == host


def test_a_bad_configuration_has_an_exit_code_of_its_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments: list[Any] = ["serve", "--config", write(tmp_path / "a.toml", "prot = 1")]
    assert run([str(argument) for argument in arguments]) == EXIT_CONFIG
    assert "prot" in capfd.readouterr().err
    assert run(["serve", "--host", "0.0.0.0"]) == EXIT_CONFIG
    assert "--insecure" in capfd.readouterr().err


def test_an_option_that_is_not_given_leaves_the_file_alone() -> None:
    given = serve.make_context("serve", []).params
    assert {name: value for name, value in given.items() if value is not None} == {}
