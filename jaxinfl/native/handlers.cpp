// What XLA calls: the kernels as foreign functions of its CPU backend.

#include "conv.h"
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
