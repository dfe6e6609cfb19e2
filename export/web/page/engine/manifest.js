/** The manifest of the site's model: the graph to load, and what the page says about the model. */

import { PageError } from "./errors.js";
import { readJson } from "./site-file.js";

export const MODEL_FOLDER = "model/";
const MANIFEST = `${MODEL_FOLDER}manifest.json`;
const FORMAT = 1;

/** The largest value of each number that determines memory; a graph for a browser is one file below 2 GiB. */
const LIMITS = Object.freeze({
  num_hidden_layers: 1024,
  num_key_value_heads: 1024,
  head_dim: 65536,
  vocab_size: 2 ** 24,
  max_length: 2 ** 24,
  bytes: 2 ** 31 - 1,
});

/**
 * The manifest's entry of one graph.
 *
 * @typedef {object} GraphEntry
 * @property {string} file The path inside the model's folder.
 * @property {string} target
 * @property {string} precision
 * @property {number} max_length Context length in tokens.
 * @property {string} sha256
 * @property {number} bytes
 * @property {Record<string, any> | null} parity
 */

/**
 * @typedef {object} Manifest
 * @property {Record<string, any>} checkpoint
 * @property {Record<string, any>} architecture
 * @property {Record<string, any>} tool
 * @property {GraphEntry} graph The graph that the page runs.
 */

/**
 * Read and check the manifest; throws a PageError where the page cannot use it.
 *
 * @returns {Promise<Manifest>}
 */
export async function readManifest() {
  const content = await readJson(MANIFEST);
  if (content.format !== FORMAT) {
    throw new PageError("unsupported-format", { file: MANIFEST, found: String(content.format), expected: FORMAT });
  }
  const { checkpoint, architecture, tool, graphs } = content;
  const graph = Array.isArray(graphs) ? graphs.find((entry) => entry?.file === content.default_graph) : undefined;
  if (!isPlainPath(graph?.file) || !/^[0-9a-f]{64}$/.test(graph?.sha256)) {
    throw new PageError("broken-file", { file: MANIFEST, reason: "its graph is incomplete" });
  }
  checkNumbers({ ...architecture, max_length: graph.max_length, bytes: graph.bytes });
  return { checkpoint: checkpoint ?? {}, architecture, tool: tool ?? {}, graph };
}

/**
 * Throw a PageError unless every number that determines memory is there and in its range.
 *
 * @param {Record<string, unknown>} values
 */
function checkNumbers(values) {
  for (const [name, most] of Object.entries(LIMITS)) {
    const value = values[name];
    if (typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= most) continue;
    const found = value === undefined ? "is missing" : `is ${JSON.stringify(value).slice(0, 40)}`;
    const reason = `${name} ${found}, expected a whole number from 1 to ${most}`;
    throw new PageError("broken-file", { file: MANIFEST, reason });
  }
}

/**
 * Whether a path stays inside the folder that it is relative to.
 *
 * @param {unknown} path
 */
function isPlainPath(path) {
  return typeof path === "string" && /^[\w.-]+(\/[\w.-]+)*$/.test(path) && !path.split("/").includes("..");
}
