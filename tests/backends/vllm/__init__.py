"""vLLM with this package's plugin. vLLM has an environment to itself; `recipes/vllm/run.sh` makes it and runs these."""
