// Memory for weights: huge pages for the copies that are computed with, and none for those that were read from a file.
#pragma once

#include <cstddef>
#include <memory>

// `size` bytes, aligned to a cache line. Chunks of memory are shared by those that ask one after the other: a chunk is
// freed once all of them are gone.
//
// A decode step reads every weight once; in pages of 4 KiB, it waits for address translations.
std::shared_ptr<char> allocate_in_huge_pages(size_t size);

// Gives back the memory that holds `size` bytes of a mapped file, which come back from the file where they are read again.
// Does nothing where the system does not tell that it is such memory, unchanged.
void drop_file_pages(const void* start, size_t size);
