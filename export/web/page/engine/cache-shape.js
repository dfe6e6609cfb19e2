/** The shape of a graph's KV cache. */

/**
 * @typedef {object} CacheShape
 * @property {string[]} names `"0.key"`, `"0.value"`, `"1.key"` ..., in the graph's order.
 * @property {number} heads Key and value heads.
 * @property {number} width The numbers in a head, D.
 * @property {"float32" | "float16"} type
 */

export const BYTES = Object.freeze({ float32: 4, float16: 2 });

/**
 * @param {Record<string, any>} architecture The manifest's `architecture`.
 * @param {string} precision The graph's precision.
 * @returns {CacheShape}
 */
export function cacheShape(architecture, precision) {
  const layers = Array.from({ length: architecture.num_hidden_layers }, (_, index) => index);
  return {
    names: layers.flatMap((index) => [`${index}.key`, `${index}.value`]),
    heads: architecture.num_key_value_heads,
    width: architecture.head_dim,
    type: precision === "fp16" ? "float16" : "float32",
  };
}

/**
 * The first `length` positions of each head.
 *
 * @param {Uint8Array} bytes `[heads, held, width]` of the shape's type.
 * @param {CacheShape} shape
 * @param {number} held Positions in `bytes`.
 * @param {number} length Positions to keep.
 * @param {Uint8Array} kept The destination: `[heads, length, width]`.
 */
export function keepPositions(bytes, shape, held, length, kept) {
  const row = shape.width * BYTES[shape.type];
  for (let head = 0; head < shape.heads; head += 1) {
    const start = head * held * row;
    kept.set(bytes.subarray(start, start + length * row), head * length * row);
  }
}
