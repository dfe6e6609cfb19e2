"""Greedy answers from an artifact folder by optimum-onnx's ORTModelForCausalLM, as JSON.

Usage: generate.py FOLDER [--graph model_fp16.onnx] [--as-llama] [--own-head-dim] [--new-tokens N] PROMPT...
"""

from __future__ import annotations

import argparse
import json
from importlib.metadata import version
from typing import Any

from optimum.onnxruntime import ORTModelForCausalLM, pipeline
from transformers import AutoTokenizer, LlamaConfig


def main() -> None:
    """Print the tool's version, the class of the model's config, and one completion for each prompt."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--graph", help="needed where the folder has several")
    parser.add_argument("--as-llama", action="store_true", help="for a folder whose type transformers does not know")
    parser.add_argument("--own-head-dim", action="store_true", help="for heads that are not hidden_size / heads wide")
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("prompts", nargs="+")
    arguments = parser.parse_args()
    options: dict[str, Any] = {}
    if arguments.graph is not None:
        options |= {"subfolder": "onnx", "file_name": arguments.graph}
    if arguments.as_llama:
        options["config"] = LlamaConfig.from_pretrained(arguments.folder, model_type="llama")
    model = ORTModelForCausalLM.from_pretrained(arguments.folder, **options)
    if arguments.own_head_dim:
        model.embed_size_per_head = model.config.head_dim
    tokenizer = AutoTokenizer.from_pretrained(arguments.folder)
    result = {
        "tool": f"optimum-onnx {version('optimum-onnx')}",
        "type": model.config.model_type,
        "completions": [complete(model, tokenizer, prompt, arguments.new_tokens) for prompt in arguments.prompts],
    }
    print(json.dumps(result))


def complete(model: ORTModelForCausalLM, tokenizer: Any, prompt: str, new_tokens: int) -> dict[str, Any]:
    """Answer one user message greedily: by `generate`, and by the pipeline with its chat template."""
    messages = [{"role": "user", "content": prompt}]
    greedy = {"do_sample": False, "max_new_tokens": new_tokens}
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    prompt_ids = inputs["input_ids"][0].tolist()
    token_ids = model.generate(**inputs, **greedy)[0].tolist()[len(prompt_ids) :]
    answered = pipeline("text-generation", model=model, tokenizer=tokenizer)(messages, **greedy)
    text = answered[0]["generated_text"][-1]["content"]
    decoded = tokenizer.decode(token_ids, skip_special_tokens=True)
    return {"prompt_ids": prompt_ids, "token_ids": token_ids, "decoded": decoded, "text": text}


if __name__ == "__main__":
    main()
