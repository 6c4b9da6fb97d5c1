"""The training side of edge-sr: data, models, training, and export to a bundle. Needs torch."""
