"""What the node is told, and what of it is refused before anything begins."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_sr.cli import run
from edge_sr.errors import ConfigError
from edge_sr.node.settings import load_node_settings

SEND = {"host": "pacs.clinic.example", "port": 104, "title": "PACS"}


def written(folder: Path, **settings: Any) -> Path:
    path = folder / "node.json"
    path.write_text(json.dumps({"send": SEND} | settings), encoding="utf-8")
    return path


def test_a_file_in_toml_says_the_same_as_one_in_json(tmp_path: Path) -> None:
    toml = tmp_path / "node.toml"
    toml.write_text(
        'title = "SR"\ncalling = ["CR1"]\n[send]\nhost = "pacs.clinic.example"\nport = 104\ntitle = "PACS"\n',
        encoding="utf-8",
    )
    assert load_node_settings(toml) == load_node_settings(written(tmp_path, title="SR", calling=["CR1"]))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"prot": 1}, "prot"),
        ({"port": 70000}, "port"),
        ({"title": "x" * 17}, "title"),
        ({"title": ""}, "title"),
        ({"title": "A\\B"}, "title"),
        ({"calling": [" "]}, "calling"),
        ({"send": {**SEND, "ttl": 1}}, "send.ttl"),
        ({"send": {"host": "a"}}, "send.title"),
        ({"backend": "abacus"}, "abacus"),
        ({"host": "0.0.0.0"}, "anybody may call"),
        ({"tls_cert": "a.pem"}, "go together"),
        ({"tls_client_ca": "a.pem"}, "needs tls_cert"),
        ({"tls_cert": "a.pem", "tls_key": "a.key"}, "TLS cannot be used"),
        ({"send": {**SEND, "tls": True, "tls_ca": "a.pem"}}, "a.pem"),
        ({"max_bytes": 1}, "max_bytes"),
        ({"max_associations": 0}, "max_associations"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load_node_settings(written(tmp_path, **settings))


@pytest.mark.parametrize("who", [{"calling": ["CR1"]}, {"insecure": True}])
def test_beyond_this_machine_somebody_must_be_named_or_it_must_be_said(
    tmp_path: Path, who: dict[str, Any]
) -> None:
    assert load_node_settings(written(tmp_path, host="0.0.0.0", **who)).host == "0.0.0.0"


@pytest.mark.parametrize(
    "settings",
    [
        {"port": -1, "spool": "s"},
        {},
        {"spool": "s", "host": "192.0.2.1", "calling": ["A"]},
        {"spool": "node.json"},
    ],
)
def test_a_bad_configuration_is_exit_code_78(
    bundle: Path, tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pynetdicom", reason="pynetdicom is not installed (extra: dicom-net)")
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, bundle=str(bundle), backend="fake", **settings)
    assert run(["node", "--config", str(path)]) == 78


def test_without_pynetdicom_it_says_what_to_install(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pynetdicom", None)
    path = written(tmp_path, bundle=str(bundle), backend="fake", spool=str(tmp_path / "spool"))
    assert run(["node", "--config", str(path)]) == 1
    assert "edge-sr[dicom-net]" in capfd.readouterr().err
    assert not (tmp_path / "spool").exists()
