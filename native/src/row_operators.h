// The operators that compute each row of a tensor by itself: SwiGLU, and SkipRMSNorm.
#pragma once

#include "context.h"
#include "kernels.h"

// silu(x[.., :W]) * x[.., W:] for x [.., 2W] -> [.., W].
class SwiGLU {
 public:
  SwiGLU(const Attributes&, const Kernels& kernels) : kernels_(kernels) {}
  void run(const Context& context) const;

 private:
  const Kernels& kernels_;
};

// x [.., h], skip [.., h], weight [h] -> x + skip normalized by its root mean square, and (optional) x + skip.
class SkipRMSNorm {
 public:
  SkipRMSNorm(const Attributes& attributes, const Kernels& kernels)
      : kernels_(kernels), epsilon_(attributes.number("epsilon")) {}
  void run(const Context& context) const;

 private:
  const Kernels& kernels_;
  float epsilon_;
};
