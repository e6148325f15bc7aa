// One pass over memory each: rows are summed in blocks that stay in the level 1 cache (channels.h).

#include "norm.h"

#include <algorithm>

#include "channels.h"

namespace jaxinfl {

Moments::Moments(int64_t channels, float* mean, float* variance)
    : channels_(channels), mean_(mean), variance_(variance), buffer_(2 * channels) {
  std::fill(mean, mean + channels, 0.0f);
  std::fill(variance, variance + channels, 0.0f);
}

// Block by block as in Chan, Golub and LeVeque (1979): the mean of a block, its squares about that mean, then both joined
// to what came before. Squares about 0 would lose the variance of channels with a large mean.
void Moments::add_image(const float* rows, int64_t positions) {
  float *average = buffer_.data(), *squares = buffer_.data() + channels_;
  for (int64_t first = 0; first < positions; first += block_rows(channels_)) {
    const int64_t count = std::min(positions - first, block_rows(channels_));
    const float* block = rows + first * channels_;
    by_vectors(channels_, [&](auto numbers, int64_t c) {
      using T = decltype(numbers);
      const T mean = sum_of_rows<T>(count, [&](int64_t row) { return load<T>(block + row * channels_ + c); }) / float(count);
      store(average + c, mean);
      store(squares + c, sum_of_rows<T>(count, [&](int64_t row) {
              const T distance = load<T>(block + row * channels_ + c) - mean;
              return distance * distance;
            }));
    });
    const float total = seen_ + float(count), share = float(count) / total;
    for (int64_t c = 0; c < channels_; ++c) {
      const float step = average[c] - mean_[c];
      mean_[c] += step * share;
      variance_[c] += squares[c] + step * step * seen_ * share;
    }
    seen_ = total;
  }
}

void Moments::add(const float* x, const bool* counted, int64_t images, int64_t positions) {
  for (int64_t image = 0; image < images; ++image)
    if (counted[image]) add_image(x + image * positions * channels_, positions);
}

void Moments::finish() {
  for (int64_t c = 0; c < channels_; ++c) variance_[c] /= std::max(seen_, 1.0f);
}

void channel_moments(const float* x, const bool* counted, int64_t images, int64_t positions, int64_t channels,
                     float* mean, float* variance) {
  Moments moments(channels, mean, variance);
  moments.add(x, counted, images, positions);
  moments.finish();
}

void channel_products(const Normalization& norm, const float* grad, int64_t images, float* sums, float* products) {
  const int64_t positions = images * norm.positions, channels = norm.channels;
  std::vector<float> buffer(2 * channels);
  float *block_sums = buffer.data(), *block_products = buffer.data() + channels;
  std::fill(sums, sums + channels, 0.0f);
  std::fill(products, products + channels, 0.0f);
  for (int64_t first = 0; first < positions; first += block_rows(channels)) {
    const int64_t last = std::min(positions, first + block_rows(channels));
    std::fill(block_sums, block_sums + 2 * channels, 0.0f);
    for (int64_t strip = first; strip < last; strip += kStrip)
      by_vectors(channels, [&](auto numbers, int64_t c) {
        using T = decltype(numbers);
        const float *x = norm.x + strip * channels + c, *given = grad + strip * channels + c;
        const T factor = load<T>(norm.factor + c), offset = load<T>(norm.offset + c), mean = load<T>(norm.mean + c);
        T sum = load<T>(block_sums + c), product = load<T>(block_products + c);
        for (int64_t row = strip, end = std::min(strip + kStrip, last); row < end; ++row, x += channels, given += channels) {
          const T slope = load<T>(x) * factor + offset > 0 ? load<T>(given) : T{};
          sum += slope;
          product += slope * (load<T>(x) - mean);
        }
        store(block_sums + c, sum);
        store(block_products + c, product);
      });
    for (int64_t c = 0; c < channels; ++c) sums[c] += block_sums[c], products[c] += block_products[c];
  }
}

void normalization_grad(const Normalization& norm, const float* grad, const float* shift, const float* slope,
                        int64_t first, int64_t count, float* x_grad) {
  const int64_t channels = norm.channels;
  for (int64_t last = first + count, next; first < last; first = next) {
    const int64_t image = first / norm.positions;
    next = std::min({last, (image + 1) * norm.positions, first + kStrip});
    const float *x_rows = norm.x + first * channels, *given_rows = grad + first * channels;
    by_vectors(channels, [&](auto numbers, int64_t c) {
      using T = decltype(numbers);
      const float *x = x_rows + c, *given = given_rows + c;
      const T factor = load<T>(norm.factor + c), offset = load<T>(norm.offset + c), mean = load<T>(norm.mean + c);
      const T at_mean = load<T>(shift + c), rising = load<T>(slope + c);
      float* to = x_grad + c;
      // Through mean and variance, the counted images alone.
      const bool counted = norm.counted[image];
      for (int64_t row = first; row < next; ++row, x += channels, given += channels, to += channels) {
        const T number = load<T>(x), direct = number * factor + offset > 0 ? load<T>(given) : T{};
        store(to, factor * (counted ? direct - (at_mean + rising * (number - mean)) : direct));
      }
    });
    x_grad += (next - first) * channels;
  }
}

}  // namespace jaxinfl
