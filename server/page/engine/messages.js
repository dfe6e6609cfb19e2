/**
 * The messages between the page and its worker.
 *
 * @typedef {object} LoadOptions
 * @property {string | null} model The name of the model; null for the server's first.
 * @property {string} key The API key; empty for none.
 */

/**
 * @typedef {object} SamplingParams
 * @property {number} temperature
 * @property {number} topK
 * @property {number} topP
 * @property {number} minP
 * @property {number} repetitionPenalty
 * @property {number | null} seed
 * @property {boolean} greedy
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
 * A message of a conversation.
 *
 * @typedef {{role: "system" | "user" | "assistant", content: string}} Message
 */

/**
 * @typedef {{type: "load", options: LoadOptions}
 *   | {type: "ask", question: Question}
 *   | {type: "stop"}
 *   | {type: "clear"}
 *   | {type: "restore", messages: Message[]}} Request
 */

/**
 * The description of the model that answers.
 *
 * @typedef {object} ModelFacts
 * @property {any} manifest What the model card shows.
 * @property {SamplingParams} params The author's sampling parameters.
 * @property {number} maxNewTokens
 * @property {boolean} chats Whether the model has a chat template.
 * @property {boolean} knowsThinking Whether the model can be told to think first.
 * @property {string} model Its name.
 * @property {string[]} models The names of all models of the server.
 */

/**
 * @typedef {object} CompletionResult
 * @property {string} text
 * @property {number[]} tokenIds Empty: the server sends text.
 * @property {number} tokens The number of tokens.
 * @property {number} promptTokens
 * @property {"stop" | "length" | "cancelled"} finishReason
 * @property {number} tokensPerSecond
 * @property {number} firstTokenSeconds
 * @property {number} prefillSeconds
 */

/**
 * @typedef {{type: "progress", loaded: number, total: number}
 *   | {type: "ready", facts: ModelFacts}
 *   | {type: "fallback", reason: string}
 *   | {type: "segment", segment: {kind: "think" | "answer", text: string}}
 *   | {type: "dropped", count: number}
 *   | {type: "restart"}
 *   | {type: "end", result: CompletionResult, messages: Message[] | null}
 *   | {type: "error", code: import("./errors.js").ErrorCode, details: Record<string, string | number>}} Report
 */

export {};
