// Sums over all positions of each channel, for batch norm and biases; arrays [positions, channels], contiguous.
#pragma once

#include <cstdint>

namespace jaxinfl {

void channel_sums(const float* x, int64_t positions, int64_t channels, float* sums);

// Mean and biased variance of `images` times `positions` rows, those of images not `counted` left out.
void channel_moments(const float* x, const bool* counted, int64_t images, int64_t positions, int64_t channels,
                     float* mean, float* variance);

// The sums of `grad`, and of `grad * (x - mean)`.
void channel_products(const float* grad, const float* x, const float* mean, int64_t positions, int64_t channels,
                      float* sums, float* products);

}  // namespace jaxinfl
