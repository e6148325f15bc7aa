// Gradients of a bias for each channel and of ReLU; arrays [positions, channels], contiguous.
#pragma once

#include <cstdint>

namespace jaxinfl {

// The gradient before ReLU, from that behind it and ReLU's result.
void relu_grad(const float* result, const float* grad, int64_t size, float* x_grad);

// Adds the sum of each channel: the gradient of the bias.
void add_channel_sums(const float* x, int64_t positions, int64_t channels, float* sums);

}  // namespace jaxinfl
