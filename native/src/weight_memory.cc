// Chunks of huge pages, from which allocations are cut; and what Linux tells about pages of memory.
#include "weight_memory.h"

#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

#ifdef __linux__
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace {

constexpr size_t HUGE_PAGE = size_t{2} << 20;

// Address space of a chunk: memory is only taken for the pages that are written to.
constexpr size_t CHUNK = 32 * HUGE_PAGE;

constexpr size_t ALIGNMENT = 64;

constexpr size_t rounded_up(size_t size, size_t multiple) { return (size + multiple - 1) / multiple * multiple; }

struct Chunk {
  char* memory;
  const size_t size;
  size_t used = 0;

  explicit Chunk(size_t bytes) : memory(static_cast<char*>(std::aligned_alloc(HUGE_PAGE, bytes))), size(bytes) {
    if (!memory) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    madvise(memory, size, MADV_HUGEPAGE);  // where it fails, pages are small, and everything else is the same
#endif
  }
  Chunk(const Chunk&) = delete;
  ~Chunk() { std::free(memory); }
};

#ifdef __linux__
// Whether all pages that are in memory are those of a file (or shared): a private page that was written to is not.
bool are_file_pages(uintptr_t first_page, size_t count) {
  constexpr uint64_t PRESENT_OR_SWAPPED = uint64_t{3} << 62, OF_FILE = uint64_t{1} << 61;  // proc_pid_pagemap(5)
  std::vector<uint64_t> entries(count);
  const size_t bytes = count * sizeof(uint64_t);
  const int file = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  const ssize_t got = pread(file, entries.data(), bytes, static_cast<off_t>(first_page * sizeof(uint64_t)));
  close(file);
  if (got != static_cast<ssize_t>(bytes)) return false;
  for (const uint64_t entry : entries)
    if ((entry & PRESENT_OR_SWAPPED) != 0 && (entry & OF_FILE) == 0) return false;
  return true;
}
#endif

}  // namespace

void drop_file_pages(const void* start, size_t size) {
#ifdef __linux__
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE)), address = reinterpret_cast<uintptr_t>(start);
  const uintptr_t first = address / page, end = (address + size + page - 1) / page;
  if (size > 0 && are_file_pages(first, end - first))
    madvise(reinterpret_cast<void*>(first * page), (end - first) * page, MADV_DONTNEED);
#else
  (void)start, (void)size;
#endif
}

std::shared_ptr<char> allocate_in_huge_pages(size_t size) {
  static std::mutex mutex;
  static std::weak_ptr<Chunk> last;
  size = rounded_up(size, ALIGNMENT);
  const std::lock_guard<std::mutex> lock(mutex);
  std::shared_ptr<Chunk> chunk = last.lock();
  if (!chunk || chunk->size - chunk->used < size) {
    chunk = std::make_shared<Chunk>(size > CHUNK ? rounded_up(size, HUGE_PAGE) : CHUNK);
    last = chunk;
  }
  char* memory = chunk->memory + chunk->used;
  chunk->used += size;
  return {chunk, memory};
}
