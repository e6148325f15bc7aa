#include "bias.h"

#include "channels.h"

namespace jaxinfl {

void relu_grad(const float* result, const float* grad, int64_t size, float* x_grad) {
  by_vectors(size, [&](auto numbers, int64_t i) {
    using T = decltype(numbers);
    store(x_grad + i, load<T>(result + i) > 0 ? load<T>(grad + i) : T{});
  });
}

void add_channel_sums(const float* x, int64_t positions, int64_t channels, float* sums) {
  for (int64_t first = 0; first < positions; first += block_rows(channels)) {
    const int64_t count = std::min(positions - first, block_rows(channels));
    const float* block = x + first * channels;
    by_vectors(channels, [&](auto numbers, int64_t c) {
      using T = decltype(numbers);
      store(sums + c, load<T>(sums + c) + sum_of_rows<T>(count, [&](int64_t row) { return load<T>(block + row * channels + c); }));
    });
  }
}

}  // namespace jaxinfl
