"""The contract with users: HTTP, command line, environment, metrics, broker, problems and Python client.

`tests/data/surface.json` holds it. A change that only adds is written down with `python -m tests.contract`. Anything
removed or changed breaks somebody's program: keep it, or announce it as a breaking release.
"""
