// The three passes of a convolution as indirect products (product.h).
//
// Padding costs nothing: output positions whose windows stick out of the image in the same way form a group, and the
// terms of a group are the taps inside the image only. For 4x4 images, stride 2 and padding 1 that leaves 25 of 36
// products. Nothing is copied but the right factor, packed into panels of kPanel columns.

#include "conv.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "bias.h"
#include "product.h"
#include "transpose.h"

namespace jaxinfl {
namespace {

constexpr int64_t kCachedFloats = 32 * 1024;  // of images read or written at once: 128 KB, a part of a level 2 cache
constexpr int64_t kCachedRows = 128;          // of a panel of gradients: 8 or 16 KB, beside windows in a level 1 cache
constexpr int64_t kFewInputs = 8;             // below, windows are so short that a padded copy of the images pays
constexpr int64_t kFewUses = 64;              // rows of a product below which packing its right factor does not pay

// Along one axis: positions that meet the same taps. Position `index[i]` and tap `taps[t]` meet in the source at
// `base[i] + step[t]`.
struct Group {
  std::vector<int64_t> index, base, taps, step;
};

// `source(position, tap)` is where the two meet, or negative for nowhere.
template <typename Source>
std::vector<Group> groups(int64_t positions, int64_t taps, Source source) {
  std::vector<Group> all;
  for (int64_t position = 0; position < positions; ++position) {
    Group group;
    for (int64_t tap = 0; tap < taps; ++tap)
      if (source(position, tap) >= 0) group.taps.push_back(tap);
    const int64_t base = group.taps.empty() ? 0 : source(position, group.taps[0]);
    for (int64_t tap : group.taps) group.step.push_back(source(position, tap) - base);
    auto same = std::find_if(all.begin(), all.end(), [&](const Group& other) { return other.taps == group.taps; });
    if (same == all.end()) same = all.insert(all.end(), group);
    same->index.push_back(position);
    same->base.push_back(base);
  }
  return all;
}

// Where (image, y, x, channel) lies, in floats; `row` is from one y to the next, before `scale`.
struct Layout {
  int64_t images, height, row, channels, scale;
  int64_t image() const { return height * row * scale; }
  int64_t at(int64_t i, int64_t y, int64_t x, int64_t c) const {
    return ((i * height + y) * row + x * channels + c) * scale;
  }
};

// Tables of one indirect product.
struct Product {
  std::vector<Row> rows;
  std::vector<Term> terms;
};

// Rows are (image, position, channel) as `result` lies, terms are (image, tap, channel) as `right` lies, or `together` of
// these channels; `left` is the source in which they meet.
Product make_product(const Group& y, const Group& x, const Layout& left, const Layout& result, const Layout& right,
                     int64_t together) {
  Product product;
  product.rows.reserve(result.images * y.index.size() * x.index.size() * result.channels);
  for (int64_t image = 0; image < result.images; ++image)
    for (size_t i = 0; i < y.index.size(); ++i)
      for (size_t j = 0; j < x.index.size(); ++j) {
        const int64_t from = left.at(image, y.base[i], x.base[j], 0);
        const int64_t to = result.at(image, y.index[i], x.index[j], 0);
        for (int64_t c = 0; c < result.channels; ++c)
          product.rows.push_back({int32_t(from + c * left.scale), int32_t(to + c * result.scale)});
      }
  product.terms.reserve(right.images * y.taps.size() * x.taps.size() * right.channels / together);
  for (int64_t image = 0; image < right.images; ++image)
    for (size_t i = 0; i < y.taps.size(); ++i)
      for (size_t j = 0; j < x.taps.size(); ++j) {
        const int64_t from = left.at(image, y.step[i], x.step[j], 0);
        const int64_t with = right.at(image, y.taps[i], x.taps[j], 0);
        for (int64_t c = 0; c < right.channels; c += together)
          product.terms.push_back({int32_t(from + c * left.scale), int32_t(with + c * right.scale)});
      }
  return product;
}

std::vector<Product> make_products(const std::vector<Group>& across_y, const std::vector<Group>& across_x,
                                   const Layout& left, const Layout& result, const Layout& right,
                                   int64_t together = 1) {
  std::vector<Product> products;
  for (const Group& y : across_y)
    for (const Group& x : across_x) products.push_back(make_product(y, x, left, result, right, together));
  return products;
}

int64_t panel_width(int64_t columns) { return columns <= kLanes ? kLanes : kPanel; }
int64_t num_panels(int64_t columns) { return (columns + panel_width(columns) - 1) / panel_width(columns); }

// The tables of all products of one pass, which goes through a part of the images at a time.
struct Indirection {
  int64_t images;  // of one part
  std::vector<Product> products;
};

// The tables of a pass, made at its first call for a shape and kept: making them takes up to a third as long as using them.
// There are as many as layers in the programs of a process; they are never dropped.
template <typename Make>
const Indirection& find_indirection(int pass, const Shape& s, int64_t part, Make make) {
  static std::mutex mutex;
  static std::map<std::array<int64_t, 15>, Indirection> known;
  const std::array<int64_t, 15> key = {pass,       part,        s.images,    s.height,   s.width,
                                       s.inputs,   s.outputs,   s.stride_y,  s.stride_x, s.top,
                                       s.left,     s.out_width, s.out_height, s.kernel_height, s.kernel_width};
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = known.find(key);
  return found != known.end() ? found->second : known.emplace(key, make()).first->second;
}

// The right factor of windows, [depth, columns], and a row more for what sums begin with.
class Panels {
 public:
  // `channels`: terms that lie side by side on the left.
  Panels(int64_t depth, int64_t columns, int64_t channels, Floats& memory)
      : columns(columns), width(panel_width(columns)), paired(columns <= kLanes && channels % 2 == 0), depth_(depth),
        floats_((depth + 2) * width), memory_(memory) {
    memory_.assign(num_panels(columns) * floats_, 0.0f);
  }

  void set_row(int64_t k, const float* numbers) {
    if (paired)
      for (int64_t c = 0; c < columns; ++c) memory_[k / 2 * 2 * width + 2 * c + k % 2] = numbers[c];
    else
      for (int64_t p = 0; p < num_panels(columns); ++p)
        copy(&memory_[p * floats_ + k * width], numbers + p * width, std::min(width, columns - p * width));
  }
  // `count` terms of all columns, from k on; those of a column lie side by side.
  void set_terms(int64_t k, int64_t count, const float* numbers) {
    if (paired)
      for (int64_t c = 0; c < columns; ++c)
        for (int64_t i = 0; i < count; i += 2)
          std::memcpy(&memory_[(k + i) * width + 2 * c], numbers + c * count + i, 2 * sizeof(float));
    else
      for (int64_t p = 0; p < num_panels(columns); ++p)
        transpose(&memory_[p * floats_ + k * width], width, numbers + p * width * count, count,
                  std::min(width, columns - p * width), count);
  }
  const float* panel(int64_t p) const { return &memory_[p * floats_]; }
  // The row at k = depth.
  const float* begin(int64_t p) const { return panel(p) + depth_ * width; }
  // Terms that go through a product as one.
  int64_t together() const { return paired ? 2 : 1; }

  const int64_t columns, width;
  const bool paired;

 private:
  const int64_t depth_, floats_;
  Floats& memory_;
};

// Windows into a source that lies as `left` says, times the kernel's panels.
Indirection index_windows(const std::vector<Group>& across_y, const std::vector<Group>& across_x, Layout left,
                          const Layout& right, Layout result, int64_t together) {
  const int64_t image = std::max(left.image(), result.image());
  left.images = result.images = std::clamp<int64_t>(kCachedFloats / image, 1, left.images);
  return {left.images, make_products(across_y, across_x, left, result, right, together)};
}

// Multiplies as such tables say. `read(first, count)` returns where so many images of the source lie, `result` has images of
// `result_image` floats, and `written(first, count)` is called for the images that are done.
template <typename Read, typename Written>
void multiply_windows(const Indirection& tables, int64_t images, Read read, const Panels& panels, bool begin, bool cut,
                      float* result, int64_t result_image, Written written) {
  for (int64_t first = 0; first < images; first += tables.images) {
    const int64_t count = std::min(tables.images, images - first);
    const float* source = read(first, count);
    for (int64_t p = 0; p < num_panels(panels.columns); ++p) {
      const Sums ends = {begin ? panels.begin(p) : nullptr, false, cut};
      for (const Product& product : tables.products)
        multiply(source, product.rows.data(), product.rows.size() / tables.images * count, panels.panel(p), panels.paired,
                 product.terms.data(), product.terms.size(), result + first * result_image + p * panels.width,
                 std::min(panels.width, panels.columns - p * panels.width), ends);
    }
    written(first, count);
  }
}

// The images inside their zeros; `shape` becomes that of the result, without padding.
const float* pad(Shape& shape, const float* images, Floats& out) {
  Shape wide = shape;
  wide.height = (shape.out_height - 1) * shape.stride_y + shape.kernel_height;
  wide.width = (shape.out_width - 1) * shape.stride_x + shape.kernel_width;
  wide.top = wide.left = 0;
  out.assign(wide.images * wide.height * wide.width * wide.inputs, 0.0f);
  const int64_t rows = std::min(shape.height, wide.height - shape.top);
  const int64_t columns = std::min(shape.width, wide.width - shape.left);
  for (int64_t image = 0; image < shape.images; ++image)
    for (int64_t y = 0; y < rows; ++y)
      copy(out.data() + ((image * wide.height + y + shape.top) * wide.width + shape.left) * wide.inputs,
           images + (image * shape.height + y) * shape.width * shape.inputs, columns * shape.inputs);
  shape = wide;
  return out.data();
}

// Floats from one row of the images to the next in which rows do not meet in the same sets of the level 1 cache: rows
// read one after another that are a multiple of 4 KB apart throw each other out of it (16x16 images of 64 channels, kernel
// gradient: 86 GFLOP/s in place of 77).
int64_t row_pitch(const Shape& s) {
  const int64_t floats = s.width * s.inputs;
  return s.stride_y * floats % 1024 == 0 ? floats + 16 : floats;
}

const float* spread_rows(const float* from, int64_t rows, int64_t floats, int64_t pitch, Floats& out) {
  out.resize(rows * pitch);
  for (int64_t row = 0; row < rows; ++row) copy(out.data() + row * pitch, from + row * floats, floats);
  return out.data();
}

// Position of the image that a tap of an output position reads, or -1 in the padding.
int64_t read_by(int64_t output, int64_t tap, int64_t stride, int64_t padding, int64_t size) {
  const int64_t position = output * stride - padding + tap;
  return position < size ? position : -1;
}

// Position of the output to which a tap carries a position of the image, or -1.
int64_t carried_to(int64_t position, int64_t tap, int64_t stride, int64_t padding, int64_t outputs) {
  const int64_t spread = position + padding - tap;
  return spread >= 0 && spread % stride == 0 && spread / stride < outputs ? spread / stride : -1;
}

Floats& scratch(int number) {
  static thread_local Floats buffers[4];
  return buffers[number];
}

// The gradient of the convolution at `count` positions from `first` on, counted through all images.
const float* read(const OutGrad& out_grad, const Shape& s, int64_t first, int64_t count) {
  if (!out_grad.norm.x && !out_grad.relu) return out_grad.grad + first * s.outputs;
  Floats& computed = scratch(3);
  computed.resize(count * s.outputs);
  if (out_grad.relu)
    relu_grad(out_grad.relu + first * s.outputs, out_grad.grad + first * s.outputs, count * s.outputs, computed.data());
  else
    normalization_grad(out_grad.norm, out_grad.grad, out_grad.shift, out_grad.slope, first, count, computed.data());
  return computed.data();
}

// The convolution, with a bias unless that is null. `written(first, count)` is called for images of the result while they are
// in the cache.
template <typename Written>
void forward(Shape s, const float* images, const float* kernel, const float* bias, bool cut, float* out, Written written) {
  if (s.inputs < kFewInputs) images = pad(s, images, scratch(0));
  const int64_t depth = s.kernel_height * s.kernel_width * s.inputs;
  Panels panels(depth, s.outputs, s.inputs, scratch(1));
  for (int64_t k = 0; k < depth; ++k) panels.set_row(k, kernel + k * s.outputs);
  if (bias) panels.set_row(depth, bias);
  const Indirection& tables = find_indirection(0, s, 0, [&] {
    return index_windows(groups(s.out_height, s.kernel_height,
                                [&](int64_t o, int64_t k) { return read_by(o, k, s.stride_y, s.top, s.height); }),
                         groups(s.out_width, s.kernel_width,
                                [&](int64_t o, int64_t k) { return read_by(o, k, s.stride_x, s.left, s.width); }),
                         {s.images, s.height, s.width * s.inputs, s.inputs, 1},
                         {1, s.kernel_height, s.kernel_width * s.inputs, s.inputs, panels.width},
                         {s.images, s.out_height, s.out_width, 1, s.outputs}, panels.together());
  });
  const auto read = [&](int64_t first, int64_t) { return images + first * s.height * s.width * s.inputs; };
  multiply_windows(tables, s.images, read, panels, bias, cut, out, s.out_height * s.out_width * s.outputs, written);
}

void ignore(int64_t, int64_t) {}

}  // namespace

void conv_forward(Shape s, const float* images, const float* kernel, float* out) {
  forward(s, images, kernel, nullptr, false, out, ignore);
}

void conv_forward_bias(Shape s, const float* images, const float* kernel, const float* bias, bool cut, float* out) {
  forward(s, images, kernel, bias, cut, out, ignore);
}

void conv_forward_moments(Shape s, const float* images, const float* kernel, float* out, const bool* counted, float* mean,
                          float* variance) {
  const int64_t pixels = s.out_height * s.out_width;
  Moments moments(s.outputs, mean, variance);
  forward(s, images, kernel, nullptr, false, out, [&](int64_t first, int64_t count) {
    moments.add(out + first * pixels * s.outputs, counted + first, count, pixels);
  });
  moments.finish();
}

void conv_input_grad(Shape s, const OutGrad& out_grad, const float* kernel, float* images_grad) {
  const int64_t taps = s.kernel_height * s.kernel_width;
  Panels panels(taps * s.outputs, s.inputs, s.outputs, scratch(1));
  for (int64_t tap = 0; tap < taps; ++tap)
    panels.set_terms(tap * s.outputs, s.outputs, kernel + tap * s.inputs * s.outputs);
  const Indirection& tables = find_indirection(1, s, 0, [&] {
    return index_windows(groups(s.height, s.kernel_height,
                                [&](int64_t i, int64_t k) { return carried_to(i, k, s.stride_y, s.top, s.out_height); }),
                         groups(s.width, s.kernel_width,
                                [&](int64_t i, int64_t k) { return carried_to(i, k, s.stride_x, s.left, s.out_width); }),
                         {s.images, s.out_height, s.out_width * s.outputs, s.outputs, 1},
                         {1, s.kernel_height, s.kernel_width * s.outputs, s.outputs, panels.width},
                         {s.images, s.height, s.width, 1, s.inputs}, panels.together());
  });
  const int64_t pixels = s.out_height * s.out_width;
  const auto gradients = [&](int64_t first, int64_t count) { return read(out_grad, s, first * pixels, count * pixels); };
  multiply_windows(tables, s.images, gradients, panels, false, false, images_grad, s.height * s.width * s.inputs, ignore);
}

void conv_kernel_grad(Shape s, const float* images, const OutGrad& out_grad, float* kernel_grad, float* bias_grad) {
  if (s.inputs < kFewInputs) images = pad(s, images, scratch(0));
  const int64_t size = s.kernel_height * s.kernel_width * s.inputs, panel = panel_width(s.outputs);
  std::fill(kernel_grad, kernel_grad + size * s.outputs, 0.0f);
  if (bias_grad) std::fill(bias_grad, bias_grad + s.outputs, 0.0f);
  // Sums over as many positions as a panel of the level 1 cache holds: some images, or some rows of one.
  const int64_t pixels = s.out_height * s.out_width;
  const int64_t at_once = std::clamp<int64_t>(kCachedRows / pixels, 1, s.images);
  const int64_t rows_at_once = at_once > 1 ? s.out_height : std::clamp<int64_t>(kCachedRows / s.out_width, 1, s.out_height);
  const bool pack = s.outputs % panel || (size > kFewUses && s.outputs > panel);
  const int64_t pitch = pack ? panel : s.outputs;
  Floats& packed = scratch(1);
  packed.assign(pack ? at_once * rows_at_once * s.out_width * panel : 0, 0.0f);
  const int64_t floats = s.width * s.inputs, row = row_pitch(s);
  const auto index_rows = [&](int64_t top, int64_t rows) -> Indirection {
    const auto across_y = groups(s.kernel_height, rows, [&](int64_t k, int64_t o) {
      return read_by(top + o, k, s.stride_y, s.top, s.height);
    });
    const auto across_x = groups(s.kernel_width, s.out_width, [&](int64_t k, int64_t o) {
      return read_by(o, k, s.stride_x, s.left, s.width);
    });
    return {at_once, make_products(across_y, across_x, {at_once, s.height, row, s.inputs, 1},
                                   {1, s.kernel_height, s.kernel_width * s.inputs, s.inputs, s.outputs},
                                   {at_once, rows, s.out_width, 1, pitch})};
  };
  for (int64_t first = 0; first < s.images; first += at_once) {
    const int64_t count = std::min(at_once, s.images - first);
    const float* block = images + first * s.height * floats;
    if (row != floats) block = spread_rows(block, count * s.height, floats, row, scratch(2));
    for (int64_t top = 0; top < s.out_height; top += rows_at_once) {
      const int64_t rows = std::min(rows_at_once, s.out_height - top), positions = rows * s.out_width;
      const Indirection& tables = find_indirection(2, s, top, [&] { return index_rows(top, rows); });
      const float* gradients = read(out_grad, s, first * pixels + top * s.out_width, count * positions);
      if (bias_grad) add_channel_sums(gradients, count * positions, s.outputs, bias_grad);
      for (int64_t p = 0; p < num_panels(s.outputs); ++p) {
        const int64_t width = std::min(panel, s.outputs - p * panel);
        if (pack)
          for (int64_t i = 0; i < count * positions; ++i)
            copy(&packed[i * panel], gradients + i * s.outputs + p * panel, width);
        for (const Product& product : tables.products)
          multiply(block, product.rows.data(), product.rows.size(), pack ? packed.data() : gradients + p * panel, false,
                   product.terms.data(), product.terms.size() / at_once * count, kernel_grad + p * panel, width, {nullptr, true});
      }
    }
  }
}

}  // namespace jaxinfl
