"""The same weights and steps through other runtimes: what each costs beside edge-sr, in one run.

A peer is a file here and a snippet in `snippets/`, which is what its user has to write: it is counted, and it
is what runs. Every peer has a process of its own; they take turns, with the same images, noise and threads.
"""
