// The kernels: what is compiled once for each instruction set. They check nothing; the operators do.
//
// All tensors are float32 and contiguous. D is the width of a head, `slots` counts positions of the KV cache, and the
// query heads that share a key head are a group.
#pragma once

#include <cstdint>

// The widest vector of any instruction set, in floats; scratch memory is sized for it.
constexpr int64_t MOST_LANES = 16;

// The most numbers of a quantized weight that share a scale.
constexpr int64_t MOST_BLOCK = 256;

static constexpr int64_t round_up(int64_t count, int64_t multiple) { return (count + multiple - 1) / multiple * multiple; }

// A block of consecutive tokens of one row, for one group: queries, keys and values in, mixed values out.
struct AttentionBlock {
  const float* queries;    // [tokens * group, D], rounded up to a multiple of 4 by zeros
  const float* keys;       // [slots, D]
  const float* values;     // [slots, D]
  const int64_t* visible;  // [tokens], ascending: each token sees the first so many slots
  int64_t tokens;
  int64_t group;
  float* mixed;            // the group's [group, D] of the first token
  int64_t mixed_stride;    // floats from one token to the next
  float* scratch;          // block_scratch(...) floats
};

// The kernels for heads of one width.
struct HeadKernels {
  int64_t head_dim;

  // y = rotated(normalized(x)) * scale, each [D]: RMSNorm where there is a weight [D] (not null), then RoPE in the
  // rotate-half convention by one position's cosines and sines [D/2].
  void (*rotate)(const float* x, const float* norm_weight, float epsilon, const float* cos, const float* sin,
                 float scale, float* y);

  // Attention of one token: queries [group, D] over `slots` keys and values [slots, D], at least one -> [group, D].
  void (*attend_token)(const float* queries, int64_t group, const float* keys, const float* values, int64_t slots,
                       float* scratch, float* mixed);

  void (*attend_block)(const AttentionBlock& block);
};

// A weight [columns, blocks * block] of unsigned integers, in panels of as many columns as a vector has lanes. The last
// panel's missing columns are zeros.
struct QuantizedWeight {
  const int32_t* words;    // [panels, blocks, block * bits / 32, lanes]: each 32 bits of one column
  const float* scales;     // [panels, blocks, lanes]
  const uint8_t* zeros;    // [panels, blocks, lanes]: the integers that stand for 0
  int64_t panels, blocks;
  int64_t block;           // numbers of a column that have one scale: a multiple of 16, at most MOST_BLOCK
};

// Rows of activations, quantized in the same blocks.
struct QuantizedRows {
  const int8_t* values;  // [count, blocks * block]; for int4 weights, of each eight the four even ones come first
  const float* scales;   // [count, blocks]
  const int32_t* sums;   // [count, blocks]: of a block's values
  int64_t count;
};

// y = rows * weight, transposed: [count, columns]; where gated, SwiGLU of its halves, [count, columns].
struct Product {
  QuantizedWeight weight;
  QuantizedRows rows;
  float* y;
  int64_t columns;  // of y; where gated, a multiple of the lanes, and half of the weight's
  bool gated;
};

struct ProductKernels {
  int bits;

  // A weight's columns, each of so many words, one after the other -> panels. See QuantizedWeight::words.
  void (*pack)(const uint8_t* weight, int64_t columns, int64_t words, int32_t* packed);

  // x [width] -> values [blocks * block], scales and sums [blocks].
  void (*quantize_row)(const float* x, int64_t width, int64_t block, int8_t* values, float* scales, int32_t* sums);

  // Computes the pairs of panels `first` to `end` - 1: neighbours, or where gated, those that SwiGLU takes together.
  void (*multiply)(const Product& product, int64_t first, int64_t end);
};

struct Kernels {
  int lanes;

  // silu(x[:width]) * x[width:] -> y [width].
  void (*swiglu)(const float* x, int64_t width, float* y);

  // sum = x + skip, y = sum / rms(sum) * weight, each [width]. `sum` and `y` may be the same.
  void (*skip_rms_norm)(const float* x, const float* skip, const float* weight, int64_t width, float epsilon,
                        float* sum, float* y);

  HeadKernels heads[3];
  ProductKernels products[2];
};

static constexpr int64_t token_scratch(int64_t slots) { return 4 * (round_up(slots, MOST_LANES) + MOST_LANES); }

static constexpr int64_t block_scratch(int64_t rows, int64_t slots, int64_t head_dim) {
  const int64_t tile = 4 * MOST_LANES;  // slots of a tile of keys
  return tile * head_dim + head_dim + round_up(rows, 4) * (round_up(slots, tile) + MOST_LANES);
}

#ifdef MINIMIND_EDGE_X86
extern const Kernels avx2_kernels, avx512_kernels;
#endif
