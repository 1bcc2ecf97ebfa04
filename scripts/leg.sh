#!/usr/bin/env bash
# Runs a part of the suite with other versions of packages than the environment has.
#
#   scripts/leg.sh oldest            constraints/oldest.txt: the lowest versions that pyproject.toml allows
#   scripts/leg.sh newest            the newest versions of the same packages that the package index has
#   scripts/leg.sh NAME tests/...    these tests instead of the usual ones
#
# The versions are installed without their dependencies into build/legs/NAME (LEG_FOLDER=/tmp/legs: elsewhere), which
# Python looks into first; all other packages are the environment's, and nothing of the environment is changed.
# LEG_PACKAGES="torch==2.15.* torchvision" takes other packages (CUDA's come from the environment then, so only a
# neighbouring version of torch will do). LEG_SECONDS=900 ends the tests after so many seconds: what they said until then
# stands in NAME.txt beside the folder.
set -euo pipefail
cd "$(dirname "$0")/.."
name="${1:?oldest or newest}"
shift
python="${PYTHON:-.venv/bin/python}"
place="$(realpath -m "${LEG_FOLDER:-build/legs}/$name")"
if [ -n "${LEG_PACKAGES:-}" ]; then
  read -r -a packages <<<"$LEG_PACKAGES"
elif [ "$name" = newest ]; then
  mapfile -t packages < <(sed -n 's/^\([A-Za-z0-9_.-]*\)==.*/\1/p' constraints/oldest.txt)
else
  packages=(-r "constraints/$name.txt")
fi
tests=("$@")
if [ ${#tests[@]} -eq 0 ]; then
  tests=(tests/test_store.py tests/test_schema.py tests/test_values.py tests/test_config.py tests/catalogue tests/api
         tests/runs tests/evaluation tests/metrics tests/index tests/search tests/exports tests/reports/test_page.py
         tests/images/test_transform.py tests/images/test_decode.py tests/images/test_download.py)
fi
rm -rf "$place"
mkdir -p "$place"
"$python" -m pip install --quiet --no-deps --target "$place" "${packages[@]}"
export PYTHONPATH="$place:$PWD${PYTHONPATH:+:$PYTHONPATH}"
"$python" - "$place" <<'PY'
import importlib.metadata, pathlib, sys
for found in sorted(importlib.metadata.distributions(path=[sys.argv[1]]), key=lambda d: d.name.lower()):
    seen = importlib.metadata.version(found.name)
    assert seen == found.version, f"{found.name} {seen} is looked at, not {found.version}"
    print(f"{found.name} {found.version}")
PY
exec timeout --signal=INT --kill-after=60 "${LEG_SECONDS:-7200}" \
  "$python" -m pytest -q -p no:cacheprovider "${tests[@]}" > >(tee "$place.txt") 2>&1
