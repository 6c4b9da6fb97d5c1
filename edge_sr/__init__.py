"""edge-sr: medical image super-resolution by latent diffusion, on the device where the images are made."""

__version__ = "0.1.0"
