"""The networks: their shapes, that they know no tile border, that what is exported is what was trained."""

from __future__ import annotations

import pytest
import torch

from export.models.blocks import SplitBlock, TimedBlock
from export.models.unet_lite import UNetConfig, UNetLite, split_skips
from export.models.vae import VAE, VAEConfig, kl_per_pixel
from tests.export.tiny import VAE_CONFIG, tiny_unet, tiny_vae


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_lr_encoder_gives_a_mean_image_features_and_a_condition_at_the_latent_grid() -> None:
    mean, features, condition = tiny_vae().lr_encoder(noise(2, 1, 16, 24))
    assert mean.shape == (2, 1, 64, 96)
    assert features.shape == (2, VAE_CONFIG.lr_width, 16, 24)
    assert condition.shape == (2, VAE_CONFIG.condition_channels, 8, 12)


def test_the_autoencoder_encodes_to_an_eighth_and_decodes_to_the_size_of_the_image() -> None:
    vae = tiny_vae()
    lr, hr = noise(2, 1, 16, 24), noise(2, 1, 64, 96)
    mean, features, _ = vae.lr_encoder(lr)
    mu, log_variance = vae.encode(hr, mean, features)
    assert mu.shape == log_variance.shape == (2, VAE_CONFIG.latent_channels, 8, 12)
    assert vae.decoder(mu, features, mean).shape == hr.shape
    assert vae(lr, hr)["output"].shape == hr.shape


def test_the_encoder_gives_the_same_values_for_a_crop_away_from_its_border() -> None:
    encoder = tiny_vae().lr_encoder
    image = noise(1, 1, 80, 80)
    mean, features, condition = encoder(image)
    part_mean, part_features, part_condition = encoder(image[..., 8:72, 8:72])
    # LR pixels: one layer at the start, two a block at each end, eight for the deep part, and some
    inside, inside_hr, inside_condition = slice(16, -16), slice(68, -68), slice(12, -12)
    # The same sums in another order, in FP32.
    assert (part_features - features[..., 8:72, 8:72])[..., inside, inside].abs().max() < 1e-5
    assert (part_mean - mean[..., 32:288, 32:288])[..., inside_hr, inside_hr].abs().max() < 1e-5
    difference = part_condition - condition[..., 4:36, 4:36]
    assert difference[..., inside_condition, inside_condition].abs().max() < 1e-5


def test_the_decoder_gives_the_same_values_for_a_crop_away_from_its_border() -> None:
    decoder = tiny_vae().decoder
    latent, features, mean = noise(1, 4, 32, 32), noise(1, 8, 64, 64), noise(1, 1, 256, 256)
    whole = decoder(latent, features, mean)[..., 64:192, 64:192]
    part = decoder(latent[..., 8:24, 8:24], features[..., 16:48, 16:48], mean[..., 64:192, 64:192])
    # 8 LR pixels of 4 HR pixels for what runs at the latent grid, 4 for the rest
    assert (part - whole)[..., 48:-48, 48:-48].abs().max() < 1e-5


def test_the_decoder_heeds_the_latent() -> None:
    decoder = tiny_vae().decoder
    features, mean = noise(1, 8, 16, 16), noise(1, 1, 64, 64)
    one, other = (decoder(noise(1, 4, 8, 8, seed=s), features, mean) for s in (1, 2))
    assert (one - other).abs().max() > 1e-2


@pytest.mark.parametrize("config", [VAEConfig(), VAE_CONFIG], ids=["default", "tiny"])
def test_an_autoencoder_is_rebuilt_from_its_configuration(config: VAEConfig) -> None:
    torch.manual_seed(0)
    first = VAE(config)
    VAE(VAEConfig(**config.to_dict())).load_state_dict(first.state_dict())


def test_the_kl_divergence_is_zero_for_the_unit_normal_and_positive_elsewhere() -> None:
    zero = torch.zeros(2, 4, 8, 8)
    assert kl_per_pixel(zero, zero, 64 * 64) == 0
    # a mean of one costs half a nat for each of 4 x 8 x 8 latent values, over 64 x 64 pixels
    assert kl_per_pixel(zero + 1, zero, 64 * 64).item() == pytest.approx(0.5 * 4 * 8 * 8 / 64**2)
    assert kl_per_pixel(zero, zero - 3, 64 * 64) > 0


def test_the_denoiser_gives_a_velocity_of_the_latents_size_and_heeds_all_it_is_told() -> None:
    unet = tiny_unet()
    x, condition, timesteps = noise(2, 4, 8, 12), noise(2, 4, 8, 12, seed=1), torch.tensor([3, 90])
    v = unet(x, timesteps, condition)
    assert v.shape == x.shape
    for changed in (
        unet(x + 1, timesteps, condition),
        unet(x, timesteps.flip(0), condition),
        unet(x, timesteps, condition + 1),
    ):
        assert (changed - v).abs().max() > 1e-3


def test_the_denoiser_begins_by_predicting_nothing() -> None:
    unet = UNetLite(UNetConfig(latent_channels=16, channels=(16, 32, 32), embedding=16, heads=2))
    v = unet(noise(1, 16, 8, 8), torch.tensor([5]), noise(1, 64, 8, 8))
    assert not v.any()


@pytest.mark.parametrize("channels", [(16, 32, 32), (32, 16, 48)])
def test_splitting_the_skips_changes_nothing_but_the_order_of_sums(channels: tuple[int, int, int]) -> None:
    config = UNetConfig(latent_channels=4, condition_channels=4, channels=channels, embedding=16, heads=2)
    unet = tiny_unet(config)
    x, condition, embedding = noise(2, 4, 8, 8), noise(2, 4, 8, 8, seed=1), noise(2, 16, seed=2)
    whole, split = unet.denoise(x, embedding, condition), split_skips(unet).denoise(x, embedding, condition)
    assert (whole - split).abs().max() / whole.abs().max() < 1e-5


def test_splitting_the_skips_leaves_the_original_as_it_was() -> None:
    unet = tiny_unet()
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    split_skips(unet)
    assert isinstance(unet.merge0, TimedBlock)
    assert all(torch.equal(before[name], value) for name, value in unet.state_dict().items())


def test_a_block_whose_groups_straddle_its_halves_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="cannot be split"):
        SplitBlock(TimedBlock(48, 16, 8), 24)


def test_the_default_denoiser_is_small_enough_for_the_device() -> None:
    assert sum(p.numel() for p in UNetLite(UNetConfig()).parameters()) <= 8_000_000
