/** What the browser offers to compute with. */

/** @typedef {"auto" | "wasm" | "webgpu"} DeviceChoice */

/** Most threads that are taken unasked: more of them wait for memory, or are the small cores of a phone. */
const MOST_THREADS = 4;

/**
 * How many threads to compute with: what was asked for, where the page may have several at all.
 *
 * @param {number | null} asked Null chooses about as many as there are physical cores.
 */
export function threadCount(asked) {
  if (!globalThis.crossOriginIsolated) return 1;
  const cores = navigator.hardwareConcurrency || 1;
  const chosen = asked ?? Math.min(MOST_THREADS, Math.max(2, Math.ceil(cores / 2)));
  return Math.max(1, Math.min(chosen, cores));
}

/**
 * Whether to try WebGPU: where it was asked for, or where there is a graphics card that is not emulated.
 *
 * The build for it lets WebAssembly wait for JavaScript, which a browser must know how to do (JSPI).
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
