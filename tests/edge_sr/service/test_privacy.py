"""A patient's name goes through every path of a real service, and is then looked for in all that it wrote."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tests.edge_sr.service.rig")
pytest.importorskip("tests.edge_sr.dicom.objects")

from tests.edge_sr.dicom import objects
from tests.edge_sr.image.pictures import png_chunk
from tests.edge_sr.service.rig import DICOM, JSON, PATIENCE_S, PNG, eventually, picture
from tests.edge_sr.service.stuck import STUCK
from tests.test_layering import ROOT

NAMES = ("Grzegorzewska", "PID-77123", "19561204", "Szpital")
"""Marks of a patient, as she might be named in any of the ways below."""
MARK = NAMES[0]
SECRET = "a1b2c3d4" * 8
PATIENT: dict[str, Any] = {
    "PatientName": f"{MARK}^Anna",
    "PatientID": NAMES[1],
    "PatientBirthDate": NAMES[2],
    "InstitutionName": NAMES[3],
}


@dataclass
class Observed:
    """A service in a process of its own, in a folder where it writes all that it writes.

    Attributes:
        told: Heads of all answers, and bodies of refusals; what a derived object says is the sender's own.
    """

    process: subprocess.Popen[bytes]
    folder: Path
    port: int = 0
    told: list[bytes] = field(default_factory=list)

    def ask(
        self, body: bytes = b"", *, method: str = "POST", path: str = "/v1/upscale", **headers: str
    ) -> int:
        named = {"Content-Type": PNG, "Authorization": f"Bearer {SECRET}"}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            client.request(method, path, body, named)
            answer = client.getresponse()
            data = answer.read()
            self.told.append(repr(answer.getheaders()).encode())
            if answer.status != 200 or path == "/metrics":
                self.told.append(data)
            return answer.status
        finally:
            client.close()

    def written(self) -> Iterator[tuple[str, bytes]]:
        """All that was written: answers, and every file with its name."""
        yield from (("answer", data) for data in self.told)
        for path in self.folder.rglob("*"):
            yield "name", os.fsencode(path.relative_to(self.folder))
            if path.is_file():
                yield str(path), path.read_bytes()


@pytest.fixture
def observed(bundle: Path, tmp_path: Path) -> Iterator[Observed]:
    for name in ("state", "cache", "tmp", "home", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "token").write_text(SECRET, encoding="ascii")
    (tmp_path / "token").chmod(0o600)
    environ = {
        **os.environ,
        STUCK: str(tmp_path / "stuck"),
        "PYTHONPATH": str(ROOT),
        "STATE_DIRECTORY": str(tmp_path / "state"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "TMPDIR": str(tmp_path / "tmp"),
        "HOME": str(tmp_path / "home"),
    }
    settings = {"backend": "stuck", "bundle": str(bundle), "port": 0, "token_file": str(tmp_path / "token")}
    settings |= {
        "deadline_s": 5,
        "upload_s": 2,
        "max_bytes": 300_000,
        "max_pixels": 40_000,
        "max_connections": 8,
    }
    (tmp_path / "service.json").write_text(json.dumps(settings), encoding="utf-8")
    command = [sys.executable, "-m", "tests.edge_sr.service.stuck", "serve", "--config", "../service.json"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environ, cwd=tmp_path / "work", stdout=log, stderr=log)
    found = Observed(process, tmp_path)
    try:
        eventually(lambda: process.poll() is None and is_ready(found))
        yield found
    finally:
        process.kill()
        process.wait()


def is_ready(service: Observed) -> bool:
    told = re.search(r"listening on http://127\.0\.0\.1:(\d+)", (service.folder / "log").read_text())
    service.port = int(told[1]) if told else 0
    return service.port > 0 and service.ask(method="GET", path="/readyz") == 200


def scan(**changes: Any) -> bytes:
    """A radiograph of the patient."""
    data: bytes = objects.encoded(objects.dx(**PATIENT, **changes))
    return data


def named_png() -> bytes:
    """A picture with the patient's name in its text."""
    data = picture()
    return data[:33] + png_chunk(b"tEXt", b"Title\0" + MARK.encode()) + data[33:]


def form(data: bytes, *, kind: str = DICOM, name: str = MARK, fields: str = "") -> dict[str, Any]:
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="{MARK}.dcm"\r\n{fields}'
    body = head.encode() + f"Content-Type: {kind}\r\n\r\n".encode() + data + b"\r\n--b--\r\n"
    return {"body": body, "Content_Type": "multipart/form-data; boundary=b"}


def asked(service: Observed) -> dict[str, tuple[int, int]]:
    """Everything that could go through with a name on it: (status, wanted)."""
    data, dicom, ask = scan(), {"Content_Type": DICOM}, service.ask
    named = dict.fromkeys(
        ("X_Request_Id", "User_Agent", "Referer", "Cookie", "X_Forwarded_For", "From"), MARK
    )
    return {
        "an object": (ask(data, **dicom, **named), 200),
        "an object back": (ask(data, **dicom, Accept=DICOM), 200),
        "its JSON": (ask(data, **dicom, Accept=JSON), 200),
        "a form": (ask(**form(data)), 200),
        "a picture": (ask(named_png()), 200),
        "a cut object": (ask(data[:-50], **dicom), 422),
        "a damaged header": (ask(data.replace(b"PN", b"ZZ", 1), **dicom), 422),
        "a cut form": (ask(**(form(data) | {"body": form(data)["body"][:-100]})), 422),
        "a form of text": (ask(**form(MARK.encode(), kind="text/plain")), 415),
        "a form with a header of her name": (ask(**form(data, fields=f"{MARK}: {MARK}\r\n")), 200),
        "another modality": (ask(scan(Modality=MARK[:12]), **dicom), 200),
        "an unknown class": (ask(scan(SOPClassUID="1.2.3.77123"), **dicom), 422),
        "her name as an image": (ask(MARK.encode() * 9), 422),
        "a damaged picture": (ask(named_png()[:-20]), 422),
        "a type": (ask(data, Content_Type=f"text/{MARK}"), 415),
        "an encoding": (ask(data, Content_Encoding=MARK), 415),
        "an answer": (ask(data, **dicom, Accept=f"text/{MARK}"), 406),
        "a parameter": (ask(data, path=f"/v1/upscale?{MARK}={NAMES[1]}", **dicom), 422),
        "a value": (ask(data, path=f"/v1/upscale?seed={MARK}", **dicom), 422),
        "a path": (ask(method="GET", path=f"/{MARK}/{NAMES[1]}?id={NAMES[2]}"), 404),
        "a model": (ask(method="GET", path=f"/v2/models/{MARK}"), 404),
        "a method": (ask(method=MARK.upper()), 405),
        "a token": (ask(data, Authorization=f"Bearer {MARK}", **dicom), 401),
        "a host": (ask(data, Host=f"{MARK}.example", **dicom), 421),
        "an origin": (ask(data, Origin=f"http://{MARK}.example", **dicom), 403),
        "too much": (ask(MARK.encode() * 50_000), 413),
        "too many pixels": (ask(picture(300, 300)), 422),
        "a wrong length": (ask(data, Content_Length=MARK, **dicom), 400),
    }


def test_a_patients_name_is_nowhere_in_what_a_service_writes(observed: Observed) -> None:
    wrong = {what: status for what, (status, wanted) in asked(observed).items() if status != wanted}
    assert not wrong
    (observed.folder / "stuck").touch()
    assert observed.ask(scan(), Content_Type=DICOM) == 504
    assert observed.ask(method="GET", path="/metrics") == 200
    observed.process.send_signal(signal.SIGABRT)  # as a watchdog does: it tells where each thread stood
    observed.process.wait(PATIENCE_S)
    found = [(place, name) for place, data in observed.written() for name in NAMES if name.encode() in data]
    assert not found
    log = (observed.folder / "log").read_text()
    assert "Fatal Python error: Aborted" in log
    assert log.count("POST upscale 200") >= 6, "the log was looked at, and has what it should"
    assert "edge_sr_requests_total" in b"".join(observed.told).decode("latin-1")
    assert SECRET not in log


def test_the_search_would_find_it(observed: Observed) -> None:
    (observed.folder / "tmp" / "left.dcm").write_bytes(scan())
    observed.told.append(MARK.encode())
    assert {place for place, data in observed.written() if MARK.encode() in data} == {
        "answer",
        str(observed.folder / "tmp" / "left.dcm"),
    }
