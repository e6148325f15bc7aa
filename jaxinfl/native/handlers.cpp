// What XLA calls: the kernels as foreign functions of its CPU backend.

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>

#include "conv.h"
#include "counts.h"
#include "sums.h"
#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;
using Array = ffi::Buffer<ffi::F32, 4>;
using Result = ffi::ResultBuffer<ffi::F32, 4>;

jaxinfl::Shape shape_of(ffi::Span<const int64_t> images, ffi::Span<const int64_t> kernel, ffi::Span<const int64_t> out,
                        ffi::Span<const int64_t> strides, ffi::Span<const int64_t> padding) {
  return {images[0], images[1], images[2], images[3],  kernel[0],  kernel[1], kernel[3],
          out[1],    out[2],    strides[0], strides[1], padding[0], padding[1]};
}

ffi::Error forward(Array images, Array kernel, Result out, ffi::Span<const int64_t> strides,
                   ffi::Span<const int64_t> padding) {
  jaxinfl::conv_forward(shape_of(images.dimensions(), kernel.dimensions(), out->dimensions(), strides, padding),
                        images.typed_data(), kernel.typed_data(), out->typed_data());
  return ffi::Error::Success();
}

ffi::Error input_grad(Array out_grad, Array kernel, Result images_grad, ffi::Span<const int64_t> strides,
                      ffi::Span<const int64_t> padding) {
  jaxinfl::conv_input_grad(
      shape_of(images_grad->dimensions(), kernel.dimensions(), out_grad.dimensions(), strides, padding),
      out_grad.typed_data(), kernel.typed_data(), images_grad->typed_data());
  return ffi::Error::Success();
}

ffi::Error kernel_grad(Array images, Array out_grad, Result result, ffi::Span<const int64_t> strides,
                       ffi::Span<const int64_t> padding) {
  jaxinfl::conv_kernel_grad(
      shape_of(images.dimensions(), result->dimensions(), out_grad.dimensions(), strides, padding),
      images.typed_data(), out_grad.typed_data(), result->typed_data());
  return ffi::Error::Success();
}

using Flat = ffi::Buffer<ffi::F32>;
using Vector = ffi::Buffer<ffi::F32, 1>;
using Counted = ffi::Buffer<ffi::PRED, 1>;

ffi::Error sums(Flat x, ffi::Result<Vector> out) {
  const int64_t channels = out->dimensions()[0];
  jaxinfl::channel_sums(x.typed_data(), x.element_count() / channels, channels, out->typed_data());
  return ffi::Error::Success();
}

ffi::Error moments(Flat x, Counted counted, ffi::Result<Vector> mean, ffi::Result<Vector> variance) {
  const int64_t channels = mean->dimensions()[0], images = counted.dimensions()[0];
  jaxinfl::channel_moments(x.typed_data(), counted.typed_data(), images, x.element_count() / channels / images, channels,
                           mean->typed_data(), variance->typed_data());
  return ffi::Error::Success();
}

ffi::Error products(Flat grad, Flat x, Vector mean, ffi::Result<Vector> sum, ffi::Result<Vector> product) {
  const int64_t channels = mean.dimensions()[0];
  jaxinfl::channel_products(grad.typed_data(), x.typed_data(), mean.typed_data(), x.element_count() / channels, channels,
                            sum->typed_data(), product->typed_data());
  return ffi::Error::Success();
}

using Flags = ffi::Buffer<ffi::PRED, 2>;
using Counts = ffi::Buffer<ffi::S32, 2>;

// Blocks are taken by whichever thread is free. A task may start when all is done, and the call have returned: so it
// holds what it looks at, and touches the arrays only for a block that it got.
struct Blocks {
  explicit Blocks(jaxinfl::JointCounts product) : product(std::move(product)), left(this->product.num_blocks()) {}
  const jaxinfl::JointCounts product;
  std::atomic<int64_t> next{0};
  int64_t left;
  std::mutex mutex;
  std::condition_variable finished;

  void work() {
    for (int64_t block; (block = next++) < product.num_blocks();) {
      product.compute(block);
      const std::lock_guard<std::mutex> lock(mutex);
      if (--left == 0) finished.notify_all();
    }
  }
};

// Asks for large pages under memory that was just allocated: 160 MB in pages of 4 KB take 0.06 s to be met for the first
// time, as long as half of the counts that fill them.
void use_large_pages(void* memory, size_t bytes) {
#if defined(MADV_HUGEPAGE)
  constexpr uintptr_t page = 2 << 20;
  const uintptr_t begin = ((uintptr_t)memory + page - 1) / page * page, end = ((uintptr_t)memory + bytes) / page * page;
  if (begin < end) madvise((void*)begin, end - begin, MADV_HUGEPAGE);  // a hint: refused, nothing is lost
#endif
}

ffi::Error joint_counts(ffi::ThreadPool threads, Flags left, Flags right, ffi::Result<Counts> out) {
  const auto rows = left.dimensions(), columns = right.dimensions();
  use_large_pages(out->untyped_data(), out->size_bytes());
  const auto blocks = std::make_shared<Blocks>(jaxinfl::JointCounts(left.typed_data(), rows[1], right.typed_data(),
                                                                    columns[1], rows[0], out->typed_data()));
  const int64_t helpers = std::min(threads.num_threads(), blocks->product.num_blocks()) - 1;
  for (int64_t helper = 0; helper < helpers; ++helper) threads.Schedule([blocks] { blocks->work(); });
  blocks->work();
  std::unique_lock<std::mutex> lock(blocks->mutex);
  blocks->finished.wait(lock, [&] { return blocks->left == 0; });
  return ffi::Error::Success();
}

auto binding() {
  return ffi::Ffi::Bind()
      .Arg<Array>()
      .Arg<Array>()
      .Ret<Array>()
      .Attr<ffi::Span<const int64_t>>("strides")
      .Attr<ffi::Span<const int64_t>>("padding");
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxinfl_conv_forward, forward, binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxinfl_conv_input_grad, input_grad, binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxinfl_conv_kernel_grad, kernel_grad, binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxinfl_channel_sums, sums, ffi::Ffi::Bind().Arg<Flat>().Ret<Vector>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxinfl_channel_moments, moments,
                              ffi::Ffi::Bind().Arg<Flat>().Arg<Counted>().Ret<Vector>().Ret<Vector>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxinfl_channel_products, products,
                              ffi::Ffi::Bind().Arg<Flat>().Arg<Flat>().Arg<Vector>().Ret<Vector>().Ret<Vector>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxinfl_joint_counts, joint_counts,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Flags>()
                                  .Arg<Flags>()
                                  .Ret<Counts>());
