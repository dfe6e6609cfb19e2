// SwiGLU and SkipRMSNorm: their checks, and the division of their rows.
#include "row_operators.h"

namespace {

constexpr int64_t WORTH_THREADS = 16384;  // numbers: fewer are done before a second thread has begun

}  // namespace

void SwiGLU::run(const Context& context) const {
  const auto x = context.input<float>(0, "x");
  if (x.shape.rank() == 0 || x.shape.last() % 2 != 0)
    throw InvalidArgument("SwiGLU: x is " + x.shape.text() + ", expected a last axis of an even size");
  Shape shape = x.shape;
  const int64_t width = shape.last() /= 2, rows = shape.rows();
  float* y = context.output(0, shape, "y");
  const auto row = [&](size_t i) {
    const auto r = static_cast<int64_t>(i);
    kernels_.swiglu(x.data + r * 2 * width, width, y + r * width);
  };
  context.run(static_cast<size_t>(rows), rows * width > WORTH_THREADS, row);
}

void SkipRMSNorm::run(const Context& context) const {
  const auto x = context.input<float>(0, "x"), skip = context.input<float>(1, "skip");
  const auto weight = context.input<float>(2, "weight");
  if (x.shape.rank() == 0 || !(skip.shape == x.shape) || !(weight.shape == Shape{x.shape.last()}))
    throw InvalidArgument("SkipRMSNorm: x is " + x.shape.text() + ", skip " + skip.shape.text() + " and weight " +
                          weight.shape.text() + ", expected [.., h], the same, and [h]");
  const int64_t width = x.shape.last(), rows = x.shape.rows();
  float* y = context.output(0, x.shape, "y");
  float* sum = context.optional_output(1, x.shape);
  if (!sum) sum = y;  // the kernel's first pass leaves the sum there for its second
  const auto row = [&](size_t i) {
    const int64_t at = static_cast<int64_t>(i) * width;
    kernels_.skip_rms_norm(x.data + at, skip.data + at, weight.data, width, epsilon_, sum + at, y + at);
  };
  context.run(static_cast<size_t>(rows), rows * width > WORTH_THREADS, row);
}
