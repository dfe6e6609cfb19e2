/** The errors of the worker, as codes that the interface explains in each language. */

/**
 * @typedef {"missing-file" | "unreachable" | "broken-file" | "unsupported-format" | "changed-file" | "no-webassembly"
 *   | "no-webgpu" | "no-memory" | "runtime" | "context-full" | "broken-logits" | "template" | "bad-option" | "stuck"
 *   | "no-key" | "refused" | "bug"} ErrorCode
 */

/** An error that the page can explain. */
export class PageError extends Error {
  /**
   * @param {ErrorCode} code
   * @param {Record<string, string | number>} [details] The values that the explanation mentions, such as `file`.
   */
  constructor(code, details = {}) {
    super(`${code} ${JSON.stringify(details)}`);
    this.name = "PageError";
    this.code = code;
    this.details = details;
  }
}

/**
 * Any thrown value in a form that can be posted to another thread.
 *
 * @param {unknown} error
 * @returns {{code: ErrorCode, details: Record<string, string | number>}}
 */
export function describeError(error) {
  if (error instanceof PageError) return { code: error.code, details: error.details };
  return { code: "bug", details: { reason: error instanceof Error ? error.message : String(error) } };
}
