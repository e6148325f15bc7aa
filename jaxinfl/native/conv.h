// Convolution of images [images, height, width, inputs] with a kernel [kernel_height, kernel_width, inputs, outputs], and
// its two gradients; all arrays float, contiguous, in this order of axes. One thread: the models are what runs in parallel.
#pragma once

#include <cstdint>

namespace jaxinfl {

struct Shape {
  int64_t images, height, width, inputs;
  int64_t kernel_height, kernel_width, outputs;
  int64_t out_height, out_width;
  int64_t stride_y, stride_x, top, left;  // top and left: rows and columns of zeros before the image
};

void conv_forward(Shape shape, const float* images, const float* kernel, float* out);
void conv_input_grad(Shape shape, const float* out_grad, const float* kernel, float* images_grad);
void conv_kernel_grad(Shape shape, const float* images, const float* out_grad, float* kernel_grad);

}  // namespace jaxinfl
