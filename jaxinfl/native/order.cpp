#include "order.h"

#include <memory>
#include <utility>

namespace jaxinfl {
namespace {

constexpr int kDigits = 4, kValues = 256;

}  // namespace

// A radix sort by bytes, the lowest first. It compares nothing, so that random words cost no wrongly predicted branches.
void stable_order(const uint32_t* words, int64_t size, int32_t* order) {
  uint32_t starts[kDigits][kValues] = {};
  for (int64_t i = 0; i < size; ++i)
    for (int digit = 0; digit < kDigits; ++digit) ++starts[digit][words[i] >> 8 * digit & 255];
  for (int digit = 0; digit < kDigits; ++digit) {
    uint32_t before = 0;
    for (uint32_t& start : starts[digit]) {
      const uint32_t count = start;
      start = before;
      before += count;
    }
  }
  // Each word has its index below it, and goes from one half of the memory to the other and back.
  const std::unique_ptr<uint64_t[]> memory(new uint64_t[2 * size]);
  uint64_t *from = memory.get(), *to = from + size;
  for (int64_t i = 0; i < size; ++i) to[starts[0][words[i] & 255]++] = uint64_t(words[i]) << 32 | uint64_t(i);
  for (int digit = 1; digit < kDigits; ++digit) {
    std::swap(from, to);
    for (int64_t i = 0; i < size; ++i) to[starts[digit][from[i] >> (32 + 8 * digit) & 255]++] = from[i];
  }
  for (int64_t i = 0; i < size; ++i) order[i] = int32_t(to[i]);
}

}  // namespace jaxinfl
