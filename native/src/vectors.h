// Vectors of floats by the compiler's vector extensions (GCC, Clang), as wide as the instruction set's registers.
//
// Everything is in an unnamed namespace: the file is compiled once for each instruction set, and no function of one may
// be taken for that of another. For the same reason, kernels use no templates or inline functions of the standard
// library, which the linker merges.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

namespace {

#ifdef __AVX512F__
constexpr int LANES = 16, REGISTERS = 32;
#else
constexpr int LANES = 8, REGISTERS = 16;
#endif

typedef float Vector __attribute__((vector_size(LANES * 4)));
typedef int Integers __attribute__((vector_size(LANES * 4)));
typedef float Unaligned __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

constexpr float LOWEST = -3.0e38f;  // below every score, and finite, so that differences are no NaN

inline Vector load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
inline void store(float* p, Vector v) { *reinterpret_cast<Unaligned*>(p) = v; }

inline Vector all(float x) { return x - Vector{}; }

// a > b ? a : b and a < b ? a : b in each lane: b where one of both is NaN.
#ifdef __AVX512F__
inline Vector largest(Vector a, Vector b) { return Vector(_mm512_maskz_max_ps(0xFFFF, __m512(a), __m512(b))); }
inline Vector least(Vector a, Vector b) { return Vector(_mm512_maskz_min_ps(0xFFFF, __m512(a), __m512(b))); }
#else
inline Vector largest(Vector a, Vector b) { return Vector(_mm256_max_ps(__m256(a), __m256(b))); }
inline Vector least(Vector a, Vector b) { return Vector(_mm256_min_ps(__m256(a), __m256(b))); }
#endif

// The first `count` floats, fewer than a vector's, and zeros.
inline Vector load_part(const float* p, int64_t count) {
  Vector v{};
  memcpy(&v, p, static_cast<size_t>(count) * sizeof(float));
  return v;
}

inline void store_part(float* p, Vector v, int64_t count) { memcpy(p, &v, static_cast<size_t>(count) * sizeof(float)); }

// The first `count` lanes of a vector, and `other` in the others.
inline Vector first_of(int64_t count, Vector v, float other) {
  Integers lanes;
  for (int i = 0; i < LANES; i++) lanes[i] = i;
  return lanes < static_cast<int>(count) ? v : all(other);
}

inline float sum_of(Vector v) {
  for (int half = LANES / 2; half > 0; half /= 2)
    for (int i = 0; i < half; i++) v[i] += v[i + half];
  return v[0];
}

inline float largest_of(Vector v) {
  for (int half = LANES / 2; half > 0; half /= 2)
    for (int i = 0; i < half; i++) v[i] = v[i] > v[i + half] ? v[i] : v[i + half];
  return v[0];
}

// exp(x) with a relative error below 2e-7 for x in [-87, 88]; x beyond is taken as that bound, and NaN stays NaN.
//
// Source: expf of the Cephes library (S. L. Moshier). x = n ln 2 + r with n the nearest integer, so that |r| <= ln 2 / 2;
// ln 2 is split in two for an exact product (Cody and Waite), e^r is a polynomial, and 2^n is added to the exponent.
inline Vector exponential(Vector x) {
  x = least(all(88.0f), largest(all(-87.0f), x));
  const Vector shift = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const Vector n = (x * 1.44269504088896341f + shift) - shift;
  const Vector r = x - n * 0.693359375f + n * 2.12194440e-4f;
  Vector p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
#ifdef __AVX512F__
  return Vector(_mm512_maskz_scalef_ps(0xFFFF, __m512(p), __m512(n)));
#else
  const Integers exponent = __builtin_convertvector(n, Integers);
  return reinterpret_cast<Vector>(reinterpret_cast<Integers>(p) + (exponent << 23));
#endif
}

// A vector of the lanes with these numbers: those of a from 0 on, and those of b from LANES on.
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else  // GCC before 12
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Integers{__VA_ARGS__})
#endif

// Lanes of a and b in turn, from lane FIRST on: a[FIRST], b[FIRST], a[FIRST + 1], ...
template <int FIRST, int... I>
inline Vector interleave(Vector a, Vector b, std::integer_sequence<int, I...>) {
  return SHUFFLE(a, b, (FIRST + I / 2 + I % 2 * LANES)...);
}
inline Vector interleave_low(Vector a, Vector b) {
  return interleave<0>(a, b, std::make_integer_sequence<int, LANES>{});
}
inline Vector interleave_high(Vector a, Vector b) {
  return interleave<LANES / 2>(a, b, std::make_integer_sequence<int, LANES>{});
}

// In lanes without the bit HALF, a[lane] + a[lane + HALF]; in the others, b[lane] + b[lane - HALF].
template <int HALF, int... LANE>
inline Vector halves(Vector a, Vector b, std::integer_sequence<int, LANE...>) {
  const Vector kept = SHUFFLE(a, b, (LANE & HALF ? LANE + LANES : LANE)...);
  const Vector added = SHUFFLE(a, b, (LANE & HALF ? (LANE ^ HALF) + LANES : LANE ^ HALF)...);
  return kept + added;
}

// The sums of the lanes of LANES vectors: lane i is that of vector i.
template <int COUNT = LANES>
inline Vector sums_of(const Vector* v) {
  if constexpr (COUNT == 1) {
    return v[0];
  } else {
    constexpr int HALF = COUNT / 2;
    Vector half[HALF];
    for (int i = 0; i < HALF; i++) half[i] = halves<HALF>(v[i], v[i + HALF], std::make_integer_sequence<int, LANES>{});
    return sums_of<HALF>(half);
  }
}

// Transposes a block of LANES x LANES: each of the log2(LANES) rounds interleaves rows i and i + LANES / 2.
inline void transpose(Vector* rows) {
  for (int round = 1; round < LANES; round *= 2) {
    Vector next[LANES];
    for (int i = 0; i < LANES / 2; i++) {
      next[2 * i] = interleave_low(rows[i], rows[i + LANES / 2]);
      next[2 * i + 1] = interleave_high(rows[i], rows[i + LANES / 2]);
    }
    memcpy(rows, next, sizeof next);
  }
}

}  // namespace
