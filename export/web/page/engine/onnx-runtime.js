/**
 * ONNX Runtime's WebAssembly build, called by its C functions.
 *
 * Its JavaScript interface copies every value out of the heap after a run and into it before the next one: for a KV cache,
 * twice its size for each token. Here values stay on the heap. The functions are those of the one version that the site
 * comes with.
 */

import { PageError } from "./errors.js";

/** ONNX's number for each type, and its size in bytes. */
const TYPES = /** @type {const} */ ({
  float32: { code: 1, bytes: 4 },
  int64: { code: 7, bytes: 8 },
  float16: { code: 10, bytes: 2 },
});

/** @typedef {keyof typeof TYPES} ElementType */

const ON_CPU = 1;
const ALL_OPTIMIZATIONS = 99;
const WARNINGS = 2;
const POINTER = 4;
const MEGABYTE = 1e6;

/**
 * The session option that converts integer weights to float32 when the graph is loaded. Otherwise they are converted again
 * for every token, as WebAssembly has no product of floats and integers.
 */
const WIDEN_INTEGERS = "session.disable_quant_qdq";

/** A tensor on the heap. */
export class Value {
  /**
   * @param {any} wasm
   * @param {number} handle
   * @param {number} memory The address of its data, if ONNX Runtime does not free that; else 0.
   */
  constructor(wasm, handle, memory = 0) {
    this._wasm = wasm;
    this._memory = memory;
    this.handle = handle;
  }

  /** The address of its first byte on the heap. */
  get address() {
    const wasm = this._wasm;
    const stack = wasm.stackSave();
    const found = wasm.stackAlloc(4 * POINTER);
    wasm._OrtGetTensorData(this.handle, found, found + POINTER, found + 2 * POINTER, found + 3 * POINTER);
    const address = wasm.getValue(found + POINTER, "*");
    wasm._OrtFree(wasm.getValue(found + 2 * POINTER, "*"));
    wasm.stackRestore(stack);
    return address;
  }

  release() {
    this._wasm._OrtReleaseTensor(this.handle);
    if (this._memory !== 0) this._wasm._free(this._memory);
  }
}

/** The runtime, loaded once for a page. */
export class OnnxRuntime {
  /** @param {any} wasm The Emscripten module. */
  constructor(wasm) {
    this._wasm = wasm;
    /** @type {Map<string, number>} */
    this._texts = new Map();
  }

  /**
   * Load the runtime, or throw a PageError "no-webassembly".
   *
   * @param {number} threads More than 1 needs a page that is cross-origin isolated.
   */
  static async load(threads) {
    if (typeof WebAssembly !== "object") throw new PageError("no-webassembly", { reason: "WebAssembly is off" });
    try {
      const { default: factory } = await import("../vendor/onnxruntime-web/ort-wasm-simd-threaded.mjs");
      const wasm = await factory({ numThreads: threads });
      const runtime = new OnnxRuntime(wasm);
      runtime.check(wasm._OrtInit(threads, WARNINGS) === 0);
      return runtime;
    } catch (error) {
      throw new PageError("no-webassembly", { reason: error instanceof Error ? error.message : String(error) });
    }
  }

  /** The heap's bytes; read this again after every call, which may have made the heap grow. */
  get memory() {
    this._wasm.getValue(0, "i8"); // Emscripten renews its views of a grown heap when it looks at it
    return /** @type {Uint8Array} */ (this._wasm.HEAPU8);
  }

  /**
   * Allocate memory that the caller frees or gives to a tensor; throws a PageError "no-memory" where there is none.
   *
   * @param {number} bytes
   * @returns {number} Its address.
   */
  allocate(bytes) {
    const address = this._wasm._malloc(Math.max(bytes, 1));
    if (address === 0) throw new PageError("no-memory", { megabytes: Math.ceil(bytes / MEGABYTE) });
    return address;
  }

  /** @param {number} address */
  free(address) {
    this._wasm._free(address);
  }

  /**
   * A text on the heap, which is never freed.
   *
   * @param {string} content
   * @returns {number} Its address.
   */
  text(content) {
    let address = this._texts.get(content);
    if (address === undefined) {
      const size = this._wasm.lengthBytesUTF8(content) + 1;
      address = this.allocate(size);
      this._wasm.stringToUTF8(content, address, size);
      this._texts.set(content, address);
    }
    return address;
  }

  /**
   * A tensor whose data lies at an address.
   *
   * @param {ElementType} type
   * @param {number[]} shape
   * @param {number} address
   * @param {boolean} [owned] Whether the memory is freed with the tensor.
   */
  tensor(type, shape, address, owned = false) {
    const wasm = this._wasm;
    const { code, bytes } = TYPES[type];
    const size = shape.reduce((product, length) => product * length, bytes);
    const stack = wasm.stackSave();
    const dimensions = wasm.stackAlloc(POINTER * shape.length);
    shape.forEach((length, index) => wasm.setValue(dimensions + POINTER * index, length, "i32"));
    const handle = wasm._OrtCreateTensor(code, address, size, dimensions, shape.length, ON_CPU);
    wasm.stackRestore(stack);
    this.check(handle !== 0);
    return new Value(wasm, handle, owned ? address : 0);
  }

  /**
   * Load a graph; throws a PageError "runtime" where this runtime cannot run it.
   *
   * @param {Uint8Array} model The content of an `.onnx` file.
   */
  async open(model) {
    const wasm = this._wasm;
    const options = wasm._OrtCreateSessionOptions(ALL_OPTIMIZATIONS, true, true, 0, false, 0, 0, WARNINGS, 0, 0);
    this.check(options !== 0);
    this.check(wasm._OrtAddSessionConfigEntry(options, this.text(WIDEN_INTEGERS), this.text("1")) === 0);
    const address = this.allocate(model.length);
    this.memory.set(model, address);
    const handle = await wasm._OrtCreateSession(address, model.length, options);
    this.free(address);
    wasm._OrtReleaseSessionOptions(options);
    this.check(handle !== 0);
    return new Graph(this, wasm, handle);
  }

  /**
   * Throw a PageError with ONNX Runtime's message, unless the call succeeded.
   *
   * @param {boolean} fine
   */
  check(fine) {
    if (fine) return;
    const wasm = this._wasm;
    const stack = wasm.stackSave();
    const found = wasm.stackAlloc(2 * POINTER);
    wasm._OrtGetLastError(found, found + POINTER);
    const reason = wasm.UTF8ToString(wasm.getValue(found + POINTER, "*"));
    wasm.stackRestore(stack);
    throw new PageError("runtime", { reason });
  }
}

/** A graph that is ready to run. */
export class Graph {
  /**
   * @param {OnnxRuntime} runtime
   * @param {any} wasm
   * @param {number} handle
   */
  constructor(runtime, wasm, handle) {
    this.runtime = runtime;
    this._wasm = wasm;
    this._handle = handle;
  }

  /**
   * Run the graph once.
   *
   * @param {Array<[string, Value]>} inputs The inputs by name; the caller releases them.
   * @param {string[]} outputs The names of the wanted outputs.
   * @returns {Promise<Value[]>} The outputs, which the caller releases.
   */
  async run(inputs, outputs) {
    const wasm = this._wasm;
    const stack = wasm.stackSave();
    const inputNames = this._pointers(inputs.map(([name]) => this.runtime.text(name)));
    const inputValues = this._pointers(inputs.map(([, value]) => value.handle));
    const outputNames = this._pointers(outputs.map((name) => this.runtime.text(name)));
    const outputValues = this._pointers(outputs.map(() => 0));
    const status = await wasm._OrtRun(
      this._handle,
      inputNames,
      inputValues,
      inputs.length,
      outputNames,
      outputs.length,
      outputValues,
      0,
    );
    const values = outputs.map((_, index) => new Value(wasm, wasm.getValue(outputValues + POINTER * index, "*")));
    wasm.stackRestore(stack);
    this.runtime.check(status === 0);
    return values;
  }

  /** @param {number[]} pointers */
  _pointers(pointers) {
    const address = this._wasm.stackAlloc(POINTER * pointers.length);
    pointers.forEach((pointer, index) => this._wasm.setValue(address + POINTER * index, pointer, "*"));
    return address;
  }
}
