// The operator QuantizedMatMul: products with weights of four or eight bits.
#pragma once

#include <memory>

#include "context.h"
#include "kernels.h"

// x [.., K] times a quantized weight [N, K], transposed -> [.., N], or with SwiGLU of the halves of the columns [.., N/2].
//
// inputs: 0 x, and three constants as in MatMulNBits: 1 weight [N, blocks, block * bits / 8] (uint8; of two int4 numbers
// in a byte, the first is the low one), 2 scales [N, blocks], and optional 3 zero points [N, bytes of a row] (uint8), which
// are 2^(bits - 1) where they are left out. Attributes: K, N, bits (4 or 8), block_size (16, 32, 64, 128 or 256), and
// swiglu (0 or 1).
//
// Activations are quantized in the weight's blocks, to int8 by their largest magnitude; the sums over a block are exact.
// The bits of a row depend on that row alone.
class QuantizedMatMul {
 public:
  QuantizedMatMul(const Attributes& attributes, const Kernels& kernels);
  void run(const Context& context) const;

 private:
  void pack(const Tensor<const uint8_t>& weight, const Tensor<const float>& scales, const Tensor<const uint8_t>& zeros);

  const Kernels& kernels_;
  const ProductKernels* product_ = nullptr;
  int64_t width_, columns_, bits_;
  bool swiglu_;
  std::shared_ptr<char> memory_;
  QuantizedWeight weight_{};
};
