// Batch norm over images [images, positions, channels], float and contiguous: y standardized by a channel's mean and variance,
// scaled, shifted and, if asked, cut off at zero.
#pragma once

#include <cstdint>
#include <vector>

namespace jaxinfl {

// Mean and biased variance of each channel, of images that come in parts.
class Moments {
 public:
  // Both vectors hold the moments after `finish`.
  Moments(int64_t channels, float* mean, float* variance);

  // Takes images in; those not `counted` are left out.
  void add(const float* x, const bool* counted, int64_t images, int64_t positions);
  void finish();

 private:
  void add_image(const float* rows, int64_t positions);

  int64_t channels_;
  float *mean_, *variance_;
  float seen_ = 0;
  std::vector<float> buffer_;
};

// The moments of all images at once.
void channel_moments(const float* x, const bool* counted, int64_t images, int64_t positions, int64_t channels,
                     float* mean, float* variance);

// A normalization as its gradient needs it; vectors are of `channels` numbers.
struct Normalization {
  const float* x;       // what was normalized
  const bool* counted;  // images in mean and variance
  int64_t positions, channels;
  // The result is x * factor + offset, cut off at zero; a channel whose offset is infinite is not cut off.
  const float *factor, *offset, *mean;
};

// The sums of `grad` where the result was not cut off, and of that times x - mean.
void channel_products(const Normalization& norm, const float* grad, int64_t images, float* sums, float* products);

// Gradient of x at `count` positions from `first` on, counted through all images; `shift` and `slope` are the gradient
// that goes through mean and variance, as a function of x - mean.
void normalization_grad(const Normalization& norm, const float* grad, const float* shift, const float* slope,
                        int64_t first, int64_t count, float* x_grad);

}  // namespace jaxinfl
