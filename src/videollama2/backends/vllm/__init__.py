"""vLLM runs the language model; encoders, connector, prompts and receipts are this package's own.

    vllm serve FOLDER               entry point ── plugin.register_with_vllm ── the classes below
    messages ── rendering ── ids with one negative id per media item, MediaItems
    MediaItems ── processing ── encoder inputs, receipts, as many placeholder ids as media tokens
    encoder inputs ── model ── media tokens ── vLLM's own language model ── ids
    the response ── responses ── the response with its receipt

A media item is one item of vLLM's, a video with its audio too. `videollama2 serve --engine vllm` has this package's
HTTP server in front (generator.py). Nothing here is imported unless vLLM is used.
"""
