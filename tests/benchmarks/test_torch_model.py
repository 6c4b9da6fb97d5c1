from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.loop import AGREEMENT, LAYOUTS, Request, agree, run_loop, take_turns
from benchmarks.records import LoopResult, to_json
from benchmarks.report import loop_report
from benchmarks.rows import Track
from benchmarks.torch_model import rebuild
from benchmarks.weights import latent_scale, read_weights
from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.errors import BundleError
from edge_sr.pipeline import Upscaler
from edge_sr.spec import Component, Precision
from export.families import Model
from tests.fakes import write_tiny_bundle


def test_every_parameter_comes_back_from_the_graphs(bundle: Bundle, model: Model) -> None:
    rebuilt = rebuild(bundle)
    networks: list[tuple[nn.Module, nn.Module]] = [
        (rebuilt.lr_encoder, model.vae.lr_encoder),
        (rebuilt.decoder, model.vae.decoder),
        (rebuilt.unet, model.unet),
    ]
    for have, want in networks:
        wanted = {k: v for k, v in want.state_dict().items() if not k.startswith("time.")}
        found = {k: v for k, v in have.state_dict().items() if not k.startswith("time.")}
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert rebuilt.unet.config == model.unet.config


def test_the_latents_scale_comes_back_from_the_decoder(bundle: Bundle, model: Model) -> None:
    found = latent_scale(bundle)
    assert found is not None
    for have, want in zip(found, (model.scale.mean, model.scale.std), strict=True):
        np.testing.assert_array_equal(have[:, 0, 0], want.numpy())


@pytest.mark.parametrize("preset", ["default", "ancestral"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_torch_and_the_engine_make_the_same_image(bundle: Bundle, preset: str, layout: str) -> None:
    model = rebuild(bundle).to_memory_format(LAYOUTS[layout])
    chosen = bundle.diffusion.presets[preset]
    with Upscaler(bundle, open_backend("onnxruntime", threads=1), precision=Precision.FP32) as upscaler:
        assert agree(upscaler, {layout: model}, chosen)[layout] <= AGREEMENT


def test_a_bundle_of_other_networks_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    other = write_tiny_bundle(tmp_path_factory.mktemp("other") / "tiny")
    with pytest.raises(BundleError):
        rebuild(other)


def test_subjects_take_turns_and_each_runs_once_uncounted(quietly: Track) -> None:
    order: list[str] = []

    def subject(name: str) -> float:
        order.append(name)
        return float(len(order))

    subjects = {name: lambda name=name: subject(name) for name in "ab"}
    measured = take_turns(subjects, repeats=2, track=quietly)
    assert order == list("aabb" + "bbaa")
    assert measured == {"a": [2.0, 8.0], "b": [4.0, 6.0]}


def test_a_timing_run_is_a_record_that_reads_back_and_a_table(bundle: Bundle, quietly: Track) -> None:
    threads = torch.get_num_threads()
    request = Request(bundle.folder, steps=2, repeats=3, threads=1)
    result = run_loop(request, arguments=["loop"], track=quietly)
    torch.set_num_threads(threads)
    assert LoopResult.model_validate_json(to_json(result)) == result
    assert {len(t.seconds) for t in (*result.loop.values(), *result.upscale.values())} == {3}
    assert result.preset.steps == 2
    assert len(result.checks) == 2
    assert "engine calls" in loop_report(result)


def test_weights_keep_the_names_of_their_parameters(bundle: Bundle) -> None:
    weights = read_weights(bundle, Component.STEP)
    assert "unet.conv_in.weight" in weights.layers
    assert len(weights.norms) > 0
