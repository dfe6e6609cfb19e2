/** The site's model, loaded: session, tokenizer, chat template and defaults. */

import { cacheShape } from "./cache-shape.js";
import { findChatTemplate } from "./chat-template.js";
import { threadCount, wantsWebGpu } from "./device.js";
import { PageError } from "./errors.js";
import { readDefaults } from "./generation-config.js";
import { readGraph } from "./graph-file.js";
import { MODEL_FOLDER, readManifest } from "./manifest.js";
import { PromptBuilder } from "./prompt.js";
import { readJson } from "./site-file.js";
import { Tokenizer } from "./tokenizer.js";
import { WasmSession } from "./wasm-session.js";
import { WebGpuSession } from "./webgpu-session.js";

/** @typedef {import("./wasm-session.js").Session} Session */

/**
 * @typedef {object} LoadOptions
 * @property {import("./device.js").DeviceChoice} device
 * @property {number | null} threads The number of threads; null chooses by the machine.
 */

/** The model of a chat, with everything that a chat needs. */
export class Model {
  /**
   * @param {import("./manifest.js").Manifest} manifest
   * @param {Tokenizer} tokenizer
   * @param {PromptBuilder} prompts
   * @param {import("./generation-config.js").Defaults} defaults
   * @param {Session} session
   */
  constructor(manifest, tokenizer, prompts, defaults, session) {
    this.manifest = manifest;
    this.tokenizer = tokenizer;
    this.prompts = prompts;
    this.defaults = defaults;
    this.session = session;
    this.maxLength = manifest.graph.max_length;
    this.stopTokenIds = defaults.stopTokenIds;
  }

  /**
   * Load the model; throws a PageError where a file is missing or broken, or the browser lacks a feature.
   *
   * @param {LoadOptions} options
   * @param {(loaded: number, total: number) => void} onProgress Called with the graph's loaded and total bytes.
   * @param {(reason: string) => void} onFallback Called when WebGPU fails and WebAssembly takes its place.
   */
  static async load(options, onProgress, onFallback) {
    const manifest = await readManifest();
    const [tokenizer, template, generation, config] = await readTexts();
    const defaults = readDefaults(generation, config, tokenizer);
    const session = await openSession(manifest, options, onProgress, onFallback);
    return new Model(manifest, tokenizer, new PromptBuilder(tokenizer, template, defaults.bosTokenId), defaults, session);
  }

  /** Switch to WebAssembly, with an empty cache. */
  async leaveWebGpu() {
    const options = /** @type {LoadOptions} */ ({ device: "wasm", threads: null });
    this.session = await openSession(this.manifest, options, () => {}, () => {});
  }
}

/** @returns {Promise<[Tokenizer, import("./chat-template.js").ChatTemplate | null, Record<string, any>, Record<string, any>]>} */
async function readTexts() {
  const names = ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "config.json"];
  const read = names.map((name) => readJson(MODEL_FOLDER + name));
  const [description, tokenizerConfig, generation, config] = await Promise.all(read);
  const tokenizer = readTokenizer(description, tokenizerConfig);
  return [tokenizer, findChatTemplate(tokenizerConfig, tokenizer.specialTokens), generation, config];
}

/**
 * @param {Record<string, any>} description
 * @param {Record<string, any>} config
 */
function readTokenizer(description, config) {
  try {
    return new Tokenizer(description, config);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new PageError("broken-file", { file: `${MODEL_FOLDER}tokenizer.json`, reason });
  }
}

/**
 * @param {import("./manifest.js").Manifest} manifest
 * @param {LoadOptions} options
 * @param {(loaded: number, total: number) => void} onProgress
 * @param {(reason: string) => void} onFallback
 * @returns {Promise<Session>}
 */
async function openSession({ graph, architecture }, options, onProgress, onFallback) {
  const shape = cacheShape(architecture, graph.precision);
  const vocabSize = architecture.vocab_size;
  const content = await readGraph(graph, onProgress);
  if (await wantsWebGpu(options.device)) {
    try {
      return await WebGpuSession.load(content, shape, vocabSize);
    } catch (error) {
      onFallback(error instanceof PageError ? String(error.details.reason) : String(error));
    }
  }
  return WasmSession.load(content, shape, graph.max_length, vocabSize, threadCount(options.threads));
}
