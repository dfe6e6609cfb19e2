// Memory for weights, in huge pages where the system has them.
#pragma once

#include <cstddef>
#include <memory>

// `size` bytes, aligned to a cache line. Chunks of memory are shared by those that ask one after the other: a chunk is
// freed once all of them are gone.
//
// A decode step reads every weight once; in pages of 4 KiB, it waits for address translations.
std::shared_ptr<char> allocate_in_huge_pages(size_t size);
