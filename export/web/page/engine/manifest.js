/** The manifest of the site's model: which graph to load, and what is told about it. */

import { PageError } from "./errors.js";
import { readJson } from "./site-file.js";

export const MODEL_FOLDER = "model/";
const MANIFEST = `${MODEL_FOLDER}manifest.json`;
const FORMAT = 1;

/**
 * One graph, as the manifest has it.
 *
 * @typedef {object} GraphEntry
 * @property {string} file Path inside the model's folder.
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
 * @property {GraphEntry} graph The one that the page runs.
 */

/**
 * Read and check the manifest; throws a PageError where the page cannot go by it.
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
  const sizes = [architecture?.num_hidden_layers, architecture?.num_key_value_heads, architecture?.head_dim];
  const numbers = [...sizes, architecture?.vocab_size, graph?.max_length, graph?.bytes];
  if (!numbers.every(Number.isInteger) || !isPlainPath(graph?.file) || !/^[0-9a-f]{64}$/.test(graph?.sha256)) {
    throw new PageError("broken-file", { file: MANIFEST, reason: "its graph or its architecture is incomplete" });
  }
  return { checkpoint: checkpoint ?? {}, architecture, tool: tool ?? {}, graph };
}

/**
 * Whether a path stays inside the folder that it is relative to.
 *
 * @param {unknown} path
 */
function isPlainPath(path) {
  return typeof path === "string" && /^[\w.-]+(\/[\w.-]+)*$/.test(path) && !path.split("/").includes("..");
}
