// Greedy answers from an artifact folder by transformers.js, as JSON.
//
// Usage: node generate.mjs FOLDER [--dtype fp16] [--as-llama] [--float32-activations] [--new-tokens N] PROMPT...
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

// Packages are imported from the current folder, which is the environment's.
const require = createRequire(path.join(process.cwd(), 'package.json'));
const { env, pipeline, TextStreamer } = await import(pathToFileURL(require.resolve('@huggingface/transformers')).href)
    .then((module) => module.default ?? module);

const { values: options, positionals: [folder, ...prompts] } = parseArgs({
    allowPositionals: true,
    options: {
        dtype: { type: 'string', default: 'fp32' },
        'as-llama': { type: 'boolean', default: false },
        'float32-activations': { type: 'boolean', default: false },
        'new-tokens': { type: 'string', default: '32' },
    },
});

// A folder whose type transformers.js does not know is run as a Llama, which has the same inputs and outputs.
const config = options['as-llama']
    ? { ...JSON.parse(readFileSync(path.join(folder, 'config.json'), 'utf-8')), model_type: 'llama' }
    : null;
// By default, ONNX Runtime rounds the activations that are multiplied by integer weights to eight bits.
const session_options = options['float32-activations']
    ? { extra: { session: { disable_quant_qdq: '1' } } }
    : {};
const chat = await pipeline('text-generation', path.resolve(folder), { dtype: options.dtype, config, session_options });
const greedy = { do_sample: false, max_new_tokens: Number(options['new-tokens']) };

async function complete(prompt) {
    const messages = [{ role: 'user', content: prompt }];
    const inputs = chat.tokenizer.apply_chat_template(messages, { add_generation_prompt: true, return_dict: true });
    const pieces = [];
    const streamer = new TextStreamer(chat.tokenizer, {
        skip_prompt: true,
        skip_special_tokens: true,
        callback_function: (piece) => pieces.push(piece),
    });
    const output = await chat.model.generate({ ...inputs, ...greedy, streamer });
    const prompt_ids = inputs.input_ids.tolist()[0].map(Number);
    const [{ generated_text }] = await chat(messages, greedy);
    return {
        prompt_ids,
        token_ids: output.tolist()[0].map(Number).slice(prompt_ids.length),
        pieces,
        text: generated_text.at(-1).content,
    };
}

const completions = [];
for (const prompt of prompts) completions.push(await complete(prompt));
console.log(JSON.stringify({
    tool: `transformers.js ${env.version}`,
    type: chat.model.config.model_type,
    completions,
}));
