"""A process of its own for each vLLM: `python -m tests.backends.vllm.answers SETTINGS.json ANSWERS.json`.

SETTINGS: {"llm": arguments of LLM, "asked": conversations, "tokens", "lora": folder or null, "rounds": how often}
          or "prompts": texts with their multi_modal_data (files; .npy for arrays) in place of "asked"
ANSWERS: per round, per conversation, the generated ids, the prompt's length, and how much of it the prefix cache had.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any


def main(settings: dict[str, Any]) -> list[Any]:
    """What vLLM answers."""
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    llm = LLM(**{"dtype": "float32", "enforce_eager": True, "max_num_seqs": 8, **settings["llm"]})
    params = SamplingParams(temperature=0, max_tokens=settings["tokens"])
    lora = settings.get("lora")
    request = None if lora is None else LoRARequest("one", 1, lora)
    rounds: list[Any] = []
    for _ in range(settings.get("rounds", 1)):
        if "prompts" in settings:
            prompts = [{**one, "multi_modal_data": opened(one["multi_modal_data"])} for one in settings["prompts"]]
            rounds.append([[list(one.outputs[0].token_ids)] for one in llm.generate(prompts, params, use_tqdm=False)])
            continue
        found = llm.chat(
            settings["asked"], params, use_tqdm=False, lora_request=request, mm_processor_kwargs=settings.get("kwargs")
        )
        rounds.append(
            [[list(one.outputs[0].token_ids), len(one.prompt_token_ids or ()), one.num_cached_tokens] for one in found]
        )
    return rounds


def opened(media: dict[str, Any]) -> dict[str, Any]:
    """Arrays for the names of their files; samples come with their rate."""
    import numpy as np

    arrays = {kind: [np.load(one) if one.endswith(".npy") else one for one in files] for kind, files in media.items()}
    return {kind: [(one, 8000) if kind == "audio" and not isinstance(one, str) else one for one in found]
            for kind, found in arrays.items()}  # fmt: skip


if __name__ == "__main__":
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    Path(sys.argv[2]).write_text(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))
