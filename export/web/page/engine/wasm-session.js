/** A session on WebAssembly: token ids in, logits out, and the KV cache stays on the runtime's heap. */

import { BYTES, keepPositions } from "./cache-shape.js";
import { OnnxRuntime } from "./onnx-runtime.js";

/** @typedef {import("./cache-shape.js").CacheShape} CacheShape */
/** @typedef {import("./onnx-runtime.js").Value} Value */

const INT64 = 8;

/**
 * A session: the interface by which generation runs a model.
 *
 * @typedef {object} Session
 * @property {string} device `wasm` or `webgpu`.
 * @property {number} threads
 * @property {number} length Positions in the cache.
 * @property {(tokenIds: number[]) => Promise<Float32Array>} run Append tokens; the logits of the last one, `[V]`.
 * @property {(length: number) => Promise<void>} truncate Remove all positions after the first `length` from the cache.
 */

/** @implements {Session} */
export class WasmSession {
  /**
   * @param {import("./onnx-runtime.js").Graph} graph
   * @param {CacheShape} shape
   * @param {number} maxLength The most positions.
   * @param {number} vocabSize
   * @param {number} threads
   */
  constructor(graph, shape, maxLength, vocabSize, threads) {
    this.device = "wasm";
    this.threads = threads;
    this.length = 0;
    this._graph = graph;
    this._runtime = graph.runtime;
    this._shape = shape;
    this._vocabSize = vocabSize;
    this._outputs = ["logits", ...shape.names.map((name) => `present.${name}`)];
    this._ids = this._runtime.allocate(maxLength * INT64);
    this._positions = this._runtime.allocate(maxLength * INT64);
    this._mask = this._runtime.allocate(maxLength * INT64);
    this._writeIntegers(this._mask, new Array(maxLength).fill(1));
    this._past = this._emptyPast();
  }

  /**
   * @param {Uint8Array} model The content of an `.onnx` file of target `portable`.
   * @param {CacheShape} shape
   * @param {number} maxLength
   * @param {number} vocabSize
   * @param {number} threads
   */
  static async load(model, shape, maxLength, vocabSize, threads) {
    const runtime = await OnnxRuntime.load(threads);
    return new WasmSession(await runtime.open(model), shape, maxLength, vocabSize, threads);
  }

  /** @param {number[]} tokenIds */
  async run(tokenIds) {
    const count = tokenIds.length;
    const total = this.length + count;
    this._writeIntegers(this._ids, tokenIds);
    this._writeIntegers(this._positions, Array.from({ length: count }, (_, index) => this.length + index));
    /** @type {Array<[string, Value]>} */
    const own = [
      ["input_ids", this._runtime.tensor("int64", [1, count], this._ids)],
      ["attention_mask", this._runtime.tensor("int64", [1, total], this._mask)],
      ["position_ids", this._runtime.tensor("int64", [1, count], this._positions)],
    ];
    /** @type {Array<[string, Value]>} */
    const past = this._shape.names.map((name, index) => [`past_key_values.${name}`, this._past[index]]);
    const [logits, ...present] = await this._graph.run([...own, ...past], this._outputs);
    for (const value of [...own.map(([, input]) => input), ...this._past]) value.release();
    this._past = present;
    this.length = total;
    const last = this._floats(logits.address + (count - 1) * this._vocabSize * 4, this._vocabSize);
    logits.release();
    return last;
  }

  /** @param {number} length */
  async truncate(length) {
    if (length >= this.length) return;
    const { heads, width, type } = this._shape;
    const size = heads * width * BYTES[type];
    this._past = this._past.map((value) => {
      const address = this._runtime.allocate(length * size);
      const memory = this._runtime.memory;
      const held = memory.subarray(value.address, value.address + this.length * size);
      keepPositions(held, this._shape, this.length, length, memory.subarray(address, address + length * size));
      value.release();
      return this._runtime.tensor(type, [1, heads, length, width], address, true);
    });
    this.length = length;
  }

  _emptyPast() {
    const { names, heads, width, type } = this._shape;
    return names.map(() => this._runtime.tensor(type, [1, heads, 0, width], this._runtime.allocate(0), true));
  }

  /**
   * @param {number} address
   * @param {number[]} values Whole numbers from 0 up to 2^32, written as int64.
   */
  _writeIntegers(address, values) {
    const words = new Uint32Array(this._runtime.memory.buffer, address, 2 * values.length);
    values.forEach((value, index) => {
      words[2 * index] = value;
      words[2 * index + 1] = 0;
    });
  }

  /**
   * @param {number} address
   * @param {number} count
   */
  _floats(address, count) {
    return new Float32Array(this._runtime.memory.buffer, address, count).slice();
  }
}
