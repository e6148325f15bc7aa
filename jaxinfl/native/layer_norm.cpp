// One pass over memory forward and one backward, with a row in the level 1 cache. XLA takes a pass for each sum: the five norms of
// the transformer took it 4 of the 22 ms of a step (64 sequences of 64 places of 64 numbers, AVX-512), and take 2 now.

#include "layer_norm.h"

#include <algorithm>
#include <cmath>

#include "channels.h"

namespace jaxinfl {
namespace {

// A sum over a row: a vector at a time, and what is left of it.
struct Sum {
  Vector vectors = {};
  float rest = 0;

  void add(Vector numbers) { vectors += numbers; }
  void add(float number) { rest += number; }
  float total() const { return across(vectors, jaxinfl::add) + rest; }
};

}  // namespace

void layer_norm(const float* x, const float* scale, const float* bias, int64_t rows, int64_t width, float epsilon, float* out,
                float* mean, float* inverse) {
  for (int64_t row = 0; row < rows; ++row, x += width, out += width) {
    Sum sum, squares;
    by_vectors(width, [&](auto numbers, int64_t c) { sum.add(load<decltype(numbers)>(x + c)); });
    const float center = sum.total() / float(width);
    by_vectors(width, [&](auto numbers, int64_t c) {
      const auto distance = load<decltype(numbers)>(x + c) - center;
      squares.add(distance * distance);
    });
    const float factor = 1 / std::sqrt(squares.total() / float(width) + epsilon);
    mean[row] = center;
    inverse[row] = factor;
    by_vectors(width, [&](auto numbers, int64_t c) {
      using T = decltype(numbers);
      store(out + c, (load<T>(x + c) - center) * factor * load<T>(scale + c) + load<T>(bias + c));
    });
  }
}

void layer_norm_grad(const float* x, const float* scale, const float* mean, const float* inverse, const float* grad,
                     int64_t rows, int64_t width, float* x_grad, float* scale_grad, float* bias_grad) {
  std::fill(scale_grad, scale_grad + width, 0.0f);
  std::fill(bias_grad, bias_grad + width, 0.0f);
  Floats of_block(2 * width);
  for (int64_t first = 0; first < rows; first += block_rows(width)) {
    // Sums of sums keep float32 accurate over many rows.
    std::fill(of_block.begin(), of_block.end(), 0.0f);
    float *scales = of_block.data(), *biases = of_block.data() + width;
    for (int64_t row = first; row < std::min(rows, first + block_rows(width)); ++row) {
      const float *from = x + row * width, *own = grad + row * width;
      const float center = mean[row], factor = inverse[row];
      Sum sum, products;
      by_vectors(width, [&](auto numbers, int64_t c) {
        using T = decltype(numbers);
        const T normal = (load<T>(from + c) - center) * factor, given = load<T>(own + c), scaled = given * load<T>(scale + c);
        sum.add(scaled);
        products.add(scaled * normal);
        store(scales + c, load<T>(scales + c) + given * normal);
        store(biases + c, load<T>(biases + c) + given);
      });
      const float shift = sum.total() / float(width), slope = products.total() / float(width);
      by_vectors(width, [&](auto numbers, int64_t c) {
        using T = decltype(numbers);
        const T normal = (load<T>(from + c) - center) * factor, scaled = load<T>(own + c) * load<T>(scale + c);
        store(x_grad + row * width + c, (scaled - shift - normal * slope) * factor);
      });
    }
    for (int64_t c = 0; c < width; ++c) scale_grad[c] += scales[c];
    for (int64_t c = 0; c < width; ++c) bias_grad[c] += biases[c];
  }
}

}  // namespace jaxinfl
