#include "order.h"

#include <memory>
#include <utility>

namespace jaxinfl {
namespace {

constexpr int kDigits = 4, kValues = 256;

template <int first, int second, int third, int fourth>
void mix(uint32_t& a, uint32_t& b) {
  for (int by : {first, second, third, fourth}) {
    a += b;
    b = (b << by | b >> (32 - by)) ^ a;
  }
}

// Word number i of jax.random.bits(key, size, uint32): Threefry-2x32 with 20 rounds (Salmon et al., 2011, "Parallel random
// numbers: as easy as 1, 2, 3"), whose two words are combined by exclusive or.
inline uint32_t random_word(const uint32_t (&keys)[3], uint32_t i) {
  uint32_t a = keys[0], b = i + keys[1];
  mix<13, 15, 26, 6>(a, b), a += keys[1], b += keys[2] + 1;
  mix<17, 29, 16, 24>(a, b), a += keys[2], b += keys[0] + 2;
  mix<13, 15, 26, 6>(a, b), a += keys[0], b += keys[1] + 3;
  mix<17, 29, 16, 24>(a, b), a += keys[1], b += keys[2] + 4;
  mix<13, 15, 26, 6>(a, b), a += keys[2], b += keys[0] + 5;
  return a ^ b;
}

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

}  // namespace

void random_order(const uint32_t* key, const bool* included, int64_t size, int32_t* order) {
  const uint32_t keys[3] = {key[0], key[1], key[0] ^ key[1] ^ 0x1BD11BDAu};
  const std::unique_ptr<uint32_t[]> words(new uint32_t[size]);
  for (int64_t i = 0; i < size; ++i)
    words[i] = random_word(keys, uint32_t(i)) >> 1 | uint32_t(!included[i]) << 31;
  stable_order(words.get(), size, order);
}

}  // namespace jaxinfl
