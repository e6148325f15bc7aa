// What XLA calls: the kernels as foreign functions of its CPU backend.

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>

#include "attention.h"
#include "call.h"
#include "conv.h"
#include "counts.h"
#include "layer_norm.h"
#include "norm.h"
#include "order.h"
#include "overlap.h"

namespace {

using jaxinfl::Array;
using jaxinfl::Call;

jaxinfl::Shape shape_of(const Call& call, const int64_t* images, const int64_t* kernel, const int64_t* out) {
  const int64_t *strides = call.pair("strides"), *padding = call.pair("padding");
  return {images[0], images[1], images[2], images[3],  kernel[0],  kernel[1], kernel[3],
          out[1],    out[2],    strides[0], strides[1], padding[0], padding[1]};
}

void forward(const Call& call) {
  const auto images = call.argument<float>(0, 4), kernel = call.argument<float>(1, 4);
  const auto out = call.result<float>(0, 4);
  jaxinfl::conv_forward(shape_of(call, images.dims, kernel.dims, out.dims), images.data, kernel.data, out.data);
}

void forward_moments(const Call& call) {
  const auto images = call.argument<float>(0, 4), kernel = call.argument<float>(1, 4);
  const auto counted = call.argument<bool>(2, 1);
  const auto out = call.result<float>(0, 4), mean = call.result<float>(1, 1), variance = call.result<float>(2, 1);
  jaxinfl::conv_forward_moments(shape_of(call, images.dims, kernel.dims, out.dims), images.data, kernel.data, out.data,
                                counted.data, mean.data, variance.data);
}

template <bool cut>
void forward_bias(const Call& call) {
  const auto images = call.argument<float>(0, 4), kernel = call.argument<float>(1, 4), bias = call.argument<float>(2, 1);
  const auto out = call.result<float>(0, 4);
  jaxinfl::conv_forward_bias(shape_of(call, images.dims, kernel.dims, out.dims), images.data, kernel.data, bias.data, cut,
                             out.data);
}

// Queries, keys and values side by side; the shape is that of one of the results, [sequences, heads, length].
jaxinfl::Heads heads(const Call& call, const int64_t* rows) {
  const int64_t width = call.argument<float>(0, 2).dims[1] / 3;
  return {rows[0], rows[2], rows[1], width / rows[1], call.pair("causal")[0] != 0};
}

void attention(const Call& call) {
  const auto largest = call.result<float>(1, 3), inverse = call.result<float>(2, 3);
  jaxinfl::attention(heads(call, largest.dims), call.argument<float>(0, 2).data, call.result<float>(0, 2).data, largest.data,
                     inverse.data);
}

void attention_grad(const Call& call) {
  const auto largest = call.argument<float>(1, 3), inverse = call.argument<float>(2, 3);
  jaxinfl::attention_grad(heads(call, largest.dims), call.argument<float>(0, 2).data, largest.data, inverse.data,
                          call.argument<float>(3, 2).data, call.result<float>(0, 2).data);
}

void layer_norm(const Call& call) {
  const auto x = call.argument<float>(0, 2), scale = call.argument<float>(1, 1), bias = call.argument<float>(2, 1);
  const float epsilon = *call.argument<float>(3, 0).data;
  jaxinfl::layer_norm(x.data, scale.data, bias.data, x.dims[0], x.dims[1], epsilon, call.result<float>(0, 2).data,
                      call.result<float>(1, 1).data, call.result<float>(2, 1).data);
}

void layer_norm_grad(const Call& call) {
  const auto x = call.argument<float>(0, 2), scale = call.argument<float>(1, 1), grad = call.argument<float>(4, 2);
  const auto mean = call.argument<float>(2, 1), inverse = call.argument<float>(3, 1);
  jaxinfl::layer_norm_grad(x.data, scale.data, mean.data, inverse.data, grad.data, x.dims[0], x.dims[1],
                           call.result<float>(0, 2).data, call.result<float>(1, 1).data, call.result<float>(2, 1).data);
}

// What was normalized, the images counted, and factor, offset and mean, from argument `first` on; 5 arguments.
jaxinfl::Normalization normalization(const Call& call, int64_t first) {
  const auto x = call.argument<float>(first);
  const auto counted = call.argument<bool>(first + 1, 1);
  const auto factor = call.argument<float>(first + 2, 1), offset = call.argument<float>(first + 3, 1);
  const auto mean = call.argument<float>(first + 4, 1);
  const int64_t channels = mean.dims[0];
  return {x.data, counted.data, x.size() / channels / counted.dims[0], channels, factor.data, offset.data, mean.data};
}

// Argument `index`, and from argument 2 on what was made of the convolution's result: ReLU's, or what normalization needs.
jaxinfl::OutGrad out_grad(const Call& call, int64_t index) {
  const auto grad = call.argument<float>(index, 4);
  if (call.num_arguments() == 2) return {grad.data};
  if (call.num_arguments() == 3) return {grad.data, call.argument<float>(2, 4).data};
  const auto shift = call.argument<float>(7, 1), slope = call.argument<float>(8, 1);
  return {grad.data, nullptr, normalization(call, 2), shift.data, slope.data};
}

void input_grad(const Call& call) {
  const auto grad = call.argument<float>(0, 4), kernel = call.argument<float>(1, 4);
  const auto images_grad = call.result<float>(0, 4);
  jaxinfl::conv_input_grad(shape_of(call, images_grad.dims, kernel.dims, grad.dims), out_grad(call, 0), kernel.data,
                           images_grad.data);
}

void kernel_grad(const Call& call) {
  const auto images = call.argument<float>(0, 4), grad = call.argument<float>(1, 4);
  const auto kernel_grad = call.result<float>(0, 4);
  float* bias_grad = call.num_results() == 2 ? call.result<float>(1, 1).data : nullptr;
  jaxinfl::conv_kernel_grad(shape_of(call, images.dims, kernel_grad.dims, grad.dims), images.data, out_grad(call, 1),
                            kernel_grad.data, bias_grad);
}

// A convolution of images of one pixel. It takes matrices: for their views of four axes XLA computed again what they hold.
void dense_kernel_grad(const Call& call) {
  const auto inputs = call.argument<float>(0, 2), grad = call.argument<float>(1, 2);
  const jaxinfl::Shape shape = {inputs.dims[0], 1, 1, inputs.dims[1], 1, 1, grad.dims[1], 1, 1, 1, 1, 0, 0};
  jaxinfl::conv_kernel_grad(shape, inputs.data, {grad.data}, call.result<float>(0, 2).data, nullptr);
}

void moments(const Call& call) {
  const auto x = call.argument<float>(0);
  const auto counted = call.argument<bool>(1, 1);
  const auto mean = call.result<float>(0, 1), variance = call.result<float>(1, 1);
  const int64_t channels = mean.dims[0], images = counted.dims[0];
  jaxinfl::channel_moments(x.data, counted.data, images, x.size() / channels / images, channels, mean.data, variance.data);
}

void products(const Call& call) {
  const auto grad = call.argument<float>(0);
  const auto sum = call.result<float>(0, 1), product = call.result<float>(1, 1);
  const jaxinfl::Normalization norm = normalization(call, 1);
  jaxinfl::channel_products(norm, grad.data, grad.size() / norm.positions / norm.channels, sum.data, product.data);
}

// Blocks of work are taken by whichever thread is free. A task may start when all is done, and the call have returned: so it
// holds what it looks at, and touches the arrays only for a block that it got.
template <typename Work>
struct Blocks {
  explicit Blocks(Work work) : work(std::move(work)), left(this->work.num_blocks()) {}
  Work work;
  std::atomic<int64_t> next{0};
  int64_t left;
  std::mutex mutex;
  std::condition_variable finished;

  void take() {
    for (int64_t block; (block = next++) < work.num_blocks();) {
      work.compute(block);
      const std::lock_guard<std::mutex> lock(mutex);
      if (--left == 0) finished.notify_all();
    }
  }
};

// All blocks of the work, on the threads that XLA has; returned when they are done.
template <typename Work>
std::shared_ptr<Blocks<Work>> spread(const Call& call, Work work) {
  const auto blocks = std::make_shared<Blocks<Work>>(std::move(work));
  const int64_t helpers = std::min(call.num_threads(), blocks->work.num_blocks()) - 1;
  for (int64_t helper = 0; helper < helpers; ++helper) call.schedule([blocks] { blocks->take(); });
  blocks->take();
  std::unique_lock<std::mutex> lock(blocks->mutex);
  blocks->finished.wait(lock, [&] { return blocks->left == 0; });
  return blocks;
}

// Asks for large pages under memory that was just allocated: 160 MB in pages of 4 KB take 0.06 s to be met for the first
// time, as long as half of the counts that fill them.
void use_large_pages(void* memory, size_t bytes) {
#if defined(MADV_HUGEPAGE)
  constexpr uintptr_t page = 2 << 20;
  const uintptr_t begin = ((uintptr_t)memory + page - 1) / page * page, end = ((uintptr_t)memory + bytes) / page * page;
  if (begin < end) madvise((void*)begin, end - begin, MADV_HUGEPAGE);  // a hint: refused, nothing is lost
#endif
}

jaxinfl::JointCounts joint(const Array<const bool>& left, const Array<const bool>& right) {
  return jaxinfl::JointCounts(left.data, left.dims[1], right.data, right.dims[1], left.dims[0]);
}

void joint_counts(const Call& call) {
  const auto left = call.argument<bool>(0, 2), right = call.argument<bool>(1, 2);
  const auto out = call.result<int32_t>(0, 2);
  use_large_pages(out.data, out.size() * sizeof(int32_t));
  spread(call, jaxinfl::StoredCounts{joint(left, right), out.data});
}

template <typename A, typename B>
void overlap(const Call& call) {
  const auto a = call.argument<A>(0, 2), limits_a = call.argument<A>(2, 2);
  const auto b = call.argument<B>(1, 2), limits_b = call.argument<B>(3, 2);
  const auto out = call.result<int64_t>(0, 2);
  const jaxinfl::Estimate<A> one = {a.data, limits_a.data, limits_a.dims[0]};
  const jaxinfl::Estimate<B> other = {b.data, limits_b.data, limits_b.dims[0]};
  spread(call, jaxinfl::OverlapCounts<A, B>(one, other, a.dims[0], a.dims[1], limits_a.dims[1]))->work.add_up(out.data);
}

// Masks, scores, numbers of models with a training example and right on a test example, and limits, from the first argument on.
jaxinfl::Population population(const Call& call, int64_t first) {
  const auto masks = call.argument<bool>(first, 2), score = call.argument<bool>(first + 1, 2);
  const auto num_in = call.argument<int32_t>(first + 2, 1), num_right = call.argument<int32_t>(first + 3, 1);
  return {joint(masks, score), masks.dims[0], num_in.data, num_right.data, call.argument<int32_t>(first + 4, 2).data};
}

void overlap_of_models(const Call& call) {
  const int64_t num_limits = call.argument<int32_t>(4, 2).dims[1];
  const auto out = call.result<int64_t>(0, 2);
  spread(call, jaxinfl::OverlapOfModels(population(call, 0), population(call, 5), num_limits))->work.add_up(out.data);
}

void random_order(const Call& call) {
  const auto included = call.argument<bool>(1, 1);
  const auto order = call.result<int32_t>(0, 1).data;
  jaxinfl::random_order(call.argument<uint32_t>(0, 1).data, included.data, included.size(), order);
}

}  // namespace

// The function comes last: its template arguments may hold commas.
#define JAXINFL_EXPORT(name, ...) \
  extern "C" XLA_FFI_Error* jaxinfl_##name(XLA_FFI_CallFrame* frame) { return jaxinfl::handler<__VA_ARGS__>(frame); }

JAXINFL_EXPORT(attention, attention)
JAXINFL_EXPORT(attention_grad, attention_grad)
JAXINFL_EXPORT(conv_forward, forward)
JAXINFL_EXPORT(conv_forward_moments, forward_moments)
JAXINFL_EXPORT(conv_forward_bias, forward_bias<false>)
JAXINFL_EXPORT(conv_forward_bias_relu, forward_bias<true>)
JAXINFL_EXPORT(conv_input_grad, input_grad)
JAXINFL_EXPORT(conv_kernel_grad, kernel_grad)
JAXINFL_EXPORT(dense_kernel_grad, dense_kernel_grad)
JAXINFL_EXPORT(channel_moments, moments)
JAXINFL_EXPORT(channel_products, products)
JAXINFL_EXPORT(layer_norm, layer_norm)
JAXINFL_EXPORT(layer_norm_grad, layer_norm_grad)
JAXINFL_EXPORT(joint_counts, joint_counts)
JAXINFL_EXPORT(overlap_of_models, overlap_of_models)
JAXINFL_EXPORT(overlap_int32_int32, overlap<int32_t, int32_t>)
JAXINFL_EXPORT(overlap_int32_float32, overlap<int32_t, float>)
JAXINFL_EXPORT(overlap_float32_int32, overlap<float, int32_t>)
JAXINFL_EXPORT(overlap_float32_float32, overlap<float, float>)
JAXINFL_EXPORT(random_order, random_order)
