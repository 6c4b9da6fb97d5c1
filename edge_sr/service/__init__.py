"""The service: HTTP in, enlarged images out, one device behind it.

    app ─► upscaling ─► bodies, parameters ─► worker (owns the upscaler) ─► answers
    server drains on SIGTERM;  problems: every refusal, without names;  access: ids, log, counts

Nothing here is imported by the rest of edge_sr but by ``edge-sr serve``, on use: Starlette, uvicorn,
prometheus-client and python-multipart come with the extra ``service``.
"""
