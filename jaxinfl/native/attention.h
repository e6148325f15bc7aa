// Attention within sequences, forward and backward; nothing of the size of length x length leaves the cache.
#pragma once

#include <cstdint>

namespace jaxinfl {

// Queries, keys and values side by side, [sequences, length, 3, heads, size], contiguous.
struct Heads {
  int64_t sequences, length, heads, size;
  bool causal;  // a place sees itself and those before it

  int64_t width() const { return heads * size; }
};

// out [sequences, length, heads, size]; the largest score of each row of the softmax, and one over the sum of its powers,
// [sequences, heads, length], are what `attention_grad` needs to compute the row again.
void attention(const Heads& heads, const float* packed, float* out, float* largest, float* inverse);

// Gradient of `packed` from that of `out`.
void attention_grad(const Heads& heads, const float* packed, const float* largest, const float* inverse, const float* grad,
                    float* packed_grad);

}  // namespace jaxinfl
