"""Training pairs: the same view twice, varied as said, the same again for the same seed."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_sr.errors import ConfigError, EdgeSRError, ImageError, UsageError
from export.data import (
    Augmentation,
    Gray,
    PairStream,
    load_folder,
    load_pairs,
    make_pair,
    plain_pair,
    read_gray,
    to_unit,
)
from tests.export.tiny import original

PLAIN = Augmentation(warp=0, degrade=0, brightness=0, contrast=0)
WARPED = Augmentation(warp=1, degrade=0, rotation_deg=10, zoom=0.6)
DEGRADED = Augmentation(warp=0, degrade=1, brightness=0, contrast=0)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def correlation(a: Gray, b: Gray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def reduced(hr: Gray) -> Gray:
    return np.asarray(cv2.resize(hr, (64, 64), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(512, 512), (700, 600), (256, 256), (300, 900)])
def test_the_plain_pair_is_the_middle_square_by_cubic_interpolation_straight_from_the_original(
    shape: tuple[int, int],
) -> None:
    image = original(0, height=shape[0], width=shape[1])
    side = min(shape)
    y, x = (shape[0] - side) // 2, (shape[1] - side) // 2
    middle = image[y : y + side, x : x + side]
    hr, lr = plain_pair(image)
    assert np.array_equal(hr, cv2.resize(middle, (256, 256), interpolation=cv2.INTER_CUBIC))
    assert np.array_equal(lr, cv2.resize(middle, (64, 64), interpolation=cv2.INTER_CUBIC))


@pytest.mark.parametrize("seed", range(8))
def test_a_warp_is_the_same_for_both_images_of_a_pair(seed: int) -> None:
    hr, lr = make_pair(original(seed, height=620, width=540), rng(seed), WARPED)
    assert hr.shape == (256, 256)
    assert lr.shape == (64, 64)
    # A shift of one LR pixel, four HR pixels, is noticed: these images have detail of that size.
    small = reduced(hr)
    assert correlation(small, lr) > 0.99
    assert correlation(small, lr) > max(correlation(np.roll(small, 1, axis), lr) for axis in (0, 1))


def test_a_varied_pair_without_variations_is_the_plain_pair_or_its_mirror_image() -> None:
    image = original(3, height=512, width=512)
    _, plain = plain_pair(image)
    hr, lr = make_pair(image, rng(0), PLAIN)
    mirrored = lr[:, ::-1]
    # The kernel is a little sharper or softer from pair to pair.
    assert min(np.abs(lr.astype(int) - plain).mean(), np.abs(mirrored.astype(int) - plain).mean()) < 3
    assert correlation(reduced(hr), lr) > 0.99


def test_brightness_and_contrast_vary_and_are_the_same_for_both() -> None:
    image = original(1, height=512, width=512)
    pairs = [make_pair(image, rng(seed), Augmentation(warp=0, degrade=0)) for seed in range(12)]
    means = np.array([(hr.mean(), lr.mean()) for hr, lr in pairs])
    assert np.ptp(means[:, 0]) > 10
    assert np.abs(means[:, 0] - means[:, 1]).max() < 3


def test_degradations_vary_while_the_hr_image_does_not() -> None:
    image = original(2, height=512, width=512)
    differences = []
    for seed in range(24):
        hr, lr = make_pair(image, rng(seed), DEGRADED)
        assert correlation(reduced(hr), lr) > 0.9
        differences.append(float(np.abs(reduced(hr).astype(int) - lr).mean()))
    assert len({round(value, 3) for value in differences}) > 12
    assert min(differences) < 0.01  # now and then it is the plain kernel


def test_most_pairs_are_degraded_by_the_kernel_of_the_task_and_some_by_others() -> None:
    image = original(2, height=512, width=512)
    hrs, lrs = zip(*[make_pair(image, rng(seed), Augmentation(warp=0)) for seed in range(40)], strict=True)
    sampled = [cv2.resize(hr, (64, 64), interpolation=cv2.INTER_AREA) for hr in hrs]
    close_to_area = [np.abs(a.astype(int) - b).mean() < 1.5 for a, b in zip(sampled, lrs, strict=True)]
    assert 0 < sum(close_to_area) < 20


@pytest.mark.parametrize("crop", [32, 128, 256])
def test_a_batch_depends_on_the_seed_and_its_index_alone(crop: int) -> None:
    images = [original(seed, height=400, width=330) for seed in range(3)]
    stream = PairStream(images, batch=3, crop=crop, seed=7)
    first = [stream.batch(index) for index in range(3)]
    again = PairStream(images, batch=3, crop=crop, seed=7, start=1)
    following = iter(again)
    for lr, hr in first[1:]:
        next_lr, next_hr = next(following)
        assert np.array_equal(lr, next_lr)
        assert np.array_equal(hr, next_hr)
    following.close()
    assert not np.array_equal(first[0][0], first[1][0])
    assert not np.array_equal(PairStream(images, batch=3, crop=crop, seed=8).batch(0)[0], first[0][0])


def test_a_batch_holds_crops_of_both_images_at_the_same_place_in_minus_one_to_one() -> None:
    stream = PairStream([original(0, height=512, width=512)], batch=6, crop=64, seed=0, augmentation=PLAIN)
    lr, hr = stream.batch(0)
    assert lr.shape == (6, 1, 16, 16)
    assert hr.shape == (6, 1, 64, 64)
    assert lr.dtype == hr.dtype == np.float32
    assert hr.min() >= -1
    assert hr.max() <= 1
    for small, large in zip(lr, hr, strict=True):
        assert correlation(cv2.resize(large[0], (16, 16), interpolation=cv2.INTER_CUBIC), small[0]) > 0.97


def test_what_goes_wrong_while_pairs_are_made_ahead_reaches_the_one_who_waits() -> None:
    broken = iter(PairStream([np.zeros((0, 0), np.uint8)], batch=1, crop=64, seed=0))
    with pytest.raises((ValueError, ZeroDivisionError, cv2.error)):
        next(broken)


@pytest.mark.parametrize(("batch", "crop"), [(0, 64), (4, 60), (4, 264), (4, 0)])
def test_a_crop_that_does_not_fit_the_latents_grid_is_refused(batch: int, crop: int) -> None:
    with pytest.raises(UsageError, match="wanted a batch of 1 or more and a crop"):
        PairStream([original(0)], batch=batch, crop=crop, seed=0)


def test_the_views_filter_keeps_what_the_index_says(dataset: Path) -> None:
    every, frontal = load_folder(dataset / "train"), load_folder(dataset / "train", views=frozenset({"PA"}))
    assert len(every) == 4
    assert [image.tobytes() for image in frontal] == [every[1].tobytes(), every[3].tobytes()]
    with pytest.raises(ConfigError, match="no images of view LATERAL"):
        load_folder(dataset / "train", views=frozenset({"LATERAL"}))


def test_a_missing_or_strange_index_is_named_only_where_views_are_asked_for(
    dataset: Path, tmp_path: Path
) -> None:
    shutil.copytree(dataset / "train", tmp_path / "train")
    assert len(load_folder(tmp_path / "train")) == 4
    with pytest.raises(ConfigError, match=r"index\.csv, which tells the views, cannot be read"):
        load_folder(tmp_path / "train", views=frozenset({"PA"}))
    (tmp_path / "index.csv").write_text("file,patient_id\na.png,1\n")
    with pytest.raises(ConfigError, match="has no column 'view'"):
        load_folder(tmp_path / "train", views=frozenset({"PA"}))


def small(folder: Path) -> None:
    cv2.imwrite(str(folder / "a.png"), original(0, height=200, width=400))


def text(folder: Path) -> None:
    (folder / "a.png").write_text("not an image")


def half(folder: Path) -> None:
    _, coded = cv2.imencode(".jpg", original(0))
    (folder / "a.jpg").write_bytes(coded.tobytes()[: len(coded) // 2])


def nothing(folder: Path) -> None:
    (folder / "notes.txt").write_text("no images here")


@pytest.mark.parametrize("spoil", [small, text, half, nothing])
def test_a_folder_that_cannot_be_trained_on_is_refused_by_name(spoil: object, tmp_path: Path) -> None:
    assert callable(spoil)
    spoil(tmp_path)
    with pytest.raises(EdgeSRError, match=str(tmp_path)):
        load_folder(tmp_path)
    with pytest.raises(ConfigError, match="no images"):
        load_folder(tmp_path / "none")


def test_colour_and_16_bits_become_8_bit_gray(tmp_path: Path) -> None:
    image = original(4)
    cv2.imwrite(str(tmp_path / "deep.png"), image.astype(np.uint16) * 257)
    cv2.imwrite(str(tmp_path / "colour.png"), np.stack([image] * 3, axis=-1))
    for name in ("deep.png", "colour.png"):
        read = read_gray(tmp_path / name)
        assert read.dtype == np.uint8
        assert np.array_equal(read, image)


def test_prepared_pairs_are_read_in_order_and_in_minus_one_to_one(dataset: Path) -> None:
    lr, hr, names = load_pairs(dataset / "val")
    assert names == ["0.png", "1.png"]
    assert lr.shape == (2, 1, 64, 64)
    assert hr.shape == (2, 1, 256, 256)
    stored = cv2.imread(str(dataset / "val/hr_256/1.png"), cv2.IMREAD_GRAYSCALE)
    assert np.array_equal(hr[1, 0], to_unit(np.asarray(stored, dtype=np.uint8)))


def test_a_folder_of_pairs_is_refused_where_one_is_missing_or_of_another_size(
    dataset: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="no pairs"):
        load_pairs(dataset / "train")
    with pytest.raises(ConfigError, match="no pairs"):
        load_pairs(dataset / "val", lr_side=128)
    shutil.copytree(dataset / "val", tmp_path / "val")
    cv2.imwrite(str(tmp_path / "val/lr_64/1.png"), original(0))
    with pytest.raises(ConfigError, match=r"1\.png is 300x300, wanted 64x64"):
        load_pairs(tmp_path / "val")
    (tmp_path / "val/lr_64/1.png").unlink()
    with pytest.raises(ImageError, match=r"lr_64/1\.png: no such file"):
        load_pairs(tmp_path / "val")
