/** Requests to the server of this page: JSON, and streams of server-sent events. */

import { PageError } from "./errors.js";

const UNAUTHORIZED = 401;
const END = "[DONE]";

/** OpenAI's interface, as far as a chat needs it. */
export class Server {
  /** @param {string} key The API key; empty for none. */
  constructor(key) {
    this._key = key;
  }

  /**
   * The content of a JSON resource.
   *
   * @param {string} path
   * @returns {Promise<any>}
   */
  async read(path) {
    return (await this._fetch(path, {})).json();
  }

  /**
   * The events of a streamed answer.
   *
   * @param {string} path
   * @param {object} body
   * @param {AbortSignal} signal
   * @returns {AsyncGenerator<any>}
   */
  async *stream(path, body, signal) {
    const headers = { "content-type": "application/json" };
    const response = await this._fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal });
    for await (const data of events(response, path)) {
      if (data === END) return;
      const event = JSON.parse(data);
      if (event.error !== undefined) throw new PageError("refused", { reason: String(event.error.message) });
      yield event;
    }
    throw new PageError("unreachable", { file: path });
  }

  /**
   * @param {string} path
   * @param {RequestInit} options
   */
  async _fetch(path, options) {
    const headers = new Headers(options.headers);
    if (this._key !== "") headers.set("authorization", `Bearer ${this._key}`);
    const response = await reached(path, fetch(new URL(`../${path}`, import.meta.url), { ...options, headers }));
    if (response.ok) return response;
    if (response.status === UNAUTHORIZED) throw new PageError("no-key");
    throw new PageError("refused", await reasonOf(response));
  }
}

/**
 * What a promise of the network gives; a PageError where the connection broke.
 *
 * @template T
 * @param {string} path
 * @param {Promise<T>} promise
 */
async function reached(path, promise) {
  try {
    return await promise;
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new PageError("unreachable", { file: path });
  }
}

/**
 * @param {Response} response
 * @returns {Promise<Record<string, string>>}
 */
async function reasonOf(response) {
  try {
    const { error } = await response.json();
    return { reason: String(error.message), kind: String(error.code ?? "") };
  } catch {
    return { reason: `HTTP ${response.status}` };
  }
}

/**
 * The data of server-sent events, each of which is one line here.
 *
 * @param {Response} response
 * @param {string} path
 */
async function* events(response, path) {
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reached(path, reader.read());
    if (done) return;
    const lines = (rest + decoder.decode(value, { stream: true })).split(/\r?\n/);
    rest = lines.pop() ?? "";
    for (const line of lines) if (line.startsWith("data:")) yield line.slice("data:".length).trim();
  }
}
