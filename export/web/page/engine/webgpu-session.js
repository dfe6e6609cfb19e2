/** A session on WebGPU: the KV cache stays on the graphics card. */

import { BYTES, keepPositions } from "./cache-shape.js";
import { PageError } from "./errors.js";

/** @typedef {import("./cache-shape.js").CacheShape} CacheShape */
/** @typedef {import("./wasm-session.js").Session} Session */

/** @implements {Session} */
export class WebGpuSession {
  /**
   * @param {any} ort onnxruntime-web.
   * @param {any} graph The graph's `InferenceSession` in it.
   * @param {CacheShape} shape
   * @param {number} vocabSize
   */
  constructor(ort, graph, shape, vocabSize) {
    this.device = "webgpu";
    this.threads = 1;
    this.length = 0;
    this._ort = ort;
    this._graph = graph;
    this._shape = shape;
    this._vocabSize = vocabSize;
    this._past = shape.names.map(() => this._cacheTensor(new Uint8Array(), 0));
  }

  /**
   * Load a graph, or throw a PageError "no-webgpu".
   *
   * @param {Uint8Array} model The content of an `.onnx` file of target `portable`.
   * @param {CacheShape} shape
   * @param {number} vocabSize
   */
  static async load(model, shape, vocabSize) {
    try {
      const ort = await import("../vendor/onnxruntime-web/ort.jspi.min.mjs");
      ort.env.wasm.wasmPaths = new URL("../vendor/onnxruntime-web/", import.meta.url).href;
      ort.env.wasm.numThreads = 1;
      const onCard = Object.fromEntries(shape.names.map((name) => [`present.${name}`, "gpu-buffer"]));
      const options = { executionProviders: ["webgpu"], preferredOutputLocation: { logits: "cpu", ...onCard } };
      return new WebGpuSession(ort, await ort.InferenceSession.create(model, options), shape, vocabSize);
    } catch (error) {
      throw new PageError("no-webgpu", { reason: error instanceof Error ? error.message : String(error) });
    }
  }

  /** @param {number[]} tokenIds */
  async run(tokenIds) {
    const count = tokenIds.length;
    const total = this.length + count;
    const feeds = {
      input_ids: this._integers(tokenIds),
      attention_mask: this._integers(new Array(total).fill(1)),
      position_ids: this._integers(Array.from({ length: count }, (_, index) => this.length + index)),
      ...Object.fromEntries(this._shape.names.map((name, index) => [`past_key_values.${name}`, this._past[index]])),
    };
    const outputs = await this._run(feeds);
    for (const tensor of this._past) tensor.dispose();
    this._past = this._shape.names.map((name) => outputs[`present.${name}`]);
    this.length = total;
    return outputs.logits.data.slice((count - 1) * this._vocabSize);
  }

  /** @param {number} length */
  async truncate(length) {
    if (length >= this.length) return;
    const size = this._shape.heads * this._shape.width * BYTES[this._shape.type];
    const shortened = this._past.map(async (tensor) => {
      const data = await tensor.getData(true);
      const kept = new Uint8Array(length * size);
      const held = new Uint8Array(data.buffer, data.byteOffset, this.length * size);
      keepPositions(held, this._shape, this.length, length, kept);
      return this._cacheTensor(kept, length);
    });
    this._past = await Promise.all(shortened);
    this.length = length;
  }

  /** @param {Record<string, any>} feeds */
  async _run(feeds) {
    try {
      return await this._graph.run(feeds);
    } catch (error) {
      throw new PageError("no-webgpu", { reason: error instanceof Error ? error.message : String(error) });
    }
  }

  /**
   * @param {Uint8Array} bytes
   * @param {number} length The number of positions in `bytes`.
   */
  _cacheTensor(bytes, length) {
    const { heads, width, type } = this._shape;
    const data = type === "float16" ? new Uint16Array(bytes.buffer) : new Float32Array(bytes.buffer);
    return new this._ort.Tensor(type, data, [1, heads, length, width]);
  }

  /** @param {number[]} values */
  _integers(values) {
    return new this._ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
  }
}
