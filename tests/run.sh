#!/usr/bin/env bash
# Everything that must hold, from nothing: a virtual environment, the requirements, a Chromium if one can be had, then
# style, import contracts and all tests. Extra arguments go to pytest.
#
#   LSD_TEST_ENV   where the environment lives (default: .venv-test beside the code). It is named by the hash of the
#                  requirement files and of Python's version, so a changed requirement makes a new one.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed." >&2; exit 1; }
hash=$({ "$python" -V; cat requirements.txt requirements-dev.txt; } | sha256sum | cut -c1-16)
env=${LSD_TEST_ENV:-$PWD/.venv-test}/$hash
if [ ! -f "$env/.complete" ]; then
  rm -rf "$env"
  "$python" -m venv "$env"
  "$env/bin/pip" install --quiet --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
  touch "$env/.complete"  # only a finished installation is used again
fi

# The browser tests take any Chromium; without one they skip, and say so.
find_chromium() { command -v chromium || command -v chromium-browser || command -v google-chrome || true; }
if [ -z "$(find_chromium)" ] && command -v apt-get > /dev/null && [ "$(id -u)" = 0 ]; then
  { apt-get update -qq && apt-get install -y -qq chromium; } > /dev/null 2>&1 || echo "No Chromium could be installed." >&2
fi
LSD_CHROMIUM=$(find_chromium)
export LSD_CHROMIUM GRADIO_ANALYTICS_ENABLED=False HF_HUB_DISABLE_TELEMETRY=1
# Threads that wait asleep rather than spinning: where cores are shared, spinning takes several times as long.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}

"$env/bin/ruff" check .
"$env/bin/ruff" format --check .
"$env/bin/lint-imports"
# A test uses one core, and so does what it starts; a worker takes some 2 GB. Each begins with whole files, one after the
# other, so that what their tests share is made once; who is done takes half of what another has left.
# The browser's come after the others, alone: a page whose server waits for a core shows things in other orders. Exit status 5
# is pytest's for "no tests", as where a path is given that holds none of the one kind.
OMP_NUM_THREADS=1 "$env/bin/python" -m pytest -n logical --maxprocesses 4 --dist worksteal -m "not browser" "$@" || [ $? = 5 ]
"$env/bin/python" -m pytest -m browser "$@" || [ $? = 5 ]
