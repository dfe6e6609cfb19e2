// The kernels of products with quantized weights: int8 activations, exact sums in int32, one scale for each block.
//
// A vector of weights holds LANES columns, four bytes of each: those of four int8 numbers, or of eight int4 numbers, in
// which the low halves are the even ones. Activations lie in the order in which they meet them.
#pragma once

#include <immintrin.h>

#include "kernels.h"
#include "row_kernels.h"
#include "vectors.h"

namespace {

typedef unsigned char Bytes __attribute__((vector_size(LANES * 4)));
typedef int UnalignedIntegers __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

inline Integers load(const int32_t* p) { return *reinterpret_cast<const UnalignedIntegers*>(p); }
inline Integers all(int32_t x) { return x - Integers{}; }

inline int32_t sum_of(Integers v) {
  int32_t sum = 0;
  for (int i = 0; i < LANES; i++) sum += v[i];
  return sum;
}

// sum + the products of four unsigned weights with four signed activations in each lane; HALF: weights are below 16.
//
// AVX2 adds pairs of products in int16: 2 * 15 * 127 fits, and of whole bytes, those of |w - 128| and a with the sign of
// w - 128 do. Whole bytes are packed as w - 128 for this (OFFSET).
#ifdef __AVX512VNNI__
constexpr int OFFSET = 0;

inline Integers load_bytes(const uint8_t* p) {
  return reinterpret_cast<Integers>(_mm512_maskz_cvtepu8_epi32(0xFFFF, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}

template <bool HALF>
inline Integers add_products(Integers sum, Bytes weights, Integers activations) {
  return reinterpret_cast<Integers>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(weights),
                                                        reinterpret_cast<__m512i>(activations)));
}
#else
constexpr int OFFSET = 128;

inline Integers load_bytes(const uint8_t* p) {
  return reinterpret_cast<Integers>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}

template <bool HALF>
inline Integers add_products(Integers sum, Bytes weights, Integers activations) {
  __m256i w = reinterpret_cast<__m256i>(weights), a = reinterpret_cast<__m256i>(activations);
  if constexpr (!HALF) {
    a = _mm256_sign_epi8(a, w);
    w = _mm256_abs_epi8(w);
  }
  return sum + reinterpret_cast<Integers>(_mm256_madd_epi16(_mm256_maddubs_epi16(w, a), _mm256_set1_epi16(1)));
}
#endif

// See ProductKernels::pack.
template <int BITS>
void pack(const uint8_t* weight, int64_t columns, int64_t words, int32_t* packed) {
  for (int64_t first = 0; first < columns; first += LANES, packed += LANES * words)
    for (int64_t word = 0; word < words; word++)
      for (int64_t lane = 0; lane < LANES; lane++) {
        int32_t bits = 0;
        if (first + lane < columns) memcpy(&bits, weight + ((first + lane) * words + word) * 4, 4);
        packed[word * LANES + lane] = BITS == 8 && OFFSET ? bits ^ static_cast<int32_t>(0x80808080u) : bits;
      }
}

inline int32_t largest_of(Integers v) {
  int32_t top = v[0];
  for (int i = 1; i < LANES; i++) top = v[i] > top ? v[i] : top;
  return top;
}

// The largest magnitude of `count` numbers, NaN where one is: as integers, magnitudes have their order, and NaN is last.
inline float largest_magnitude(const float* x, int64_t count) {
  Integers top{};
  for (int64_t i = 0; i < count; i += LANES) {
    const Integers magnitudes = reinterpret_cast<Integers>(load(x + i)) & 0x7FFFFFFF;
    top = magnitudes > top ? magnitudes : top;
  }
  const int32_t bits = largest_of(top);
  float magnitude;
  memcpy(&magnitude, &bits, 4);
  return magnitude;
}

// Below it, 127 divided by a block's largest magnitude would be infinite: the block counts as zeros.
constexpr float LEAST_MAGNITUDE = 4e-37f;

// Quantizes a row of `count` activations in blocks: symmetrically to [-127, 127], by each block's largest magnitude.
//
// What is missing of the last block counts as zeros. A block with a number that is not finite has the scale NaN, and so
// all products of its row are NaN. See QuantizedRows for the outputs, which are those of one row.
template <int BITS>
void quantize_row(const float* x, int64_t count, int64_t block, int8_t* values, float* scales, int32_t* sums) {
  for (int64_t first = 0; first < count; first += block, values += block) {
    const int64_t present = count - first < block ? count - first : block;
    const float* from = x + first;
    float padded[MOST_BLOCK];
    if (present < block) {
      for (int64_t i = 0; i < block; i++) padded[i] = i < present ? from[i] : 0.0f;
      from = padded;
    }
    static constexpr float zeros[MOST_BLOCK] = {};
    const float magnitude = largest_magnitude(from, block);
    const bool usable = magnitude >= LEAST_MAGNITUDE && magnitude <= __FLT_MAX__;
    const float factor = usable ? 127.0f / magnitude : 0.0f;
    if (!usable) from = zeros;
    const Vector shift = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    Integers sum{};
    for (int64_t i = 0; i < block; i += LANES) {
      const Integers q = __builtin_convertvector((load(from + i) * factor + shift) - shift, Integers);
      sum += q;
      signed char bytes[LANES];
      for (int lane = 0; lane < LANES; lane++) bytes[lane] = static_cast<signed char>(q[lane]);
      for (int lane = 0; lane < LANES; lane++)
        values[i + (BITS == 8 ? lane : lane / 8 * 8 + lane % 2 * 4 + lane % 8 / 2)] = bytes[lane];
    }
    *scales++ = usable ? magnitude / 127.0f : magnitude * 0.0f;
    *sums++ = sum_of(sum);
  }
}

// The products of ROWS rows with PANELS panels: products[row][panel], in each lane the sum over all blocks, in order, of
// scale of the weights * scale of the activations * the exact sum of (weight - zero) * activation.
//
// A lane's bits do not depend on ROWS and PANELS.
template <int BITS, int ROWS, int PANELS>
void multiply_tile(const QuantizedWeight& weight, const QuantizedRows& rows, int64_t first_row, const int64_t* panels,
                   Vector (*products)[PANELS]) {
  constexpr int FOURS = 8 / BITS;                                                // of activations for a vector of weights
  constexpr int CHAINS = ROWS * PANELS >= 4 ? 1 : ROWS * PANELS == 2 ? 2 : 4;    // of sums that do not wait for each other
  constexpr int STEP = CHAINS > FOURS ? CHAINS : FOURS;                          // fours of an iteration
  const int64_t fours = weight.block / 4, stride = weight.blocks * fours;
  const auto* activations = reinterpret_cast<const int32_t*>(rows.values) + first_row * stride;
  for (int row = 0; row < ROWS; row++)
    for (int panel = 0; panel < PANELS; panel++) products[row][panel] = Vector{};
  for (int64_t block = 0; block < weight.blocks; block++) {
    const int32_t* words[PANELS];
    Vector scales[PANELS];
    Integers sums[CHAINS][ROWS][PANELS];
#pragma GCC unroll 2
    for (int panel = 0; panel < PANELS; panel++) {
      const int64_t at = (panels[panel] * weight.blocks + block) * LANES;
      words[panel] = weight.words + at * (fours / FOURS);
      scales[panel] = load(weight.scales + at);
      const Integers zeros = load_bytes(weight.zeros + at);
#pragma GCC unroll 8
      for (int row = 0; row < ROWS; row++) {
        sums[0][row][panel] = -(zeros - (BITS == 8 ? OFFSET : 0)) * rows.sums[(first_row + row) * weight.blocks + block];
#pragma GCC unroll 4
        for (int chain = 1; chain < CHAINS; chain++) sums[chain][row][panel] = Integers{};
      }
    }
    const int32_t* fours_of_block = activations + block * fours;
    for (int64_t four = 0; four < fours; four += STEP) {
#pragma GCC unroll 4
      for (int i = 0; i < STEP; i += FOURS) {
#pragma GCC unroll 2
        for (int panel = 0; panel < PANELS; panel++) {
          const Bytes w = reinterpret_cast<Bytes>(load(words[panel]));
          words[panel] += LANES;
#pragma GCC unroll 8
          for (int row = 0; row < ROWS; row++) {
            const int32_t* a = fours_of_block + row * stride + four + i;
            if constexpr (BITS == 8) {
              Integers& sum = sums[i % CHAINS][row][panel];
              sum = add_products<false>(sum, w, all(a[0]));
            } else {
              Integers &low = sums[i % CHAINS][row][panel], &high = sums[(i + 1) % CHAINS][row][panel];
              low = add_products<true>(low, w & 15, all(a[0]));
              high = add_products<true>(high, w >> 4, all(a[1]));
            }
          }
        }
      }
    }
#pragma GCC unroll 8
    for (int row = 0; row < ROWS; row++) {
      const float scale = rows.scales[(first_row + row) * weight.blocks + block];
#pragma GCC unroll 2
      for (int panel = 0; panel < PANELS; panel++) {
        Integers sum = sums[0][row][panel];
#pragma GCC unroll 4
        for (int chain = 1; chain < CHAINS; chain++) sum += sums[chain][row][panel];
        products[row][panel] += __builtin_convertvector(sum, Vector) * (scales[panel] * scale);
      }
    }
  }
}

inline void store_columns(float* to, Vector v, int64_t count) {
  if (count >= LANES)
    store(to, v);
  else
    store_part(to, v, count);
}

// Multiplies ROWS rows with one or two panels and writes the columns; of gated ones, SwiGLU of both.
template <int BITS, int ROWS, int PANELS>
void write_tile(const Product& product, int64_t row, const int64_t* panels) {
  Vector products[ROWS][PANELS];
  multiply_tile<BITS, ROWS, PANELS>(product.weight, product.rows, row, panels, products);
  for (int i = 0; i < ROWS; i++) {
    float* y = product.y + (row + i) * product.columns;
    if constexpr (PANELS == 2) {
      if (product.gated) {
        store(y + panels[0] * LANES, gated(products[i][0], products[i][1]));
        continue;
      }
    }
    for (int panel = 0; panel < PANELS; panel++)
      store_columns(y + panels[panel] * LANES, products[i][panel], product.columns - panels[panel] * LANES);
  }
}

template <int BITS, int PANELS>
void write_rows(const Product& product, const int64_t* panels) {
  int64_t row = 0;
  const auto left = [&] { return product.rows.count - row; };
  for (; left() >= 8; row += 8) write_tile<BITS, 8, PANELS>(product, row, panels);
  if (left() >= 4) write_tile<BITS, 4, PANELS>(product, row, panels), row += 4;
  if (left() >= 2) write_tile<BITS, 2, PANELS>(product, row, panels), row += 2;
  if (left() >= 1) write_tile<BITS, 1, PANELS>(product, row, panels);
}

// See ProductKernels::multiply.
template <int BITS>
void multiply(const Product& product, int64_t first, int64_t end) {
  const int64_t count = product.weight.panels;
  for (int64_t pair = first; pair < end; pair++) {
    const int64_t panels[2] = {product.gated ? pair : 2 * pair, product.gated ? pair + count / 2 : 2 * pair + 1};
    if (panels[1] < count)
      write_rows<BITS, 2>(product, panels);
    else
      write_rows<BITS, 1>(product, panels);
  }
}

template <int BITS>
constexpr ProductKernels product_kernels{BITS, pack<BITS>, quantize_row<BITS>, multiply<BITS>};

}  // namespace
