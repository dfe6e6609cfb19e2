/** Fetching files of the site from its own folder. */

import { PageError } from "./errors.js";

/** The address of the site's folder, which may have any name and lie anywhere. */
export const SITE = new URL("../", import.meta.url);

/**
 * The response for a file; throws a PageError "missing-file" or "unreachable".
 *
 * @param {string} file The path inside the site.
 * @param {RequestCache} [cache] The use of the HTTP cache; by default the server is asked for a newer file, so that files of
 *   two exports never mix.
 */
export async function openFile(file, cache = "no-cache") {
  let response;
  try {
    response = await fetch(new URL(file, SITE), { cache });
  } catch {
    throw new PageError("unreachable", { file });
  }
  if (!response.ok) throw new PageError("missing-file", { file, status: response.status });
  return response;
}

/**
 * The object that a JSON file holds; throws a PageError "broken-file" where it holds something else.
 *
 * @param {string} file
 * @returns {Promise<Record<string, any>>}
 */
export async function readJson(file) {
  const text = await (await openFile(file)).text();
  let content;
  try {
    content = JSON.parse(text);
  } catch (error) {
    throw new PageError("broken-file", { file, reason: error instanceof Error ? error.message : String(error) });
  }
  const isObject = typeof content === "object" && content !== null && !Array.isArray(content);
  if (!isObject) throw new PageError("broken-file", { file, reason: "expected a JSON object" });
  return content;
}
