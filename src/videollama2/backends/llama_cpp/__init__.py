"""llama.cpp runs the language model from a GGUF file; encoders, connector and projector stay in torch.

    convert    checkpoint → GGUF file: families (names, settings), quantise (formats), tokens, write
    load       GGUF file + checkpoint → encoders (torch) and LlamaCppDecoder
    decoder    batches and sessions on context.Cells: keys and values in llama.cpp (library: its C interface)

The seam is `generation.decoder.Decoder`: prompts arrive as embeddings, logits go back to our own sampling.
"""
