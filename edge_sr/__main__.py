"""`python -m edge_sr` is the same as `edge-sr`."""

from edge_sr.cli import main

if __name__ == "__main__":
    main()
