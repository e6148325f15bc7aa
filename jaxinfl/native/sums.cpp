// One pass over memory each: rows are summed in blocks that stay in the level 1 cache, and blocks are then combined, which
// also keeps float32 sums of millions of numbers accurate.

#include "sums.h"

#include <algorithm>
#include <vector>

namespace jaxinfl {
namespace {

constexpr int64_t kBlockFloats = 4096;  // 16 KB, half of a level 1 cache

int64_t block_rows(int64_t channels) { return std::max<int64_t>(1, kBlockFloats / channels); }

}  // namespace

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

// Block by block as in Chan, Golub and LeVeque (1979): the mean of a block, its squares about that mean, then both joined
// to what came before. Squares about 0 would lose the variance of channels with a large mean.
void channel_moments(const float* x, const bool* counted, int64_t images, int64_t positions, int64_t channels,
                     float* mean, float* variance) {
  std::vector<float> buffer(2 * channels);
  float *__restrict average = buffer.data(), *__restrict squares = buffer.data() + channels;
  std::fill(mean, mean + channels, 0.0f);
  std::fill(variance, variance + channels, 0.0f);
  float seen = 0;
  for (int64_t image = 0; image < images; ++image) {
    if (!counted[image]) continue;
    const float* rows = x + image * positions * channels;
    for (int64_t first = 0; first < positions; first += block_rows(channels)) {
      const int64_t count = std::min(positions - first, block_rows(channels));
      const float* __restrict block = rows + first * channels;
      std::fill(average, average + 2 * channels, 0.0f);
      for (int64_t row = 0; row < count; ++row)
        for (int64_t c = 0; c < channels; ++c) average[c] += block[row * channels + c];
      for (int64_t c = 0; c < channels; ++c) average[c] /= float(count);
      for (int64_t row = 0; row < count; ++row)
        for (int64_t c = 0; c < channels; ++c) {
          const float distance = block[row * channels + c] - average[c];
          squares[c] += distance * distance;
        }
      const float total = seen + float(count), share = float(count) / total;
      for (int64_t c = 0; c < channels; ++c) {
        const float step = average[c] - mean[c];
        mean[c] += step * share;
        variance[c] += squares[c] + step * step * seen * share;
      }
      seen = total;
    }
  }
  for (int64_t c = 0; c < channels; ++c) variance[c] /= std::max(seen, 1.0f);
}

void channel_products(const float* grad, const float* x, const float* mean, int64_t positions, int64_t channels,
                      float* sums, float* products) {
  std::vector<float> buffer(2 * channels);
  float *__restrict sum = buffer.data(), *__restrict product = buffer.data() + channels;
  std::fill(sums, sums + channels, 0.0f);
  std::fill(products, products + channels, 0.0f);
  for (int64_t first = 0; first < positions; first += block_rows(channels)) {
    const int64_t last = std::min(positions, first + block_rows(channels));
    std::fill(sum, sum + 2 * channels, 0.0f);
    for (int64_t row = first; row < last; ++row)
      for (int64_t c = 0; c < channels; ++c) {
        const float slope = grad[row * channels + c];
        sum[c] += slope;
        product[c] += slope * (x[row * channels + c] - mean[c]);
      }
    for (int64_t c = 0; c < channels; ++c) sums[c] += sum[c], products[c] += product[c];
  }
}

}  // namespace jaxinfl
