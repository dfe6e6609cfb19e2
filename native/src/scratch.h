// Memory of a thread, kept from run to run.
#pragma once

#include <cstdint>
#include <memory>

// `count` floats for the kind of use that Use names; one use may not nest in itself.
template <class Use>
float* scratch(int64_t count) {
  static thread_local std::unique_ptr<float[]> memory;
  static thread_local int64_t capacity = 0;
  if (count > capacity) {
    const int64_t more = count + count / 2;  // a cache that grows by a slot a step gets new memory seldom
    capacity = 0;
    memory.reset(new float[static_cast<size_t>(more)]);
    capacity = more;
  }
  return memory.get();
}
