"""Code examples for each tool that runs an artifact; `<...>` stands for a value of the artifact."""

from __future__ import annotations

RUN_SNIPPET = """
```
minimind-run --engine <name> "Who are you?"
```
"""

GENAI_SNIPPET = """
`pip install onnxruntime-genai`. It reads `genai_config.json`, which names one graph and how to sample; another graph is
chosen with `config = og.Config("<name>")` and `config.overlay(...)`.

```python
import onnxruntime_genai as og

model = og.Model("<name>")
tokenizer = og.Tokenizer(model)
prompt = tokenizer.apply_chat_template('[{"role": "user", "content": "Who are you?"}]', add_generation_prompt=True)
params = og.GeneratorParams(model)
params.set_search_options(max_length=256)
generator = og.Generator(model, params)
generator.append_tokens(tokenizer.encode(prompt))
stream = tokenizer.create_stream()
while not generator.is_done():
    generator.generate_next_token()
    print(stream.decode(generator.get_next_tokens()[0]), end="", flush=True)
```
"""

_OPTIMUM_INSTALL = '`pip install "optimum-onnx[onnxruntime]"`.'

_OPTIMUM_CHAT = """\
<head_dim>tokenizer = AutoTokenizer.from_pretrained("<name>")
chat = pipeline("text-generation", model=model, tokenizer=tokenizer)
answer = chat([{"role": "user", "content": "Who are you?"}], max_new_tokens=64)
print(answer[0]["generated_text"][-1]["content"])
```
"""

OPTIMUM_SNIPPETS = {
    "stock": f"""
{_OPTIMUM_INSTALL}

```python
from optimum.onnxruntime import ORTModelForCausalLM, pipeline
from transformers import AutoTokenizer

model = ORTModelForCausalLM.from_pretrained("<name>", subfolder="onnx", file_name="<graph>")
{_OPTIMUM_CHAT}""",
    "as llama": f"""
{_OPTIMUM_INSTALL}

```python
from optimum.onnxruntime import ORTModelForCausalLM, pipeline
from transformers import AutoTokenizer, LlamaConfig

config = LlamaConfig.from_pretrained("<name>", model_type="llama")
model = ORTModelForCausalLM.from_pretrained("<name>", subfolder="onnx", file_name="<graph>", config=config)
{_OPTIMUM_CHAT}""",
}

_JS_INSTALL = (
    "`npm install @huggingface/transformers`. `dtype` chooses the graph: `fp32`, `fp16`, `q8` or `q4`, as far as the\n"
    "folder has them."
)
_JS_CHAT = """\
const streamer = new TextStreamer(chat.tokenizer, { skip_prompt: true, skip_special_tokens: true });
await chat([{ role: 'user', content: 'Who are you?' }], { max_new_tokens: 64, streamer });
```
"""

TRANSFORMERS_JS_SNIPPETS = {
    "stock": f"""
{_JS_INSTALL}

```js
import {{ pipeline, TextStreamer }} from '@huggingface/transformers';

const chat = await pipeline('text-generation', './<name>', {{ dtype: '<dtype>' }});
{_JS_CHAT}""",
    "as llama": f"""
{_JS_INSTALL}

```js
import {{ readFile }} from 'node:fs/promises';
import {{ pipeline, TextStreamer }} from '@huggingface/transformers';

const config = {{ ...JSON.parse(await readFile('./<name>/config.json')), model_type: 'llama' }};
const chat = await pipeline('text-generation', './<name>', {{ dtype: '<dtype>', config }});
{_JS_CHAT}""",
}
