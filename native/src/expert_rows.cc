// GatherByExpert and ScatterByExpert: their checks, and the copies of rows.
#include "expert_rows.h"

#include <cstring>

namespace {

constexpr int64_t MOST_EXPERTS = 4096, MOST_CHOICES = 4096;

int64_t within(int64_t value, int64_t most, const char* name) {
  if (value < 1 || value > most)
    throw InvalidArgument(std::string(name) + " is " + std::to_string(value) + ", expected 1 to " + std::to_string(most));
  return value;
}

// The experts of all choices, all of which exist.
Tensor<const int64_t> experts_of(const Context& context, size_t index, int64_t experts) {
  const auto chosen = context.input<int64_t>(index, "chosen");
  if (chosen.shape.rank() != 1) throw InvalidArgument("chosen is " + chosen.shape.text() + ", expected one axis");
  for (int64_t i = 0; i < chosen.shape[0]; i++)
    if (chosen.data[i] < 0 || chosen.data[i] >= experts)
      throw InvalidArgument("chosen has expert " + std::to_string(chosen.data[i]) + " of " + std::to_string(experts));
  return chosen;
}

// How many choices each expert has.
std::vector<int64_t> sizes_of(const Tensor<const int64_t>& chosen, int64_t experts) {
  std::vector<int64_t> sizes(static_cast<size_t>(experts));
  for (int64_t i = 0; i < chosen.shape[0]; i++) sizes[static_cast<size_t>(chosen.data[i])]++;
  return sizes;
}

void copy_row(float* to, const float* from, int64_t width) {
  std::memcpy(to, from, static_cast<size_t>(width) * sizeof(float));
}

}  // namespace

GatherByExpert::GatherByExpert(const Attributes& attributes, const Kernels&)
    : experts_(within(attributes.integer("experts"), MOST_EXPERTS, "experts")),
      choices_(within(attributes.integer("choices"), MOST_CHOICES, "choices")) {}

void GatherByExpert::run(const Context& context) const {
  const auto x = context.input<float>(0, "x");
  const auto chosen = experts_of(context, 1, experts_);
  if (x.shape.rank() == 0 || x.shape.rows() * choices_ != chosen.shape[0])
    throw InvalidArgument("GatherByExpert: x is " + x.shape.text() + " and chosen " + chosen.shape.text() + ", expected " +
                          std::to_string(choices_) + " choices of each row");
  const int64_t width = x.shape.last();
  const auto sizes = sizes_of(chosen, experts_);
  std::vector<float*> ends;
  for (size_t expert = 0; expert < sizes.size(); expert++)
    ends.push_back(context.output(expert, {sizes[expert], width}, "rows"));
  for (int64_t i = 0; i < chosen.shape[0]; i++) {
    float*& end = ends[static_cast<size_t>(chosen.data[i])];
    copy_row(end, x.data + i / choices_ * width, width);
    end += width;
  }
}

ScatterByExpert::ScatterByExpert(const Attributes& attributes, const Kernels&)
    : experts_(within(attributes.integer("experts"), MOST_EXPERTS, "experts")) {}

void ScatterByExpert::run(const Context& context) const {
  const auto chosen = experts_of(context, 0, experts_);
  const auto sizes = sizes_of(chosen, experts_);
  std::vector<const float*> ends;
  int64_t width = -1;
  for (size_t expert = 0; expert < sizes.size(); expert++) {
    const auto rows = context.input<float>(1 + expert, "rows");
    if (expert == 0 && rows.shape.rank() == 2) width = rows.shape[1];
    if (!(rows.shape == Shape{sizes[expert], width}))
      throw InvalidArgument("ScatterByExpert: the rows of expert " + std::to_string(expert) + " are " + rows.shape.text() +
                            ", expected " + std::to_string(sizes[expert]) + " of the first expert's width");
    ends.push_back(rows.data);
  }
  float* y = context.output(0, {chosen.shape[0], width}, "y");
  for (int64_t i = 0; i < chosen.shape[0]; i++) {
    const float*& end = ends[static_cast<size_t>(chosen.data[i])];
    copy_row(y + i * width, end, width);
    end += width;
  }
}
