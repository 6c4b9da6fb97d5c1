"""What a user of each runtime writes, in its usual form. Every file is counted, executed and timed as it is.

    load(folder, threads) -> model             once
    upscale(model, image, noise) -> image      (N, C, t, t) in [-1, 1], (N, L, h, w) -> (N, C, T, T)

Weights, graphs and the table of steps lie in the folder: making them is not counted. edge-sr draws its own
noise, from a seed, and is given that instead.
"""
