"""How fast this machine is: what `edge-sr bench` measures, keeps and compares.

    run ─► subject (an image, file to file; a batch), start (a fresh process), load (requests that queue)
     │        └─ turns: warm-up, and runs in turns          machine: environment, state, warnings
     └─► records ─► storage (strict JSON) ─► comparison

Nothing is imported here: `edge_sr.bench.start` is run in a fresh process that is timed.
"""
