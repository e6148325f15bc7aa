// A random order of some examples, drawn as JAX draws it.
#pragma once

#include <cstdint>

namespace jaxinfl {

// order[k] is the index of the example that comes k-th: the included ones by 31 random bits each, and the others behind them.
// Equal bits keep the order of the indices. `key` holds the two words of a Threefry key, and `size` is below 2^32.
void random_order(const uint32_t* key, const bool* included, int64_t size, int32_t* order);

}  // namespace jaxinfl
