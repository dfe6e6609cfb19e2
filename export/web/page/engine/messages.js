/**
 * The messages between the page and its worker.
 *
 * @typedef {import("./sampling.js").SamplingParams} SamplingParams
 * @typedef {import("./model.js").LoadOptions} LoadOptions
 */

/**
 * A question, with the options for its answer.
 *
 * @typedef {object} Question
 * @property {string} text
 * @property {string} system Empty for none.
 * @property {boolean | null} thinking
 * @property {Partial<SamplingParams>} params
 * @property {number} maxNewTokens
 * @property {boolean} again Whether the answer takes the place of the last one.
 */

/**
 * @typedef {{type: "load", options: LoadOptions}
 *   | {type: "ask", question: Question}
 *   | {type: "stop"}
 *   | {type: "clear"}
 *   | {type: "restore", messages: import("./chat-template.js").Message[]}} Request
 */

/**
 * The description of a model that is ready.
 *
 * @typedef {object} ModelFacts
 * @property {import("./manifest.js").Manifest} manifest
 * @property {SamplingParams} params The author's sampling parameters.
 * @property {number} maxNewTokens
 * @property {boolean} chats Whether the model has a chat template.
 * @property {boolean} knowsThinking Whether the model can be told to think first.
 * @property {string} device
 * @property {number} threads
 */

/**
 * @typedef {{type: "progress", loaded: number, total: number}
 *   | {type: "ready", facts: ModelFacts}
 *   | {type: "fallback", reason: string}
 *   | {type: "segment", segment: import("./think-splitter.js").Segment}
 *   | {type: "dropped", count: number}
 *   | {type: "restart"}
 *   | {type: "end", result: import("./completion.js").CompletionResult, messages: import("./chat-template.js").Message[] | null}
 *   | {type: "error", code: import("./errors.js").ErrorCode, details: Record<string, string | number>}} Report
 */

export {};
