#!/usr/bin/env bash
# Builds the wheel and the source archive, installs the wheel into an empty environment and runs the demo from it.
#
#   scripts/release.sh              everything; needs a package index for the empty environment (or PIP_* settings)
#   scripts/release.sh --no-deps    the new environment sees this one's packages: no index is asked (the suite does this too)
#
# Publishes nothing. What is in dist/ afterwards is what was tried.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-.venv/bin/python}"
python="$(cd "$(dirname "$python")" && pwd)/$(basename "$python")"
version="$("$python" -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])')"

grep -q "^## $version" CHANGELOG.md || { echo "CHANGELOG.md has no section '## $version'" >&2; exit 2; }
if [ -n "$(git status --porcelain 2>/dev/null)" ]; then
  echo "the working tree has changes that are not committed" >&2
  [ "${ALLOW_DIRTY:-}" = 1 ] || exit 2
fi

rm -rf build dist
"$python" -m build --no-isolation
wheel="$(ls dist/*.whl)"
echo "built $wheel, $(du -k "$wheel" | cut -f1) kB"

place="$(mktemp -d)"
trap 'rm -rf "$place"' EXIT
if [ "${1:-}" = --no-deps ]; then
  "$python" -m venv --without-pip "$place/venv"
  "$python" -m pip --python "$place/venv/bin/python" install --quiet --no-deps --no-index "$PWD/$wheel"
  "$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])' \
    > "$("$place/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/packages.pth"
else
  "$python" -m venv "$place/venv"
  "$place/venv/bin/pip" install --quiet "$PWD/$wheel"
fi

cd "$place"
unset PYTHONPATH
bin="$place/venv/bin"
[ "$("$bin/aistudio" --version)" = "aistudio $version" ]
[ -z "$(find venv/lib -maxdepth 3 -name jobs -type d)" ] || { echo "a top-level package jobs was installed" >&2; exit 1; }
"$bin/python" -c "import aistudio, pathlib; assert pathlib.Path(aistudio.__file__).is_relative_to('$place'), aistudio.__file__"
"$bin/aistudio" doctor
"$bin/aistudio" weights list --conf demo_recall
time "$bin/aistudio" demo --out "$place/demo"
test -s "$place/demo/sights/report/index.html"
du -sm venv | sed 's/venv/MB installed/'

if command -v docker >/dev/null && docker info >/dev/null 2>&1; then
  docker build --tag "aistudio:$version" "$OLDPWD" && docker run --rm "aistudio:$version" aistudio --version
else
  echo "no container daemon here: the image was not built"
fi
echo "ready: $wheel"
