// What an operator sees of ONNX Runtime: attributes, tensors, threads, and errors as exceptions.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "ort_abi.h"

// Input that an operator does not take: becomes a status with this line.
struct InvalidArgument : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A status that ONNX Runtime returned, on its way back to it.
struct OrtFailure {
  OrtStatus* status;
};

inline void check(OrtStatus* status) {
  if (status) throw OrtFailure{status};
}

// Runs a function, and returns what it throws as a status; no exception may reach ONNX Runtime.
template <class Function>
OrtStatus* as_status(const OrtApi& api, const Function& function) noexcept {
  try {
    function();
    return nullptr;
  } catch (const OrtFailure& failure) {
    return failure.status;
  } catch (const InvalidArgument& error) {
    return api.CreateStatus(ORT_INVALID_ARGUMENT, error.what());
  } catch (const std::exception& error) {
    return api.CreateStatus(ORT_FAIL, error.what());
  }
}

// The sizes of a tensor's axes.
class Shape {
 public:
  static constexpr size_t MOST_AXES = 8;

  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes);
  Shape(const OrtApi& api, const OrtTensorTypeAndShapeInfo* info, const char* name);

  size_t rank() const { return rank_; }
  const int64_t* data() const { return sizes_.data(); }
  int64_t operator[](size_t axis) const { return sizes_[axis]; }
  int64_t last() const { return sizes_[rank_ - 1]; }
  int64_t& last() { return sizes_[rank_ - 1]; }
  int64_t rows() const;  // the number of vectors along the last axis
  bool operator==(const Shape& other) const;
  std::string text() const;

 private:
  std::array<int64_t, MOST_AXES> sizes_{};
  size_t rank_ = 0;
};

// A tensor's numbers, null where an optional one was left out.
template <class T>
struct Tensor {
  T* data = nullptr;
  Shape shape;
};

// The attributes of a node, and its inputs that are constants.
class Attributes {
 public:
  Attributes(const OrtApi& api, const OrtKernelInfo* info) : api_(api), info_(info) {}

  float number(const char* name) const {
    float value;
    check(api_.KernelInfoGetAttribute_float(info_, name, &value));
    return value;
  }

  int64_t integer(const char* name) const {
    int64_t value;
    check(api_.KernelInfoGetAttribute_int64(info_, name, &value));
    return value;
  }

  size_t input_count() const;

  template <class T>
  Tensor<const T> constant(size_t index, const char* name) const {
    Shape shape;
    const void* data = find_constant(index, name, shape);
    return {static_cast<const T*>(data), shape};
  }

 private:
  const void* find_constant(size_t index, const char* name, Shape& shape) const;

  const OrtApi& api_;
  const OrtKernelInfo* info_;
};

// One run of an operator.
class Context {
 public:
  Context(const OrtApi& api, OrtKernelContext* context) : api_(api), context_(context) {}

  template <class T>
  Tensor<const T> input(size_t index, const char* name) const {
    Tensor<const T> tensor = optional_input<T>(index, name);
    if (!tensor.data) throw InvalidArgument(std::string(name) + " is missing");
    return tensor;
  }

  template <class T>
  Tensor<const T> optional_input(size_t index, const char* name) const {
    Shape shape;
    void* data = find_input(index, name, shape);
    return {static_cast<const T*>(data), shape};
  }

  float* output(size_t index, const Shape& shape, const char* name) const {
    float* data = optional_output(index, shape);
    if (!data) throw InvalidArgument(std::string(name) + " is missing");
    return data;
  }

  float* optional_output(size_t index, const Shape& shape) const;

  // Runs task(0) ... task(count - 1): on the session's threads where the work is worth it, and else one after the other.
  template <class Task>
  void run(size_t count, bool worth_threads, const Task& task) const {
    if (count < 2 || !worth_threads) {
      for (size_t i = 0; i < count; i++) task(i);
      return;
    }
    Shared<Task> shared{task};
    check(api_.KernelContext_ParallelFor(context_, &Shared<Task>::call, count, 0, &shared));
    if (shared.failed) throw std::bad_alloc();
  }

 private:
  template <class Task>
  struct Shared {
    const Task& task;
    std::atomic<bool> failed{false};

    static void call(void* data, size_t index) noexcept {
      auto* shared = static_cast<Shared*>(data);
      try {
        shared->task(index);
      } catch (...) {  // tasks throw nothing but bad_alloc
        shared->failed = true;
      }
    }
  };

  void* find_input(size_t index, const char* name, Shape& shape) const;

  const OrtApi& api_;
  OrtKernelContext* context_;
};
