#!/bin/sh
# Every GPU row in ten minutes: the 7B shape with random weights (17 GB), then nano's server under load.
#
#     sh benchmarks/gpu.sh [FOLDER FOR THE REPORTS]
#
# The rows ran on one H100 on 22 November 2026; this script and the server's rows have not been tried on a GPU.
set -eu
out=${1:-.}
cd "$(dirname "$0")/.."
python benchmarks/inference.py --suite gpu --repeat 3 --json "$out/7b-shape_gpu.json"
python benchmarks/serving.py --device cuda --clients 1,16,64 --rates 1 --seconds 45 --out "$out/serving_gpu.json"
