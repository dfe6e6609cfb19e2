// The kernels of attention for heads of width D, a multiple of LANES.
#pragma once

#include "kernels.h"
#include "vectors.h"

namespace {

// See HeadKernels::rotate. Source: Su et al. 2021, "RoFormer", equation 34, with element i paired with i + D/2.
template <int D>
void rotate(const float* x, const float* norm_weight, float epsilon, const float* cos, const float* sin, float scale,
            float* y) {
  constexpr int HALF = D / 2;
  float factor = 1.0f;
  if (norm_weight) {
    Vector squares{};
    for (int i = 0; i < D; i += LANES) squares += load(x + i) * load(x + i);
    factor = 1.0f / __builtin_sqrtf(sum_of(squares) / D + epsilon);
  }
  for (int i = 0; i < HALF; i += LANES) {
    Vector a = load(x + i), b = load(x + i + HALF);
    if (norm_weight) {
      a = a * factor * load(norm_weight + i);
      b = b * factor * load(norm_weight + i + HALF);
    }
    const Vector c = load(cos + i), s = load(sin + i);
    store(y + i, (a * c - b * s) * scale);
    store(y + i + HALF, (b * c + a * s) * scale);
  }
}

// The dot products of ROWS queries [ROWS, D], held in registers, with KEYS keys: products[row * KEYS + key].
template <int ROWS, int KEYS, int D>
[[gnu::always_inline]] inline void multiply(const Vector (&queries)[ROWS][D / LANES], const float* keys, int64_t count, Vector* products) {
#pragma GCC unroll 16
  for (int key = 0; key < KEYS; key++) {
    for (int row = 0; row < ROWS; row++) products[row * KEYS + key] = Vector{};
    if (key >= count) continue;
#pragma GCC unroll 16
    for (int d = 0; d < D / LANES; d++) {
      const Vector x = load(keys + key * D + d * LANES);
#pragma GCC unroll 8
      for (int row = 0; row < ROWS; row++) products[row * KEYS + key] += x * queries[row][d];
    }
  }
}

// Scores of ROWS queries [ROWS, D] with the keys [slots, D]: scores[row * stride + slot].
//
// LANES / ROWS keys at a time give LANES dot products, whose lanes are summed all at once.
template <int ROWS, int D>
void score_slots(const float* queries, const float* keys, int64_t slots, float* scores, int64_t stride) {
  constexpr int KEYS = LANES / ROWS;
  Vector held[ROWS][D / LANES], products[LANES];
  for (int row = 0; row < ROWS; row++)
    for (int d = 0; d < D / LANES; d++) held[row][d] = load(queries + row * D + d * LANES);
  int64_t slot = 0;
  for (; slot + KEYS <= slots; slot += KEYS) {
    multiply<ROWS, KEYS, D>(held, keys + slot * D, KEYS, products);
    const Vector sums = sums_of(products);
    for (int row = 0; row < ROWS; row++)
      memcpy(scores + row * stride + slot, reinterpret_cast<const float*>(&sums) + row * KEYS, KEYS * sizeof(float));
  }
  if (slot < slots) {
    multiply<ROWS, KEYS, D>(held, keys + slot * D, slots - slot, products);
    const Vector sums = sums_of(products);
    for (int row = 0; row < ROWS; row++)
      for (int64_t key = 0; key < slots - slot; key++) scores[row * stride + slot + key] = sums[row * KEYS + key];
  }
}

// Makes `count` scores the weights e^(score - largest), and those up to `end` zeros; returns 1 / sum, or 0 for none.
//
// Reads and writes up to round_up(count, LANES), and writes up to `end`.
inline float softmax(float* scores, int64_t count, int64_t end) {
  if (count == 0) {
    for (int64_t i = 0; i < end; i++) scores[i] = 0.0f;
    return 0.0f;
  }
  const int64_t last = round_up(count, LANES) - LANES;
  const Vector ending = first_of(count - last, load(scores + last), LOWEST);
  Vector top = ending;
  for (int64_t i = 0; i < last; i += LANES) top = largest(top, load(scores + i));
  const float shift = largest_of(top);
  Vector sum{};
  for (int64_t i = 0; i < last; i += LANES) {
    const Vector weights = exponential(load(scores + i) - shift);
    store(scores + i, weights);
    sum += weights;
  }
  const Vector weights = first_of(count - last, exponential(ending - shift), 0.0f);
  store(scores + last, weights);
  for (int64_t i = last + LANES; i < end; i++) scores[i] = 0.0f;
  return 1.0f / sum_of(sum + weights);
}

// The most of a row's `vectors` vectors, in equal parts, whose sums for `rows` rows fit in the registers together with a
// value and the rows' weights.
constexpr int vectors_at_once(int rows, int vectors) {
  int count = (REGISTERS - 1 - rows) / rows;
  while (vectors % count != 0) count--;
  return count;
}

// Adds the weighted values of `slots` slots to COUNT vectors of the sums [ROWS, D].
template <int ROWS, int COUNT, int D>
void add_weighted(const float* weights, int64_t stride, const float* values, int64_t slots, Vector* sums) {
  Vector held[ROWS][COUNT];
  for (int row = 0; row < ROWS; row++)
    for (int i = 0; i < COUNT; i++) held[row][i] = sums[row * (D / LANES) + i];
  for (int64_t slot = 0; slot < slots; slot++) {
#pragma GCC unroll 16
    for (int i = 0; i < COUNT; i++) {
      const Vector v = load(values + slot * D + i * LANES);
#pragma GCC unroll 8
      for (int row = 0; row < ROWS; row++) held[row][i] += v * weights[row * stride + slot];
    }
  }
  for (int row = 0; row < ROWS; row++)
    for (int i = 0; i < COUNT; i++) sums[row * (D / LANES) + i] = held[row][i];
}

// mixed[row] = factors[row] * sum over slots of weights[row * stride + slot] * values[slot], for ROWS rows [D].
template <int ROWS, int D>
void mix(const float* weights, int64_t stride, const float* values, int64_t slots, const float* factors,
         float* const* mixed) {
  constexpr int VECTORS = D / LANES, COUNT = vectors_at_once(ROWS, VECTORS);
  constexpr int64_t PART = COUNT < VECTORS ? 64 : INT64_MAX;  // slots whose values stay in the first cache
  Vector sums[ROWS * VECTORS] = {};
  for (int64_t slot = 0; slot < slots; slot += PART) {
    const int64_t count = slots - slot < PART ? slots - slot : PART;
    for (int i = 0; i < VECTORS; i += COUNT)
      add_weighted<ROWS, COUNT, D>(weights + slot, stride, values + slot * D + i * LANES, count, sums + i);
  }
  for (int row = 0; row < ROWS; row++)
    for (int i = 0; i < VECTORS; i++) store(mixed[row] + i * LANES, sums[row * VECTORS + i] * factors[row]);
}

// Attention of a token, for ROWS heads of a group at a time: each read of a key and of a value serves all of them.
template <int ROWS, int D>
void attend_heads(const float* queries, int64_t group, const float* keys, const float* values, int64_t slots,
                  float* scratch, float* mixed) {
  const int64_t stride = round_up(slots, LANES) + LANES;  // rarely a power of two, which would crowd cache sets
  for (int64_t head = 0; head < group; head += ROWS) {
    score_slots<ROWS, D>(queries + head * D, keys, slots, scratch, stride);
    float factors[ROWS];
    float* outputs[ROWS];
    for (int row = 0; row < ROWS; row++) {
      factors[row] = softmax(scratch + row * stride, slots, slots);
      outputs[row] = mixed + (head + row) * D;
    }
    mix<ROWS, D>(scratch, stride, values, slots, factors, outputs);
  }
}

template <int D>
void attend_token(const float* queries, int64_t group, const float* keys, const float* values, int64_t slots,
                  float* scratch, float* mixed) {
  const auto attend = group % 4 == 0 ? attend_heads<4, D> : group % 2 == 0 ? attend_heads<2, D> : attend_heads<1, D>;
  attend(queries, group, keys, values, slots, scratch, mixed);
}

constexpr int TILE_VECTORS = 4;
constexpr int TILE = TILE_VECTORS * LANES;  // slots of a tile of transposed keys

// The first TILE of `count` keys [count, D] as [D, TILE], with zeros for missing ones.
template <int D>
void transpose_keys(const float* keys, int64_t count, float* tile) {
  for (int d = 0; d < D; d += LANES)
    for (int first = 0; first < TILE; first += LANES) {
      Vector block[LANES];
      for (int i = 0; i < LANES; i++) block[i] = first + i < count ? load(keys + (first + i) * D + d) : Vector{};
      transpose(block);
      for (int i = 0; i < LANES; i++) store(tile + (d + i) * TILE + first, block[i]);
    }
}

// Scores of four queries [4, D] with the keys of a tile [D, TILE]: scores[row * stride + slot].
template <int D>
void score_tile(const float* queries, const float* tile, float* scores, int64_t stride) {
  constexpr int ROWS = 4, COUNT = LANES == 16 ? TILE_VECTORS : TILE_VECTORS / 2;  // vectors whose sums fit in the registers
  for (int first = 0; first < TILE; first += COUNT * LANES) {
    Vector sums[ROWS][COUNT] = {};
    for (int d = 0; d < D; d++) {
#pragma GCC unroll 4
      for (int i = 0; i < COUNT; i++) {
        const Vector x = load(tile + d * TILE + first + i * LANES);
#pragma GCC unroll 4
        for (int row = 0; row < ROWS; row++) sums[row][i] += x * queries[row * D + d];
      }
    }
    for (int row = 0; row < ROWS; row++)
      for (int i = 0; i < COUNT; i++) store(scores + row * stride + first + i * LANES, sums[row][i]);
  }
}

// The weights and mixed values of four query rows of a block, from `first` on; rows past the block's go nowhere.
template <int D>
void mix_rows(const AttentionBlock& block, int64_t first, float* scores, int64_t stride, float* nowhere) {
  constexpr int ROWS = 4;
  const int64_t rows = block.tokens * block.group;
  const auto visible = [&](int64_t row) { return block.visible[(row < rows ? row : rows - 1) / block.group]; };
  const int64_t end = visible(first + ROWS - 1);
  float factors[ROWS];
  float* outputs[ROWS];
  for (int i = 0; i < ROWS; i++) {
    const int64_t row = first + i;
    factors[i] = softmax(scores + i * stride, visible(row), end);
    outputs[i] = row < rows ? block.mixed + row / block.group * block.mixed_stride + row % block.group * D : nowhere;
  }
  mix<ROWS, D>(scores, stride, block.values, end, factors, outputs);
}

// See HeadKernels::attend_block: all scores of the block tile by tile, then softmax and values four rows at a time.
template <int D>
void attend_block(const AttentionBlock& block) {
  const int64_t rows = round_up(block.tokens * block.group, 4), slots = block.visible[block.tokens - 1];
  const int64_t stride = round_up(slots, TILE) + LANES;
  float *tile = block.scratch, *nowhere = tile + TILE * D, *scores = nowhere + D;
  for (int64_t slot = 0; slot < slots; slot += TILE) {
    transpose_keys<D>(block.keys + slot * D, slots - slot, tile);
    for (int64_t row = 0; row < rows; row += 4)
      score_tile<D>(block.queries + row * D, tile, scores + row * stride + slot, stride);
  }
  for (int64_t row = 0; row < rows; row += 4) mix_rows<D>(block, row, scores + row * stride, stride, nowhere);
}

template <int D>
constexpr HeadKernels head_kernels{D, rotate<D>, attend_token<D>, attend_block<D>};

}  // namespace
