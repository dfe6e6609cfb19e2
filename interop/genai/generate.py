"""Greedy answers from an artifact folder by onnxruntime-genai, as JSON.

Usage: generate.py FOLDER [--graph onnx/model_fp16.onnx] [--new-tokens N] PROMPT...
"""

from __future__ import annotations

import argparse
import json
from importlib.metadata import version
from typing import Any

import onnxruntime_genai as og


def main() -> None:
    """Print the tool's version, the search defaults that it read, and one completion for each prompt."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--graph", help="another graph than genai_config.json names")
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("prompts", nargs="+")
    arguments = parser.parse_args()
    config = og.Config(arguments.folder)
    if arguments.graph is not None:
        config.overlay(json.dumps({"model": {"decoder": {"filename": arguments.graph}}}))
    model = og.Model(config)
    result = {
        "tool": f"onnxruntime-genai {version('onnxruntime-genai')}",
        "type": model.type,
        "search": og.GeneratorParams(model).get_search_options(),
        "completions": [complete(model, prompt, arguments.new_tokens) for prompt in arguments.prompts],
    }
    print(json.dumps(result))


def complete(model: og.Model, prompt: str, new_tokens: int) -> dict[str, Any]:
    """Answer one user message greedily, by the chat template and the streaming tokenizer."""
    tokenizer = og.Tokenizer(model)
    messages = json.dumps([{"role": "user", "content": prompt}])
    prompt_ids = tokenizer.encode(tokenizer.apply_chat_template(messages, add_generation_prompt=True))
    params = og.GeneratorParams(model)
    params.set_search_options(do_sample=False, max_length=len(prompt_ids) + new_tokens)
    generator = og.Generator(model, params)
    generator.append_tokens(prompt_ids)
    stream = tokenizer.create_stream()
    token_ids, pieces = [], []
    while not generator.is_done():
        generator.generate_next_token()
        token_ids.append(int(generator.get_next_tokens()[0]))
        pieces.append(stream.decode(token_ids[-1]))
    return {"prompt_ids": [int(token) for token in prompt_ids], "token_ids": token_ids, "pieces": pieces}


if __name__ == "__main__":
    main()
