"""Bundles on disk: what is wrong with one is a BundleError in one line; writing is whole or not at all."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sr.bundle import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    Bundle,
    array_file,
    default_bundle,
    new_copy,
    new_folder,
    write_manifest,
)
from edge_sr.errors import BundleError, EdgeSRError, OutputError
from edge_sr.spec import Component, Precision
from tests.fakes import write_tiny_bundle

Json = Any
Place = tuple[Any, ...]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole bundle that no test changes."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    write_tiny_bundle(folder, precisions=("fp32", "int8"))
    return folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(pristine, tmp_path / "tiny"))


@pytest.fixture(scope="module")
def scratch(pristine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy whose files every example of a property test overwrites."""
    return Path(shutil.copytree(pristine, tmp_path_factory.mktemp("scratch") / "tiny"))


def content(folder: Path) -> Json:
    return json.loads((folder / MANIFEST).read_bytes())


def write(folder: Path, manifest: Json) -> None:
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def change(folder: Path, *place: Any, to: Json) -> None:
    """Sets one value of the manifest; the last part of `place` may be new."""
    manifest = content(folder)
    parent = manifest
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = to
    write(folder, manifest)


def replace_file(folder: Path, entry: str, data: bytes) -> None:
    """Overwrites a file and makes the manifest agree with it."""
    manifest = content(folder)
    record = manifest[entry]
    (folder / record["file"]).write_bytes(data)
    record |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    write(folder, manifest)


def refusal(folder: Path) -> str:
    """What opening says."""
    with pytest.raises(BundleError) as caught:
        Bundle.open(folder)
    return caught.value.message


def assert_one_line(error: EdgeSRError) -> None:
    assert error.message.isprintable(), ascii(error.message)
    assert len(error.message) < 25_000  # twenty problems of a thousand characters, and paths


# ---- a whole bundle


def test_a_written_bundle_opens_with_all_its_parts(pristine: Path) -> None:
    bundle = Bundle.open(pristine)
    bundle.verify()

    assert bundle.manifest.name == "tiny"
    assert bundle.precisions() == [Precision.FP32, Precision.INT8]
    assert bundle.time_embedding().shape == (20, 8)


def test_the_digest_is_of_the_model_and_not_of_what_was_measured_of_it(pristine: Path, folder: Path) -> None:
    figures = {"data": "d", "degradation": "area", "row": "r", "metrics": {"psnr_db": 30.0}, "source": "s"}
    change(folder, "quality", to=[figures])
    told = Bundle.open(folder).digest
    change(folder, "description", to="another")

    assert told == Bundle.open(pristine).digest
    assert Bundle.open(folder).digest != told


@pytest.mark.parametrize("component", Component)
def test_a_graph_comes_with_its_tensors_and_its_digest(pristine: Path, component: Component) -> None:
    graph = Bundle.open(pristine).graph(component, Precision.INT8)

    assert (graph.component, graph.precision) == (component, Precision.INT8)
    assert graph.sha256 == hashlib.sha256(graph.path.read_bytes()).hexdigest()
    assert {str(graph.inputs[0]), str(graph.outputs[0])} <= {
        "image: float32 (N, 1, 16, 16)",
        "condition: float32 (N, 3, 8, 8)",
        "x: float32 (N, 4, 8, 8)",
        "x_next: float32 (N, 4, 8, 8)",
        "latent: float32 (N, 4, 8, 8)",
        "output: float32 (N, 1, 64, 64)",
    }


def test_the_golden_archive_has_the_loop_s_ends_and_every_graph_s_tensors(pristine: Path) -> None:
    bundle = Bundle.open(pristine)
    golden = bundle.golden()

    names = {"image", "noise", "latent", "output"}
    for component in Component:
        graph = bundle.graph(component, Precision.FP32)
        names |= {f"{component}.{tensor.name}" for tensor in (*graph.inputs, *graph.outputs)}
    assert set(golden) == names
    assert {array.dtype.name for array in golden.values()} == {"float32"}


def test_the_same_manifest_written_again_has_the_same_digest(folder: Path) -> None:
    bundle = Bundle.open(folder)
    write_manifest(folder, bundle.manifest)

    assert Bundle.open(folder).digest == bundle.digest


def test_a_half_precision_time_embedding_is_read_as_float32(folder: Path) -> None:
    entry = array_file(folder, "half.npy", np.ones((20, 8), np.float16))
    change(folder, "time_embedding", to=entry.model_dump(mode="json"))
    embedding = Bundle.open(folder).time_embedding()

    assert embedding.dtype == np.float32
    assert np.array_equal(embedding, np.ones((20, 8)))


def test_the_default_bundle_lies_inside_the_package() -> None:
    import edge_sr

    assert default_bundle().is_relative_to(Path(edge_sr.__file__).parent)


def test_a_missing_precision_is_an_error_that_names_the_others_and_the_calibration(pristine: Path) -> None:
    with pytest.raises(BundleError, match="no fp16 step") as caught:
        Bundle.open(pristine).graph(Component.STEP, Precision.FP16)

    assert "fp32, int8" in caught.value.hint
    assert "python -m calibration" in caught.value.hint


# ---- files that are not what the manifest says


def test_a_missing_folder_is_refused_with_what_a_bundle_is(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="No such file") as caught:
        Bundle.open(tmp_path / "none")
    assert MANIFEST in caught.value.hint


def test_a_file_instead_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("{}")
    assert "Not a directory" in refusal(tmp_path / "file")


def test_a_folder_instead_of_a_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).mkdir()
    assert "no plain file" in refusal(tmp_path)


def test_a_pipe_instead_of_a_manifest_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / MANIFEST)
    assert "no plain file" in refusal(tmp_path)


def test_a_manifest_over_the_limit_is_not_read(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(b" " * (MAX_MANIFEST_BYTES + 1))
    assert "larger than 4 MiB" in refusal(tmp_path)


def test_every_missing_and_resized_file_is_named_at_once(folder: Path) -> None:
    (folder / "step.fp32.onnx").unlink()
    (folder / "golden.npz").write_bytes(b"short")
    message = refusal(folder)

    assert "step.fp32.onnx is missing" in message
    assert "golden.npz has 5 bytes, wanted" in message


@pytest.mark.parametrize("name", ["encoder.fp32.onnx", "golden.npz", "time_embedding.npy"])
def test_a_changed_byte_is_found_before_the_file_is_used(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[-1] ^= 1
    (folder / name).write_bytes(data)
    bundle = Bundle.open(folder)
    use: dict[str, Callable[[], object]] = {
        "encoder.fp32.onnx": lambda: bundle.graph(Component.ENCODER, Precision.FP32),
        "golden.npz": bundle.golden,
        "time_embedding.npy": bundle.time_embedding,
    }

    with pytest.raises(BundleError, match=f"{name} was changed: sha256"):
        use[name]()
    with pytest.raises(BundleError, match=f"{name} was changed: sha256"):
        bundle.verify()


def test_verify_names_every_changed_file(folder: Path) -> None:
    for name in ("encoder.int8.onnx", "decoder.fp32.onnx"):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[::-1])
    with pytest.raises(
        BundleError, match=r"encoder\.int8\.onnx was changed.*decoder\.fp32\.onnx was changed"
    ):
        Bundle.open(folder).verify()


def test_a_file_that_vanishes_after_opening_is_a_bundle_error(folder: Path) -> None:
    bundle = Bundle.open(folder)
    (folder / "golden.npz").unlink()
    with pytest.raises(BundleError, match="cannot be read"):
        bundle.golden()


# ---- paths


@pytest.mark.parametrize(
    "path",
    ["../golden.npz", "a/../../golden.npz", "/etc/passwd", "..", "..\\golden.npz", "a\\b", "", "nul\0.npz"],
)
def test_a_path_that_leaves_the_folder_is_refused_by_its_text(folder: Path, path: str) -> None:
    change(folder, "golden", "file", to=path)
    assert "leaves the bundle's folder" in refusal(folder)


def test_a_link_that_leaves_the_folder_is_refused_even_to_the_right_file(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "golden.npz").rename(tmp_path / "outside.npz")
    (folder / "golden.npz").symlink_to(tmp_path / "outside.npz")
    assert "golden.npz leads outside the bundle" in refusal(folder)


def test_a_linked_folder_that_leaves_the_bundle_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (folder / "golden.npz").rename(tmp_path / "outside" / "golden.npz")
    (folder / "inside").symlink_to(tmp_path / "outside")
    change(folder, "golden", "file", to="inside/golden.npz")
    assert "leads outside the bundle" in refusal(folder)


def test_a_bundle_may_itself_be_reached_by_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    Bundle.open(tmp_path / "link").verify()


def test_a_circle_of_links_is_refused(folder: Path) -> None:
    (folder / "golden.npz").unlink()
    (folder / "golden.npz").symlink_to("golden.npz")
    assert "golden.npz" in refusal(folder)


def test_a_name_longer_than_a_file_system_allows_is_refused(folder: Path) -> None:
    change(folder, "golden", "file", to="g" * 5000)
    assert "golden.file: String should have at most 200 characters" in refusal(folder)


def test_a_folder_too_deep_for_the_file_system_is_refused(folder: Path) -> None:
    assert "File name too long" in refusal(folder / "/".join(["deep"] * 1000))


# ---- the manifest's content


def test_an_unknown_field_is_refused_by_name(folder: Path) -> None:
    change(folder, "diffusion", "presets", "even", "temperature", to=3)
    message = refusal(folder)
    assert "diffusion.presets.even.temperature" in message
    assert "not permitted" in message


@pytest.mark.parametrize("version", [0, 4, "1", None, [1], {"a": 1}])
def test_an_unknown_schema_version_is_refused_before_anything_else_is_judged(
    folder: Path, version: Json
) -> None:
    write(folder, {"schema_version": version, "from": "the future"})
    with pytest.raises(BundleError, match="this edge-sr reads 1, 2, 3") as caught:
        Bundle.open(folder)
    assert "the edge-sr that wrote it" in caught.value.hint


CONSISTENCY: Json = {
    "operator": "cubic",
    "alarm_db": 27.2,
    "quantile": 0.05,
    "median_db": 36.5,
    "images": 75,
    "data": "made up",
    "sha256": "0" * 64,
    "source": "made up",
}


def test_a_bundle_of_version_1_opens_without_a_consistency_threshold(folder: Path) -> None:
    assert content(folder)["schema_version"] == 1
    assert Bundle.open(folder).manifest.consistency is None


def test_version_2_holds_the_consistency_of_true_images(folder: Path) -> None:
    change(folder, "schema_version", to=2)
    change(folder, "consistency", to=CONSISTENCY)
    found = Bundle.open(folder).manifest.consistency
    assert found is not None
    assert found.model_dump() == CONSISTENCY


def test_a_consistency_that_does_not_belong_is_refused(folder: Path) -> None:
    change(folder, "consistency", to=CONSISTENCY | {"operator": "area"})
    message = refusal(folder)
    assert "consistency came with schema version 2" in message
    assert "consistency was measured with area, the degradation is cubic" in message


def test_every_problem_is_reported_at_once(folder: Path) -> None:
    change(folder, "scale", to=17)
    change(folder, "channels", to=2)
    change(folder, "golden", "sha256", to="no digest")
    change(folder, "surprise", to=1)
    message = refusal(folder)
    assert all(f"{name}: " in message for name in ("scale", "channels", "golden.sha256", "surprise"))


def test_every_contradiction_is_reported_at_once(folder: Path) -> None:
    change(folder, "overlap", to=9)
    change(folder, "latent", "factor", to=48)
    change(folder, "diffusion", "timesteps", to=30)
    change(folder, "default_precision", to="fp16")
    message = refusal(folder)
    for problem in (
        "overlap 9",
        "no multiple of latent factor 48",
        "each of 30 timesteps",
        "step has no graph",
    ):
        assert problem in message


def test_of_very_many_problems_the_first_are_shown_and_the_rest_counted(folder: Path) -> None:
    write(folder, content(folder) | {f"field-{index}": index for index in range(1000)})
    with pytest.raises(BundleError, match="and 980 more") as caught:
        Bundle.open(folder)
    assert_one_line(caught.value)


def test_a_component_without_graphs_is_refused(folder: Path) -> None:
    manifest = content(folder)
    del manifest["graphs"]["decoder"]
    write(folder, manifest)
    assert "no graphs for decoder" in refusal(folder)


@pytest.mark.parametrize(
    ("component", "side", "old", "problem"),
    [
        ("encoder", "inputs", "image", "fp32: encoder has no image"),
        ("encoder", "outputs", "condition", "fp32: nothing writes step's condition"),
        ("step", "inputs", "x0_previous", "fp32: step has no x0_previous"),
        ("step", "outputs", "x_next", "fp32: step has no x_next"),
        ("decoder", "inputs", "latent", "fp32: nothing writes decoder's other"),
        ("decoder", "outputs", "output", "fp32: decoder has no output"),
    ],
)
def test_graphs_that_cannot_be_run_one_after_the_other_are_refused(
    folder: Path, component: str, side: str, old: str, problem: str
) -> None:
    manifest = content(folder)
    tensors = manifest["graphs"][component]["fp32"][side]
    next(t for t in tensors if t["name"] == old)["name"] = "other"
    write(folder, manifest)
    assert problem in refusal(folder)


def test_two_tensors_of_one_graph_have_two_names(folder: Path) -> None:
    change(folder, "graphs", "step", "fp32", "outputs", 0, "name", to="x")
    assert "more than one tensor is named x" in refusal(folder)


def test_only_the_first_axis_of_a_tensor_may_be_free(folder: Path) -> None:
    change(folder, "graphs", "step", "fp32", "inputs", 0, "shape", to=["N", 4, "N", 8])
    assert "only the first axis may be 'N'" in refusal(folder)


def test_a_default_preset_that_does_not_exist_is_refused(folder: Path) -> None:
    change(folder, "diffusion", "default", to="none")
    assert "default preset 'none'" in refusal(folder)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_not_finite_is_refused(folder: Path, number: str) -> None:
    text = (folder / MANIFEST).read_text(encoding="utf-8")
    assert '"clip": 3.0' in text
    (folder / MANIFEST).write_text(text.replace('"clip": 3.0', f'"clip": {number}'), encoding="utf-8")
    assert "diffusion.clip: Input should be a finite number" in refusal(folder)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"\x00" * 100,
        b'{"schema_version": 1',
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b"9" * 10_000,
        b'"\\ud800"',
        b"null",
        b"[1]",
    ],
    ids=lambda data: f"{len(data)}-{data[:12]!r}",
)
def test_what_is_not_a_manifest_is_refused_in_one_line(folder: Path, data: bytes) -> None:
    (folder / MANIFEST).write_bytes(data)
    with pytest.raises(BundleError) as caught:
        Bundle.open(folder)
    assert_one_line(caught.value)


def test_a_hostile_field_name_does_not_reach_the_terminal(folder: Path) -> None:
    change(folder, "\x1b[31m\nerror\u202e", to=1)
    with pytest.raises(BundleError, match=r"\\x1b\[31m\\nerror\\u202e") as caught:
        Bundle.open(folder)
    assert_one_line(caught.value)


# ---- whatever the manifest says

ANY_TEXT = st.text(st.characters(), max_size=20) | st.sampled_from(["\ud800", "N", "../x", "fp32", "step"])
ANY_NUMBER = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 2**63, 10**400, True])
ANY_JSON = st.recursive(
    st.none() | st.booleans() | ANY_NUMBER | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=6,
)


def places(value: Json, here: Place = ()) -> list[Place]:
    """The path of every value in a JSON tree, itself excepted."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    below = [place for key, inner in items for place in places(inner, (*here, key))]
    return [here, *below] if here else below


@st.composite
def mutations(draw: st.DrawFn, original: Json) -> Json:
    """The manifest with up to three values replaced, removed, added or taken from elsewhere in it."""
    manifest = copy.deepcopy(original)
    for _ in range(draw(st.integers(1, 3))):
        every = places(manifest)
        if not every:
            break
        *parents, last = draw(st.sampled_from(every))
        parent = manifest
        for key in parents:
            parent = parent[key]
        kind = draw(st.sampled_from(["replace", "remove", "add", "move"]))
        if kind == "remove":
            del parent[last]
        elif kind == "add" and isinstance(parent, dict):
            parent[draw(ANY_TEXT)] = draw(ANY_JSON)
        elif kind == "move":
            source = manifest
            for key in draw(st.sampled_from(every)):
                source = source[key]
            parent[last] = copy.deepcopy(source)
        else:
            parent[last] = draw(ANY_JSON)
    return manifest


def open_and_use(folder: Path) -> None:
    """Opens a bundle and reads all of it; anything but success or a BundleError in one line is a failure."""
    try:
        bundle = Bundle.open(folder)
    except BundleError as error:
        assert_one_line(error)
        return
    uses: list[Callable[[], object]] = [bundle.verify, bundle.time_embedding, bundle.golden]
    uses += [partial(bundle.graph, c, p) for c in Component for p in Precision]
    for use in uses:
        try:
            use()
        except BundleError as error:
            assert_one_line(error)


@settings(max_examples=300)
@given(data=st.data())
def test_any_change_of_the_manifest_gives_a_bundle_or_a_bundle_error(
    pristine: Path, scratch: Path, data: st.DataObject
) -> None:
    write(scratch, data.draw(mutations(content(pristine))))
    open_and_use(scratch)


@settings(max_examples=200)
@given(data=st.data())
def test_any_change_of_the_manifest_s_bytes_gives_a_bundle_or_a_bundle_error(
    pristine: Path, scratch: Path, data: st.DataObject
) -> None:
    original = (pristine / MANIFEST).read_bytes()
    start = data.draw(st.integers(0, len(original)))
    length = data.draw(st.integers(0, 40))
    (scratch / MANIFEST).write_bytes(
        original[:start] + data.draw(st.binary(max_size=40)) + original[start + length :]
    )
    open_and_use(scratch)


@pytest.mark.parametrize("entry", ["time_embedding", "golden"])
@settings(max_examples=100)
@given(data=st.data())
def test_any_damage_to_an_array_file_gives_arrays_or_a_bundle_error(
    pristine: Path, scratch: Path, entry: str, data: st.DataObject
) -> None:
    manifest = content(pristine)
    original = (pristine / manifest[entry]["file"]).read_bytes()
    # Headers lie at the start of an array file and at the end of an archive.
    start = data.draw(st.integers(0, 200) | st.integers(len(original) - 400, len(original)))
    damaged = original[:start] + data.draw(st.binary(min_size=1, max_size=8)) + original[start + 4 :]
    (scratch / "damaged").write_bytes(damaged)
    sha256 = hashlib.sha256(damaged).hexdigest()
    manifest[entry] |= {"file": "damaged", "sha256": sha256, "bytes": len(damaged)}
    write(scratch, manifest)
    open_and_use(scratch)


def npy(array: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npy_header(header: str) -> bytes:
    """An array file that claims what it does not hold."""
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def archive(member: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as target:
        target.writestr("image.npy", member)
    return file.getvalue()


HUGE = npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,8), }")
PICKLE = (
    npy_header("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }") + b"cos\nsystem\n(S'true'\ntR."
)
NOT_ARRAYS = {"empty": b"\n", "text": b"hello", "huge": HUGE, "pickle": PICKLE}


@pytest.mark.parametrize(
    "data",
    [*NOT_ARRAYS.values(), archive(npy(np.ones((20, 8), np.float32))), npy(np.ones((20, 8), "U3"))],
    ids=[*NOT_ARRAYS, "archive", "words"],
)
def test_a_time_embedding_that_is_no_array_of_numbers_is_refused(folder: Path, data: bytes) -> None:
    replace_file(folder, "time_embedding", data)
    with pytest.raises(BundleError, match="time_embedding") as caught:
        Bundle.open(folder).time_embedding()
    assert_one_line(caught.value)


@pytest.mark.parametrize("array", [np.ones((20, 9), np.float32), np.ones((20, 8), np.float64), np.ones(())])
def test_a_time_embedding_of_another_shape_or_type_is_refused(
    folder: Path, array: np.ndarray[Any, Any]
) -> None:
    replace_file(folder, "time_embedding", npy(array))
    with pytest.raises(BundleError, match=r"wanted float32 \(20, 8\), got"):
        Bundle.open(folder).time_embedding()


@pytest.mark.parametrize(
    "data",
    [*NOT_ARRAYS.values(), npy(np.ones(3)), *(archive(member) for member in (HUGE, PICKLE))],
    ids=[*NOT_ARRAYS, "one array", "huge member", "pickled member"],
)
def test_a_golden_file_that_is_no_archive_of_numbers_is_refused(folder: Path, data: bytes) -> None:
    replace_file(folder, "golden", data)
    with pytest.raises(BundleError, match=r"golden\.npz is no numpy archive") as caught:
        Bundle.open(folder).golden()
    assert_one_line(caught.value)


# ---- writing: whole or not at all


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_folder_appears_whole_with_its_parents(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "bundle"
    with new_folder(target) as folder:
        (folder / "file").write_text("whole")
        assert not target.exists()

    assert (target / "file").read_text() == "whole"
    assert names(target.parent) == ["bundle"]
    assert target.stat().st_mode & 0o777 == 0o755  # others may read it, unlike a temporary folder


def test_an_old_bundle_is_replaced_by_a_whole_new_one(folder: Path) -> None:
    old = Bundle.open(folder)
    new = write_tiny_bundle(folder, seed=1)

    assert new.digest != old.digest
    assert new.precisions() == [Precision.FP32]
    assert not (folder / "step.int8.onnx").exists()
    assert names(folder.parent) == ["tiny"]


@pytest.mark.parametrize("failure", [RuntimeError("bug"), KeyboardInterrupt(), BundleError("damaged")])
def test_a_failure_while_writing_leaves_the_old_bundle_and_nothing_else(
    folder: Path, failure: BaseException
) -> None:
    digest = Bundle.open(folder).digest
    with pytest.raises(type(failure)), new_folder(folder) as new:
        (new / "half").write_text("written")
        raise failure

    Bundle.open(folder).verify()
    assert Bundle.open(folder).digest == digest
    assert names(folder.parent) == ["tiny"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_an_output_error_and_leaves_the_old_bundle(folder: Path) -> None:
    with pytest.raises(OutputError, match="No space left"), new_folder(folder):
        Path("/dev/full").write_text("too much")

    Bundle.open(folder).verify()
    assert names(folder.parent) == ["tiny"]


def test_a_new_folder_that_cannot_be_put_in_place_brings_the_old_bundle_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def failing_rename(self: Path, target: Path) -> Path:
        if target == folder and not self.name.endswith(".old"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing_rename)
    with pytest.raises(OutputError, match="Input/output error"), new_folder(folder) as new:
        (new / "file").write_text("whole")

    Bundle.open(folder).verify()
    assert names(folder.parent) == ["tiny"]


def test_a_folder_below_a_file_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"), new_folder(tmp_path / "file" / "bundle"):
        pytest.fail("nothing is to be written")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_an_output_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(OutputError, match="Permission denied"), new_folder(tmp_path / "bundle"):
        pytest.fail("nothing is to be written")
    tmp_path.chmod(0o755)


def test_what_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("years of work")
    (tmp_path / "link").symlink_to(home)
    for target in (home, home / "thesis.tex", tmp_path / "link"):
        with pytest.raises(OutputError, match=r"no bundle's folder|Not a directory"), new_folder(target):
            pytest.fail("nothing is to be written")

    assert (home / "thesis.tex").read_text() == "years of work"
    assert names(tmp_path) == ["home", "link"]


def test_a_copy_that_is_changed_takes_the_bundle_s_place_only_when_it_is_whole(folder: Path) -> None:
    bundle = Bundle.open(folder)
    with pytest.raises(RuntimeError, match="bug"), new_copy(bundle, folder) as copied:
        (copied / "step.fp32.onnx").unlink()
        raise RuntimeError("bug")
    bundle.verify()

    with new_copy(bundle, folder) as copied:
        Bundle.open(copied).verify()
        write_manifest(copied, bundle.manifest.model_copy(update={"version": "0.2"}))
        bundle.verify()
    assert Bundle.open(folder).manifest.version == "0.2"
    assert names(folder.parent) == ["tiny"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    with new_folder(tmp_path / "bundle") as new:
        (new / "file").write_text("whole")
    assert names(tmp_path / "bundle") == ["file"]
