/** The graph's file: it is downloaded once, kept in the browser's cache under its digest, and checked against that. */

import { MODEL_FOLDER } from "./manifest.js";
import { PageError } from "./errors.js";
import { SITE, openFile } from "./site-file.js";

const CACHE = "minimind-edge-graphs";

/**
 * The graph's bytes, from the browser's cache or over the network.
 *
 * @param {import("./manifest.js").GraphEntry} graph
 * @param {(loaded: number, total: number) => void} onProgress Called with the loaded and the total bytes.
 * @returns {Promise<Uint8Array>}
 */
export async function readGraph(graph, onProgress) {
  const file = MODEL_FOLDER + graph.file;
  const key = new URL(file, SITE);
  key.searchParams.set("sha256", graph.sha256);
  const cache = await openCache();
  const kept = await cache?.match(key);
  if (kept !== undefined) {
    onProgress(graph.bytes, graph.bytes);
    return new Uint8Array(await kept.arrayBuffer());
  }
  const content = await download(file, graph.bytes, onProgress);
  if (!(await hasDigest(content, graph.sha256))) throw new PageError("changed-file", { file });
  if (cache !== null) await keep(cache, key, content);
  return content;
}

/**
 * @param {string} file
 * @param {number} expected The file's size in bytes, from the manifest.
 * @param {(loaded: number, total: number) => void} onProgress
 */
async function download(file, expected, onProgress) {
  const response = await openFile(file, "no-store"); // it is kept by its digest, so the HTTP cache need not keep it too
  if (response.body === null) throw new PageError("unreachable", { file });
  const content = new Uint8Array(expected);
  const reader = response.body.getReader();
  let loaded = 0;
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      if (loaded + part.value.length > expected) throw new PageError("changed-file", { file });
      content.set(part.value, loaded);
      loaded += part.value.length;
      onProgress(loaded, expected);
    }
  } catch (error) {
    throw error instanceof PageError ? error : new PageError("unreachable", { file });
  }
  if (loaded !== expected) throw new PageError("changed-file", { file });
  return content;
}

/**
 * Whether the content has the manifest's digest; true too where the browser computes no digests (plain http).
 *
 * @param {Uint8Array<ArrayBuffer>} content
 * @param {string} sha256 Hexadecimal.
 */
async function hasDigest(content, sha256) {
  if (globalThis.crypto?.subtle === undefined) return true;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") === sha256;
}

/** The browser's cache; null where there is none, as on plain http or in a private window. */
async function openCache() {
  try {
    return await caches.open(CACHE);
  } catch {
    return null;
  }
}

/**
 * Keep a graph in place of its older versions; where the cache is full, it is downloaded again the next time.
 *
 * @param {Cache} cache
 * @param {URL} key
 * @param {Uint8Array<ArrayBuffer>} content
 */
async function keep(cache, key, content) {
  try {
    for (const request of await cache.keys()) {
      if (new URL(request.url).pathname === key.pathname) await cache.delete(request);
    }
    await cache.put(key, new Response(content));
  } catch (error) {
    console.warn(`The graph is not cached: ${error}`);
  }
}
