// Convolution of images [images, height, width, inputs] with a kernel [kernel_height, kernel_width, inputs, outputs], and
// its two gradients; all arrays float, contiguous, in this order of axes. One thread: the models are what runs in parallel.
#pragma once

#include <cstdint>

#include "norm.h"

namespace jaxinfl {

struct Shape {
  int64_t images, height, width, inputs;
  int64_t kernel_height, kernel_width, outputs;
  int64_t out_height, out_width;
  int64_t stride_y, stride_x, top, left;  // top and left: rows and columns of zeros before the image
};

void conv_forward(Shape shape, const float* images, const float* kernel, float* out);
// The convolution, and mean and variance of the result's channels over the counted images, taken from the cache.
void conv_forward_moments(Shape shape, const float* images, const float* kernel, float* out, const bool* counted, float* mean,
                          float* variance);
// The convolution plus a bias for each channel; with `cut`, what is below zero becomes zero.
void conv_forward_bias(Shape shape, const float* images, const float* kernel, const float* bias, bool cut, float* out);

// The gradient of a convolution's result, or of what was made of it: then the former is computed a part at a time, where a
// pass reads it, and never written to memory.
struct OutGrad {
  const float* grad;
  const float* relu = nullptr;  // the result with a bias, cut off below zero
  Normalization norm = {};      // of the result; without x: nothing is normalized
  const float *shift = nullptr, *slope = nullptr;  // see `normalization_grad`
};

void conv_input_grad(Shape shape, const OutGrad& out_grad, const float* kernel, float* images_grad);
// The gradient of the kernel, and that of the bias unless `bias_grad` is null.
void conv_kernel_grad(Shape shape, const float* images, const OutGrad& out_grad, float* kernel_grad, float* bias_grad);

}  // namespace jaxinfl
