"""Who may ask: names, origins, tokens, certificates; and what every answer tells a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_sr.bundle import Bundle
from edge_sr.errors import ConfigError
from edge_sr.service.bearer import read_token
from edge_sr.service.settings import ServiceSettings, check_reach, load_settings

pytest.importorskip("tests.edge_sr.service.rig")

from tests.edge_sr.service.rig import Rig, form, picture, running
from tests.edge_sr.service.test_refusing import problem

SECRET = "0123456789abcdef" * 4


def token_file(folder: Path, text: str = SECRET + "\n", *, mode: int = 0o600) -> Path:
    path = folder / "token"
    path.write_text(text, encoding="ascii")
    path.chmod(mode)
    return path


@pytest.fixture
def guarded(opened: Bundle, tmp_path: Path) -> Iterator[Rig]:
    """A service that wants a token."""
    with running(opened, token_file=token_file(tmp_path)) as found:
        yield found


# ---- the token


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER "])
def test_who_shows_the_token_is_answered(guarded: Rig, scheme: str) -> None:
    assert guarded.post(picture(), authorization=f"{scheme} {SECRET}").status_code == 200


@pytest.mark.parametrize(
    "shown",
    ["", f"Basic {SECRET}", "Bearer", "Bearer ", f"Bearer {SECRET[:-1]}", f"Bearer {SECRET}0", SECRET],
)
def test_who_shows_none_or_another_is_not(guarded: Rig, shown: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    answer = guarded.post(picture(), **({"authorization": shown} if shown else {}))
    problem(answer, 401, field="Authorization")
    assert answer.headers["www-authenticate"].startswith('Bearer realm="edge-sr"')
    assert ("invalid_token" in answer.headers["www-authenticate"]) == shown.startswith("Bearer")
    assert SECRET[:-1] not in answer.text + caplog.text
    assert guarded.upscaler.seeds == []


def test_a_token_that_is_no_ascii_is_wrong_and_no_error(guarded: Rig) -> None:
    problem(
        guarded.client.get("/metrics", headers={b"authorization": b"Bearer \xe9"}), 401, field="Authorization"
    )


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"])
def test_health_needs_no_token(guarded: Rig, path: str) -> None:
    assert guarded.client.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/", "/static/main.js"])
def test_the_page_needs_no_token(guarded: Rig, path: str) -> None:
    assert guarded.client.get(path).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/metrics", "/openapi.json", "/v2", "/v2/models/tiny", "/v1/upscale", "/healthz/../metrics", "/x"],
)
def test_all_else_needs_it_even_what_is_not_there(guarded: Rig, path: str) -> None:
    problem(guarded.client.get(path), 401, field="Authorization")
    assert guarded.client.get(path, headers={"authorization": f"Bearer {SECRET}"}).status_code != 401


@pytest.mark.parametrize("path", ["/static/x", "/", "/healthz"])
def test_nothing_can_be_posted_without_it(guarded: Rig, path: str) -> None:
    problem(guarded.client.post(path), 401, field="Authorization")


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        (SECRET, 0o604, "0604"),
        (SECRET, 0o602, "0602"),
        (SECRET, 0o620, "0620"),
        ("", 0o600, "32 to 512"),
        ("\n", 0o600, "32 to 512"),
        (SECRET[:31], 0o600, "32 to 512"),
        ("a" * 513, 0o600, "32 to 512"),
        ("a" * 10**6, 0o600, "32 to 512"),
        (f"{SECRET}\n{SECRET}", 0o600, "32 to 512"),
        (f"{SECRET} x", 0o600, "32 to 512"),
    ],
)
def test_a_token_file_that_protects_nothing_is_refused_and_not_quoted(
    tmp_path: Path, text: str, mode: int, said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        load_settings(token_file=token_file(tmp_path, text, mode=mode))
    assert SECRET[:8] not in str(caught.value)


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_token_file_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="token file"):
        load_settings(token_file=tmp_path / name)


def test_the_owners_group_may_read_a_token(tmp_path: Path) -> None:
    assert read_token(token_file(tmp_path, mode=0o640)).matches(SECRET.encode())


def test_a_token_does_not_show_itself(tmp_path: Path) -> None:
    assert "digest" not in repr(read_token(token_file(tmp_path)))


def test_a_credential_of_systemd_is_the_token_unless_another_is_named(tmp_path: Path) -> None:
    path = token_file(tmp_path, mode=0o400)
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert load_settings(environ=environ).token_file == path
    other = tmp_path / "b"
    other.mkdir()
    assert load_settings(environ=environ, token_file=token_file(other)).token_file == other / "token"
    assert load_settings(environ={"CREDENTIALS_DIRECTORY": str(tmp_path / "none")}).token_file is None


def test_with_a_token_or_certificates_others_may_reach_it(tmp_path: Path) -> None:
    settings = load_settings(host="0.0.0.0", token_file=token_file(tmp_path))
    check_reach(settings, "10.0.0.7")
    check_reach(ServiceSettings(tls_client_ca=tmp_path / "ca"), "10.0.0.7")
    with pytest.raises(ConfigError, match=r"10\.0\.0\.7"):
        check_reach(ServiceSettings(), "10.0.0.7")


# ---- names


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost:8080", "LOCALHOST", "localhost.", "[::1]:80", "testserver", "sr.clinic"]
)
def test_it_answers_to_this_machines_names_its_address_and_those_that_are_allowed(
    opened: Bundle, host: str
) -> None:
    with running(opened, allowed_hosts=("SR.clinic",)) as rig:
        assert rig.post(picture(), host=host).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.9", "localhost:80:80", "a b", ""]
)
def test_by_any_other_name_nothing_is_answered(rig: Rig, host: str) -> None:
    answer = rig.client.get("/healthz", headers={"host": host})
    assert answer.status_code in (400, 421)
    assert "evil" not in answer.text
    assert rig.upscaler.seeds == []


# ---- browsers


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "http://testserver:3000"},
        {"origin": "null"},
        {"origin": "http://[bad"},
        {"origin": "http://testserver", "sec-fetch-site": "cross-site"},
    ],
)
def test_a_page_of_another_origin_can_post_nothing(rig: Rig, headers: dict[str, str]) -> None:
    problem(rig.client.post("/v1/upscale", headers=headers, **form(picture())), 403, field="Origin")
    assert rig.upscaler.seeds == []


@pytest.mark.parametrize(
    "headers",
    [{}, {"origin": "http://testserver"}, {"origin": "http://testserver", "sec-fetch-site": "same-origin"}],
)
def test_our_own_page_and_what_is_no_browser_can(rig: Rig, headers: dict[str, str]) -> None:
    assert rig.client.post("/v1/upscale", headers=headers, **form(picture())).status_code == 200


def test_no_answer_lets_another_origin_read_it(rig: Rig) -> None:
    asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    answers = [rig.client.get("/metrics", headers=asked), rig.client.options("/v1/upscale", headers=asked)]
    assert not [name for answer in answers for name in answer.headers if name.startswith("access-control")]


def test_every_answer_says_what_a_browser_may_do_with_it(rig: Rig) -> None:
    answers: list[Any] = [
        rig.post(picture()),
        rig.client.get("/healthz"),
        rig.client.get("/nowhere"),
        rig.client.get("/healthz", headers={"host": "evil.example"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 404, 421]
    for answer in answers:
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
