// The order of random words: which comes first, which second, and so on.
#pragma once

#include <cstdint>

namespace jaxinfl {

// order[k] is the index of the word that comes k-th from below; equal words keep their order. `size` is below 2^32.
void stable_order(const uint32_t* words, int64_t size, int32_t* order);

}  // namespace jaxinfl
