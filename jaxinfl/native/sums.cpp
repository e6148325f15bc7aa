#include "sums.h"

#include <vector>

namespace jaxinfl {

void channel_sums(const float* x, int64_t positions, int64_t channels, float* sums) {
  std::vector<float> buffer(channels);
  float* __restrict block = buffer.data();
  std::fill(sums, sums + channels, 0.0f);
  for (int64_t first = 0; first < positions; first += block_rows(channels)) {
    const int64_t last = std::min(positions, first + block_rows(channels));
    std::fill(block, block + channels, 0.0f);
    for (int64_t row = first; row < last; ++row)
      for (int64_t c = 0; c < channels; ++c) block[c] += x[row * channels + c];
    for (int64_t c = 0; c < channels; ++c) sums[c] += block[c];
  }
}

}  // namespace jaxinfl
