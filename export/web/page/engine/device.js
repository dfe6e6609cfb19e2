/** The choice of the device and of the number of threads. */

/** @typedef {"auto" | "wasm" | "webgpu"} DeviceChoice */

/** The most threads by default: more of them wait for memory, or run on the small cores of a phone. */
const MOST_THREADS = 4;

/**
 * The number of threads: as requested, or 1 where the page is not cross-origin isolated.
 *
 * @param {number | null} asked The requested number; null takes about as many as there are physical cores.
 */
export function threadCount(asked) {
  if (!globalThis.crossOriginIsolated) return 1;
  const cores = navigator.hardwareConcurrency || 1;
  const chosen = asked ?? Math.min(MOST_THREADS, Math.max(2, Math.ceil(cores / 2)));
  return Math.max(1, Math.min(chosen, cores));
}

/**
 * Whether to try WebGPU: where it is requested, or where there is a graphics card that is not emulated.
 *
 * ONNX Runtime's build for WebGPU lets WebAssembly wait for JavaScript, which the browser must support (JSPI).
 *
 * @param {DeviceChoice} choice
 */
export async function wantsWebGpu(choice) {
  if (choice !== "auto") return choice === "webgpu";
  if (!("Suspending" in WebAssembly) || !("gpu" in navigator)) return false;
  try {
    const adapter = await /** @type {any} */ (navigator).gpu.requestAdapter();
    return adapter !== null && !(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter ?? false);
  } catch {
    return false;
  }
}
