// Sums over all positions of each channel; arrays [positions, channels], contiguous.
#pragma once

#include <algorithm>
#include <cstdint>

namespace jaxinfl {

// Rows that are summed before their sum is added to others: 16 KB, half of a level 1 cache. Sums of sums also keep float32
// accurate over millions of numbers.
inline int64_t block_rows(int64_t channels) { return std::max<int64_t>(1, 4096 / channels); }

void channel_sums(const float* x, int64_t positions, int64_t channels, float* sums);

}  // namespace jaxinfl
