// The kernels of SwiGLU and of RMSNorm after a residual sum, for one row.
#pragma once

#include "vectors.h"

namespace {

// SiLU(gate) * up. Source: Shazeer 2020, "GLU Variants Improve Transformer", equation 6.
inline Vector gated(Vector gate, Vector up) { return gate / (1.0f + exponential(-gate)) * up; }

void swiglu(const float* x, int64_t width, float* y) {
  const float* up = x + width;
  int64_t i = 0;
  for (; i + LANES <= width; i += LANES) store(y + i, gated(load(x + i), load(up + i)));
  if (i < width) store_part(y + i, gated(load_part(x + i, width - i), load_part(up + i, width - i)), width - i);
}

// Writes x + skip and returns the sum of its squares.
float add(const float* x, const float* skip, int64_t width, float* sum) {
  Vector squares[2] = {};  // two chains of additions, which do not wait for each other
  int64_t i = 0;
  for (; i + 2 * LANES <= width; i += 2 * LANES)
    for (int half = 0; half < 2; half++) {
      const Vector v = load(x + i + half * LANES) + load(skip + i + half * LANES);
      squares[half] += v * v;
      store(sum + i + half * LANES, v);
    }
  for (; i < width; i += LANES) {
    const int64_t count = width - i < LANES ? width - i : LANES;
    const Vector v = load_part(x + i, count) + load_part(skip + i, count);
    squares[0] += v * v;
    store_part(sum + i, v, count);
  }
  return sum_of(squares[0] + squares[1]);
}

// Source: Zhang and Sennrich 2019, "Root Mean Square Layer Normalization", equation 4.
void skip_rms_norm(const float* x, const float* skip, const float* weight, int64_t width, float epsilon, float* sum,
                   float* y) {
  const float squares = add(x, skip, width, sum);
  const float factor = 1.0f / __builtin_sqrtf(squares / static_cast<float>(width) + epsilon);
  int64_t i = 0;
  for (; i + LANES <= width; i += LANES) store(y + i, load(sum + i) * factor * load(weight + i));
  for (; i < width; i++) y[i] = sum[i] * factor * weight[i];
}

}  // namespace
