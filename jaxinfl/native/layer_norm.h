// Layer norm of rows [rows, width], float and contiguous: each row by itself to mean 0 and variance 1, then scaled and shifted.
#pragma once

#include <cstdint>

namespace jaxinfl {

// The mean of each row, and one over its deviation, are what the gradient needs.
void layer_norm(const float* x, const float* scale, const float* bias, int64_t rows, int64_t width, float epsilon, float* out,
                float* mean, float* inverse);

void layer_norm_grad(const float* x, const float* scale, const float* mean, const float* inverse, const float* grad,
                     int64_t rows, int64_t width, float* x_grad, float* scale_grad, float* bias_grad);

}  // namespace jaxinfl
