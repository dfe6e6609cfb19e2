// Chunks of huge pages, from which allocations are cut.
#include "huge_pages.h"

#include <cstdlib>
#include <mutex>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace {

constexpr size_t PAGE = size_t{2} << 20;

// Address space of a chunk: memory is only taken for the pages that are written to.
constexpr size_t CHUNK = 32 * PAGE;

constexpr size_t ALIGNMENT = 64;

constexpr size_t rounded_up(size_t size, size_t multiple) { return (size + multiple - 1) / multiple * multiple; }

struct Chunk {
  char* memory;
  const size_t size;
  size_t used = 0;

  explicit Chunk(size_t bytes) : memory(static_cast<char*>(std::aligned_alloc(PAGE, bytes))), size(bytes) {
    if (!memory) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    madvise(memory, size, MADV_HUGEPAGE);  // where it fails, pages are small, and everything else is the same
#endif
  }
  Chunk(const Chunk&) = delete;
  ~Chunk() { std::free(memory); }
};

}  // namespace

std::shared_ptr<char> allocate_in_huge_pages(size_t size) {
  static std::mutex mutex;
  static std::weak_ptr<Chunk> last;
  size = rounded_up(size, ALIGNMENT);
  const std::lock_guard<std::mutex> lock(mutex);
  std::shared_ptr<Chunk> chunk = last.lock();
  if (!chunk || chunk->size - chunk->used < size) {
    chunk = std::make_shared<Chunk>(size > CHUNK ? rounded_up(size, PAGE) : CHUNK);
    last = chunk;
  }
  char* memory = chunk->memory + chunk->used;
  chunk->used += size;
  return {chunk, memory};
}
