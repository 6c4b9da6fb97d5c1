"""The diagnostic check: who may be judged, what the judge is, and what is concluded."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from benchmarks.__main__ import run
from benchmarks.diagnostic.cases import LABELS, read_cases, read_images
from benchmarks.diagnostic.judge import Judge
from benchmarks.diagnostic.picture import worst
from benchmarks.diagnostic.records import DiagnosticResult
from benchmarks.diagnostic.resnet import ResNet18, ResNetConfig
from benchmarks.diagnostic.run import OUTPUTS, Outcome, Request, run_diagnostic
from benchmarks.diagnostic.telling import can_be_told
from benchmarks.diagnostic.training import WEIGHTS, JudgeTask, Recipe, train_judge
from benchmarks.diagnostic.words import find_pair, verdicts
from benchmarks.records import Estimate, to_json
from edge_sr.bundle import Bundle
from edge_sr.errors import ConfigError, UsageError
from tests.fakes import write_tiny_bundle

Gray = npt.NDArray[np.uint8]
RECIPE = Recipe(iterations=24, learning_rate=3e-3, validate_every=8, threads=1, network=ResNetConfig(width=4))
TRAIN, TEST = 28, 10  # images


def radiograph(rng: np.random.Generator, *, is_ill: bool) -> Gray:
    """A dark field; an ill one has stripes in its lower half, which stay at a quarter of the size."""
    noise = cv2.GaussianBlur(rng.normal(0, 60, (256, 256)), (0, 0), 6)
    image = 90 + 3 * noise
    if is_ill:
        image[128:] += 60 * np.sin(np.arange(256) * 2 * np.pi / 32)
    return np.clip(image, 0, 255).astype(np.uint8)


def write_data(folder: Path, *, has_signal: bool = True) -> Path:
    """Two images a patient, test ones as pairs, and the table; without a signal, those are all equal."""
    rng = np.random.default_rng(0)
    for name in ("train", "test/hr_256", "test/lr_64"):
        (folder / name).mkdir(parents=True)
    rows = []
    for index in range(TRAIN + TEST):
        is_test, is_ill = index >= TRAIN, index // 2 % 2 == 1
        seed = np.random.default_rng(7) if is_test and not has_signal else rng
        image = radiograph(seed, is_ill=is_ill and (has_signal or not is_test))
        file = f"test/hr_256/{index}.png" if is_test else f"train/{index}.png"
        cv2.imwrite(str(folder / file), image)
        if is_test:
            small = cv2.resize(image, (64, 64), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(folder / "test" / "lr_64" / f"{index}.png"), small)
        side = "test" if is_test else "train"
        rows.append([file, side, f"case-{index // 2}", "pneumonia_virus" if is_ill else "normal"])
    write_table(folder, [*rows, ["else.png", "test", "q", "covid"]])
    return folder


def write_table(folder: Path, rows: list[list[str]]) -> None:
    with (folder / LABELS).open("w", newline="") as file:
        csv.writer(file).writerows([["file", "split", "patient_id", "label"], *rows])


def read_table(folder: Path) -> list[list[str]]:
    with (folder / LABELS).open(newline="") as file:
        return list(csv.reader(file))[1:]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("diagnostic") / "made-up")


@pytest.fixture(scope="module")
def judge_run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained judge."""
    out = tmp_path_factory.mktemp("judges") / "judge"
    train_judge(read_cases(data, data / LABELS), RECIPE, out)
    return out


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of whole tiles of 64x64 with every precision, whose model has learned nothing."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    return write_tiny_bundle(folder, tile=64, precisions=("fp32", "fp16", "int8"))


@pytest.fixture(scope="module")
def request_(tiny: Bundle, data: Path, judge_run: Path) -> Request:
    return Request(tiny.folder, data, data / LABELS, judge_run, RECIPE, seeds=2, threads=1, source="made up")


@pytest.fixture(scope="module")
def outcome(request_: Request) -> Outcome:
    """A whole run."""
    return run_diagnostic(request_, arguments=["diagnostic"], track=lambda items, what: items)


# ---- who may be judged


def test_no_patient_is_on_two_sides(data: Path) -> None:
    cases = read_cases(data, data / LABELS)
    sides = [{case.patient for case in side} for side in (cases.train, cases.val, cases.test)]
    assert len(set.union(*sides)) == sum(map(len, sides)) == (TRAIN + TEST) // 2
    assert cases.ignored == {"covid": 1}
    assert cases.pairs_folder == data / "test"


def test_a_patient_on_both_sides_is_refused(data: Path, tmp_path: Path) -> None:
    rows = read_table(data)
    rows[-2][2] = rows[0][2]
    write_table(tmp_path, rows)
    with pytest.raises(ConfigError, match="1 patients are on both sides, train and test"):
        read_cases(data, tmp_path / LABELS)


def test_a_side_without_healthy_images_is_refused(data: Path, tmp_path: Path) -> None:
    write_table(tmp_path, [row for row in read_table(data) if row[1:] and row[3] != "normal"])
    with pytest.raises(ConfigError, match="wanted some labelled normal and some pneumonia"):
        read_cases(data, tmp_path / LABELS)


def test_an_unknown_split_and_a_table_that_is_none_are_refused(data: Path, tmp_path: Path) -> None:
    rows = read_table(data)
    rows[0][1] = "holdout"
    write_table(tmp_path, rows)
    with pytest.raises(ConfigError, match="wanted a split train or test, got 'holdout'"):
        read_cases(data, tmp_path / LABELS)
    (tmp_path / "empty.csv").write_text("file,label\na.png,normal\n")
    with pytest.raises(ConfigError, match="has no rows with split, patient_id"):
        read_cases(data, tmp_path / "empty.csv")
    with pytest.raises(ConfigError, match=r"none.csv, which tells the labels, cannot be read"):
        read_cases(data, tmp_path / "none.csv")


def test_a_test_image_without_a_label_is_refused(request_: Request, data: Path, tmp_path: Path) -> None:
    write_table(tmp_path, [row for row in read_table(data) if row[0] != f"test/hr_256/{TRAIN}.png"])
    with pytest.raises(ConfigError, match="1 test images have a label and no file, or a file and no label"):
        run_diagnostic(
            replace(request_, labels=tmp_path / LABELS), arguments=[], track=lambda items, what: items
        )


# ---- the judge


def test_the_network_is_a_resnet_18_of_eleven_million_parameters() -> None:
    network = ResNet18(ResNetConfig())
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(11.2e6, rel=0.01)
    convolutions = [
        m for m in network.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size != (1, 1)
    ]
    assert len(convolutions) + 1 == 18  # and the linear head
    assert network(torch.zeros(2, 1, 256, 256)).shape == (2,)


def test_brightness_and_contrast_of_the_whole_image_change_no_decision(judge_run: Path) -> None:
    judge = Judge(judge_run)
    image = torch.rand(1, 1, 256, 256)
    darker = 0.5 * image - 0.3
    assert judge.distance(image, darker).item() == pytest.approx(0, abs=1e-3)


def test_the_distance_is_zero_of_equal_images_and_more_of_others(judge_run: Path) -> None:
    judge, images = Judge(judge_run), torch.rand(2, 1, 256, 256)
    ill = torch.from_numpy(radiograph(np.random.default_rng(0), is_ill=True) / 127.5 - 1).float()[None, None]
    assert judge.distance(images, images).tolist() == pytest.approx([0, 0], abs=1e-6)
    assert (judge.distance(images, ill) > 1e-3).all()  # one image stands beside all


def test_a_batch_depends_on_its_index_alone_and_has_both_classes(data: Path, tmp_path: Path) -> None:
    task = JudgeTask(read_cases(data, data / LABELS), RECIPE, out=tmp_path)
    whole = list(islice(task.batches(0), 4))
    images, labels = next(task.batches(3))
    assert torch.equal(images, whole[3][0])
    assert not torch.equal(images, whole[2][0])
    assert labels.tolist() == [0] * 8 + [1] * 8
    assert images.shape == (16, 1, 256, 256)
    assert -1 <= images.min() < images.max() <= 1


def test_the_weights_that_are_kept_are_those_of_the_best_validation(judge_run: Path) -> None:
    with (judge_run / "log.csv").open(newline="") as file:
        losses = [float(value) for _, _, name, value in csv.reader(file) if name == "val_loss"]
    assert len(losses) == 3
    assert Judge(judge_run).validation["loss"] == pytest.approx(min(losses), rel=1e-5)


def test_a_finished_judge_is_not_trained_again_and_one_on_other_images_is_refused(
    data: Path, judge_run: Path, tmp_path: Path
) -> None:
    before = Judge(judge_run).digest
    cases = read_cases(data, data / LABELS)
    train_judge(cases, RECIPE, judge_run)
    assert Judge(judge_run).digest == before
    with pytest.raises(UsageError, match="another configuration"):
        train_judge(replace(cases, train=cases.train[2:]), RECIPE, judge_run)


def test_images_of_another_size_and_files_that_are_no_judge_are_refused(
    judge_run: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="the judge reads 256x256 pixels, got 64x128"):
        Judge(judge_run).look(np.zeros((1, 128, 64), np.uint8))
    with pytest.raises(ConfigError, match="No such file"):
        Judge(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="is no judge"):
        Judge(tmp_path)


# ---- the whole


def test_every_row_is_judged_on_every_image_and_seed(outcome: Outcome) -> None:
    record = outcome.record
    assert [row.key for row in record.rows] == ["hr", "bicubic", "fp32", "fp16", "int8"]
    assert [len(row.logits) for row in record.rows] == [1, 1, 2, 2, 2]
    for row in record.rows:
        for logits, matrix in zip(row.logits, row.matrices, strict=True):
            assert len(logits) == sum(matrix.model_dump().values()) == TEST
            found = sum(v > 0 and bool(ill) for v, ill in zip(logits, record.is_ill, strict=True))
            assert matrix.true_positive == found
    assert sorted(record.patients) == [n // 2 for n in range(TEST)]


def test_the_judge_is_valid_and_bicubic_keeps_what_it_looks_for(outcome: Outcome) -> None:
    record = outcome.record
    assert record.judge.is_valid
    assert record.judge.auc.mean == record.rows[0].auc.mean >= 0.9
    assert record.rows[0].auc_change.mean == 0
    assert record.rows[0].distance == pytest.approx(0, abs=1e-6)  # rounding
    assert record.rows[1].distance > 1e-6
    assert "needs little of what super-resolution adds" in outcome.markdown


def test_all_rows_are_held_against_each_other_and_fp32_against_another_seed(outcome: Outcome) -> None:
    pairs = outcome.record.pairs
    assert len(pairs) == 5 * 4 // 2 + 1
    assert sum(pair.holm is not None for pair in pairs) == 10
    assert all(pair.holm >= pair.p[0] for pair in pairs if pair.holm is not None)
    last = pairs[-1]
    assert (last.first, last.second, last.holm, len(last.p)) == ("fp32", "fp32", None, 1)
    for pair in pairs:
        differ = sum(pair.only_first) + sum(pair.only_second)
        assert pair.discordance.value == pytest.approx(differ / len(pair.p) / TEST)
        change = (sum(pair.only_second) - sum(pair.only_first)) / len(pair.p) / TEST
        assert pair.accuracy_change.mean == pytest.approx(change)


def test_failures_are_right_where_true_and_wrong_as_the_row_has_them(outcome: Outcome) -> None:
    record = outcome.record
    true = record.rows[0].logits[0]
    listed = {(f.image, f.key, seed) for f in record.failures for seed in f.seeds}
    wanted = {
        (image, row.key, seed)
        for row in record.rows[1:]
        for seed, logits in enumerate(row.logits)
        for image, ill in enumerate(record.is_ill)
        if (true[image] > 0) == bool(ill) != (logits[image] > 0)
    }
    assert listed == wanted
    assert any(one.is_wrong for one in worst(record)) == any(key in ("fp32", "int8") for _, key, _ in listed)


def test_the_record_reads_back_and_the_report_says_what_it_rests_on(outcome: Outcome) -> None:
    text = to_json(outcome.record)
    assert DiagnosticResult.model_validate_json(text) == outcome.record
    assert "/" not in json.loads(text)["environment"]["command"]
    for title in ("The judge", "Decisions", "Pairs", "Drift of the score", "What this does not show"):
        assert f"## {title}" in outcome.markdown
    assert "10 pairs are tested on the same images" in outcome.markdown
    assert "made up" in outcome.markdown
    assert "1 images labelled covid are left out" in outcome.markdown
    assert cv2.imdecode(np.frombuffer(outcome.png, np.uint8), cv2.IMREAD_COLOR) is not None


def test_outputs_are_kept_and_a_second_run_says_the_same(request_: Request, outcome: Outcome) -> None:
    kept = sorted((request_.judge / OUTPUTS).iterdir())
    assert len(kept) == 3 * request_.seeds
    before = [path.stat().st_mtime_ns for path in kept]
    again = run_diagnostic(request_, arguments=["diagnostic"], track=lambda items, what: items)
    assert [path.stat().st_mtime_ns for path in kept] == before
    assert again.record.rows == outcome.record.rows
    assert again.record.pairs == outcome.record.pairs


def test_damaged_outputs_are_named(request_: Request, outcome: Outcome) -> None:
    path = min((request_.judge / OUTPUTS).iterdir())
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    try:
        with pytest.raises(ConfigError, match="cannot be read"):
            run_diagnostic(request_, arguments=[], track=lambda items, what: items)
    finally:
        path.write_bytes(whole)


def test_a_judge_below_the_limit_is_called_invalid_and_nothing_is_concluded(
    request_: Request, tmp_path: Path
) -> None:
    data = write_data(tmp_path / "no-signal", has_signal=False)  # test images are equal: an AUC of one half
    request = replace(
        request_,
        data=data,
        labels=data / LABELS,
        judge=tmp_path / "judge",
        recipe=replace(RECIPE, iterations=1),
    )
    found = run_diagnostic(request, arguments=[], track=lambda items, what: items)
    assert found.record.judge.auc.mean == 0.5
    assert not found.record.judge.is_valid
    assert [row.key for row in found.record.rows] == ["hr"]
    assert (found.record.pairs, found.record.failures) == ((), ())
    assert len(found.record.verdicts) == 1
    assert "Judge invalid" in found.markdown
    assert "No conclusion is drawn" in found.markdown
    assert "## Pairs" not in found.markdown
    assert not (request.judge / OUTPUTS).exists()


def test_a_patient_on_both_sides_is_one_line_and_exit_code_1(
    tiny: Bundle, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = read_table(data)
    rows[-2][2] = rows[0][2]
    write_table(tmp_path, rows)
    folders = ["--bundle", tiny.folder, "--data", data, "--labels", tmp_path / LABELS]
    arguments = [*folders, "--judge", tmp_path / "judge", "--out", tmp_path / "out"]
    assert run(["diagnostic", *map(str, arguments)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "both sides" in error
    assert not (tmp_path / "judge").exists()


def test_images_are_reduced_to_the_judges_size(data: Path, tmp_path: Path) -> None:
    case = read_cases(data, data / LABELS).train[0]
    large = cv2.resize(cv2.imread(str(case.path), cv2.IMREAD_GRAYSCALE), (300, 280))
    cv2.imwrite(str(tmp_path / "large.png"), large)
    assert read_images([replace(case, path=tmp_path / "large.png")]).shape == (1, 256, 256)


# ---- the words


@pytest.mark.parametrize(
    ("only", "holm", "change", "wanted"),
    [
        ((12, 0), 0.005, (-0.08, -0.12, -0.04), "FP32 is worse."),
        ((0, 12), 0.005, (0.08, 0.04, 0.12), "FP32 is better."),
        ((7, 1), 0.7, (-0.04, -0.07, -0.01), "The interval leans to worse, the test does not settle it"),
        ((2, 1), 1.0, (-0.01, -0.03, 0.02), "No difference is shown, which does not show that there is none"),
    ],
)
def test_a_difference_is_claimed_where_the_adjusted_test_shows_it_alone(
    outcome: Outcome,
    only: tuple[int, int],
    holm: float,
    change: tuple[float, float, float],
    wanted: str,
) -> None:
    record = outcome.record
    pair = find_pair(record.pairs, "hr", "fp32")
    assert pair
    found = pair.model_copy(
        update={
            "only_first": only[:1],
            "only_second": only[1:],
            "holm": holm,
            "accuracy_change": Estimate(mean=change[0], low=change[1], high=change[2]),
        }
    )
    told = verdicts(record.judge, record.rows, [found], images=158)
    assert wanted in told[-1]
    claims = ("is worse.", "is better.", "leans to", "No difference is shown")
    assert sum(claim in told[-1] for claim in claims) == 1


# ---- a class-guided model


@pytest.fixture(scope="module")
def told(request_: Request, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A whole run of one."""
    folder = tmp_path_factory.mktemp("bundles") / "guided"
    bundle = write_tiny_bundle(folder, tile=64, family="guided")
    request = replace(request_, bundle=bundle.folder, seeds=1)
    return run_diagnostic(request, arguments=["diagnostic"], track=lambda items, what: items)


def test_a_class_guided_model_is_told_nothing_the_true_and_the_wrong_class(told: Outcome) -> None:
    keys = [row.key for row in told.record.rows]
    asked = [f"{kind}-{guidance}" for guidance in (1, 2, 4) for kind in ("true", "wrong")]
    assert keys == ["hr", "bicubic", "fp32", *asked]
    rows = {row.key: row.logits for row in told.record.rows}
    assert len({rows[key] for key in ("fp32", *asked)}) == 7  # each of them moves the judge
    assert told.png.startswith(b"\x89PNG")


def test_the_report_of_a_class_guided_model_shows_the_danger_plainly(told: Outcome) -> None:
    found = [verdict for verdict in told.record.verdicts if "Guidance by label" in verdict]
    assert len(found) == 3 and all("told the wrong class, the judge finds pneumonia in" in v for v in found)
    assert "no way to enlarge an image that will be read" in told.markdown
    for row in told.record.rows:
        missed, invented = row.rates["false_negative_rate"], row.rates["false_positive_rate"]
        recall, specificity = row.rates["recall"], row.rates["specificity"]
        assert missed and invented and recall and specificity
        assert missed.value + recall.value == pytest.approx(1)
        assert invented.value + specificity.value == pytest.approx(1)


def test_a_bundle_without_the_judges_classes_is_told_nothing(tiny: Bundle, told: Outcome) -> None:
    assert not can_be_told(tiny)
    assert not any("told nothing here" in notice for notice in told.record.notices)
