"""The only place that imports ray: jobs are put together here from the rooms' plain functions."""

import os

# Read when ray is imported. Under `uv run` Ray would ship the folder without what .gitignore names, weights included.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
