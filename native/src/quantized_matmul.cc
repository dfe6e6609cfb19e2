// QuantizedMatMul: its checks, the packed copy of its weight, and the division of its work into tasks.
#include "quantized_matmul.h"

#include <algorithm>

#include "scratch.h"
#include "weight_memory.h"

namespace {

constexpr int64_t MOST_COLUMNS = int64_t{1} << 24, MOST_WIDTH = int64_t{1} << 24;

// Bytes of weights times rows: fewer are done before a second thread has begun.
constexpr int64_t WORTH_THREADS = 65536;

// Bytes of weights of a task in a decode step, at least: it takes as long as to tell another thread of a few tasks.
constexpr int64_t TASK_BYTES = 98304;

// Rows of a task in a prompt: their activations stay in the second cache while the weights go by.
constexpr int64_t TASK_ROWS = 128;

[[noreturn]] void refuse(const std::string& message) { throw InvalidArgument("QuantizedMatMul: " + message); }

template <class T>
void expect(const Tensor<T>& tensor, const char* name, const Shape& shape) {
  if (!(tensor.shape == shape))
    refuse(std::string(name) + " is " + tensor.shape.text() + ", expected " + shape.text());
}

}  // namespace

QuantizedMatMul::QuantizedMatMul(const Attributes& attributes, const Kernels& kernels)
    : kernels_(kernels),
      width_(attributes.integer("K")),
      columns_(attributes.integer("N")),
      bits_(attributes.integer("bits")),
      swiglu_(attributes.integer("swiglu") != 0) {
  weight_.block = attributes.integer("block_size");
  for (const ProductKernels& each : kernels.products)
    if (each.bits == bits_) product_ = &each;
  const int64_t block = weight_.block, lanes = kernels.lanes;
  if (!product_) refuse("bits is " + std::to_string(bits_) + ", expected 4 or 8");
  if (block < 16 || block > MOST_BLOCK || (block & (block - 1)) != 0)
    refuse("block_size is " + std::to_string(block) + ", expected a power of two from 16 to 256");
  if (width_ < 1 || width_ > MOST_WIDTH || columns_ < 1 || columns_ > MOST_COLUMNS) refuse("K or N is out of range");
  if (swiglu_ && columns_ % (2 * lanes) != 0)
    refuse("N is " + std::to_string(columns_) + ", expected a multiple of " + std::to_string(2 * lanes) + " for SwiGLU");
  weight_.blocks = round_up(width_, block) / block;
  weight_.panels = round_up(columns_, lanes) / lanes;
  const auto weight = attributes.constant<uint8_t>(1, "QuantizedMatMul: weight");
  const auto scales = attributes.constant<float>(2, "QuantizedMatMul: scales");
  Tensor<const uint8_t> zeros;
  if (attributes.input_count() > 3) zeros = attributes.constant<uint8_t>(3, "QuantizedMatMul: zero points");
  expect(weight, "weight", {columns_, weight_.blocks, block * bits_ / 8});
  expect(scales, "scales", {columns_, weight_.blocks});
  if (zeros.data) expect(zeros, "zero points", {columns_, round_up(weight_.blocks * bits_, 8) / 8});
  pack(weight, scales, zeros);
}

void QuantizedMatMul::pack(const Tensor<const uint8_t>& weight, const Tensor<const float>& scales,
                           const Tensor<const uint8_t>& zeros) {
  const int64_t blocks = weight_.blocks, lanes = kernels_.lanes, words = blocks * weight_.block * bits_ / 32;
  const int64_t columns = weight_.panels * lanes, count = columns * words, scale_count = columns * blocks;
  const int64_t bytes = 4 * count + 4 * scale_count + scale_count;
  memory_ = allocate_in_huge_pages(static_cast<size_t>(bytes));
  auto* to_words = reinterpret_cast<int32_t*>(memory_.get());
  auto* to_scales = reinterpret_cast<float*>(to_words + count);
  auto* to_zeros = reinterpret_cast<uint8_t*>(to_scales + scale_count);
  const int64_t zero_bytes = round_up(blocks * bits_, 8) / 8;
  const auto zero = [&](int64_t column, int64_t block) -> uint8_t {
    if (!zeros.data) return static_cast<uint8_t>(1 << (bits_ - 1));
    const uint8_t* row = zeros.data + column * zero_bytes;
    return bits_ == 8 ? row[block] : row[block / 2] >> (block % 2 * 4) & 15;
  };
  for (int64_t column = 0; column < columns; column++) {
    const int64_t panel = column / lanes, lane = column % lanes;
    const bool present = column < columns_;
    for (int64_t block = 0; block < blocks; block++) {
      const int64_t at = (panel * blocks + block) * lanes + lane;
      to_scales[at] = present ? scales.data[column * blocks + block] : 0.0f;
      to_zeros[at] = present ? zero(column, block) : 0;
    }
  }
  product_->pack(weight.data, columns_, words, to_words);
  drop_file_pages(weight.data, static_cast<size_t>(4 * columns_ * words));
  weight_.words = to_words;
  weight_.scales = to_scales;
  weight_.zeros = to_zeros;
}

void QuantizedMatMul::run(const Context& context) const {
  const auto x = context.input<float>(0, "x");
  if (x.shape.rank() == 0 || x.shape.last() != width_)
    refuse("x is " + x.shape.text() + ", expected a last axis of " + std::to_string(width_));
  Shape shape = x.shape;
  shape.last() = swiglu_ ? columns_ / 2 : columns_;
  const int64_t count = x.shape.rows(), blocks = weight_.blocks, width = blocks * weight_.block;
  const Product product{weight_, {nullptr, nullptr, nullptr, count}, context.output(0, shape, "y"), shape.last(), swiglu_};
  if (count == 0) return;

  float* scales = scratch<QuantizedMatMul>(count * (2 * blocks + width / 4));
  auto* sums = reinterpret_cast<int32_t*>(scales + count * blocks);
  auto* values = reinterpret_cast<int8_t*>(sums + count * blocks);
  const auto quantize = [&](size_t i) {
    const auto row = static_cast<int64_t>(i);
    product_->quantize_row(x.data + row * width_, width_, weight_.block, values + row * width, scales + row * blocks,
                           sums + row * blocks);
  };
  context.run(static_cast<size_t>(count), count * width > WORTH_THREADS, quantize);

  const int64_t pairs = round_up(weight_.panels, 2) / 2, bytes = width * bits_ / 8;
  const int64_t most_tasks = count == 1 ? std::max<int64_t>(1, columns_ * bytes / TASK_BYTES) : pairs;
  const int64_t task_pairs = round_up(pairs, most_tasks) / most_tasks, tasks = round_up(pairs, task_pairs) / task_pairs;
  const auto multiply = [&](size_t i) {
    const int64_t row = static_cast<int64_t>(i) / tasks * TASK_ROWS, pair = static_cast<int64_t>(i) % tasks * task_pairs;
    Product part = product;
    part.rows = {values + row * width, scales + row * blocks, sums + row * blocks, std::min(TASK_ROWS, count - row)};
    part.y += row * product.columns;
    product_->multiply(part, pair, std::min(pairs, pair + task_pairs));
  };
  const int64_t parts = round_up(count, TASK_ROWS) / TASK_ROWS;
  context.run(static_cast<size_t>(parts * tasks), count * columns_ * bytes > WORTH_THREADS, multiply);
}
