// The checks and accesses of context.h.
#include "context.h"

#include <algorithm>
#include <memory>

namespace {

// A tensor without numbers may have no address; null stands for a tensor that was left out.
float nothing;

}  // namespace

Shape::Shape(std::initializer_list<int64_t> sizes) : rank_(sizes.size()) {
  std::copy(sizes.begin(), sizes.end(), sizes_.begin());
}

Shape::Shape(const OrtApi& api, const OrtTensorTypeAndShapeInfo* info, const char* name) {
  check(api.GetDimensionsCount(info, &rank_));
  if (rank_ > MOST_AXES) throw InvalidArgument(std::string(name) + " has too many axes");
  check(api.GetDimensions(info, sizes_.data(), rank_));
}

int64_t Shape::rows() const {
  int64_t count = 1;
  for (size_t axis = 0; axis + 1 < rank_; axis++) count *= sizes_[axis];
  return count;
}

bool Shape::operator==(const Shape& other) const {
  return rank_ == other.rank_ && std::equal(data(), data() + rank_, other.data());
}

std::string Shape::text() const {
  std::string text = "[";
  for (size_t axis = 0; axis < rank_; axis++) text += (axis ? ", " : "") + std::to_string(sizes_[axis]);
  return text + "]";
}

namespace {

// A tensor's address, which is not null, and its shape.
void* read(const OrtApi& api, const OrtValue* value, const char* name, Shape& shape) {
  OrtTensorTypeAndShapeInfo* info = nullptr;
  check(api.GetTensorTypeAndShape(value, &info));
  const std::unique_ptr<OrtTensorTypeAndShapeInfo, void (*)(OrtTensorTypeAndShapeInfo*)> owner(
      info, api.ReleaseTensorTypeAndShapeInfo);
  shape = Shape(api, info, name);
  void* data = nullptr;
  check(api.GetTensorMutableData(const_cast<OrtValue*>(value), &data));
  return data ? data : &nothing;
}

}  // namespace

size_t Attributes::input_count() const {
  size_t count = 0;
  check(api_.KernelInfo_GetInputCount(info_, &count));
  return count;
}

const void* Attributes::find_constant(size_t index, const char* name, Shape& shape) const {
  const OrtValue* value = nullptr;
  int is_constant = 0;
  check(api_.KernelInfoGetConstantInput_tensor(info_, index, &is_constant, &value));
  if (!is_constant || !value) throw InvalidArgument(std::string(name) + " is no constant");
  return read(api_, value, name, shape);
}

void* Context::find_input(size_t index, const char* name, Shape& shape) const {
  const OrtValue* value = nullptr;
  check(api_.KernelContext_GetInput(context_, index, &value));
  return value ? read(api_, value, name, shape) : nullptr;
}

float* Context::optional_output(size_t index, const Shape& shape) const {
  OrtValue* value = nullptr;
  check(api_.KernelContext_GetOutput(context_, index, shape.data(), shape.rank(), &value));
  if (!value) return nullptr;
  void* data = nullptr;
  check(api_.GetTensorMutableData(value, &data));
  return static_cast<float*>(data ? data : &nothing);
}
