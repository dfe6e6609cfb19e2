// The kernels: what is compiled once for each instruction set. They check nothing; the operators do.
//
// All tensors are float32 and contiguous. D is the width of a head, `slots` counts positions of the KV cache, and the
// query heads that share a key head are a group.
#pragma once

#include <cstdint>

// The widest vector of any instruction set, in floats; scratch memory is sized for it.
constexpr int64_t MOST_LANES = 16;

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

struct Kernels {
  int lanes;

  // silu(x[:width]) * x[width:] -> y [width].
  void (*swiglu)(const float* x, int64_t width, float* y);

  // sum = x + skip, y = sum / rms(sum) * weight, each [width]. `sum` and `y` may be the same.
  void (*skip_rms_norm)(const float* x, const float* skip, const float* weight, int64_t width, float epsilon,
                        float* sum, float* y);

  HeadKernels heads[3];
};

static constexpr int64_t token_scratch(int64_t slots) { return 4 * (round_up(slots, MOST_LANES) + MOST_LANES); }

static constexpr int64_t block_scratch(int64_t rows, int64_t slots, int64_t head_dim) {
  const int64_t tile = 4 * MOST_LANES;  // slots of a tile of keys
  return tile * head_dim + head_dim + round_up(rows, 4) * (round_up(slots, tile) + MOST_LANES);
}

#ifdef MINIMIND_EDGE_X86
extern const Kernels avx2_kernels, avx512_kernels;
#endif
