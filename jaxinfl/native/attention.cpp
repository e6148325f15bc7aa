// One head of one sequence at a time: its scores, [length, length], stay in the cache, and products of them are those of
// product.h. XLA writes the scores of all sequences to memory several times over, and copies each factor of its batched
// products into another order: 64 sequences of 64 places, 4 heads of 16, take it 3.4 to 5 ms forward and backward, and these
// functions 2.1 (one core of an AMD EPYC, AVX-512).

#include "attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "product.h"
#include "transpose.h"

namespace jaxinfl {
namespace {

int64_t round_up(int64_t count, int64_t to) { return (count + to - 1) / to * to; }

typedef int32_t Integers __attribute__((vector_size(sizeof(Vector))));

// e^x of numbers up to 0, to 2 units in the last place, as in Cephes; 0 below -87, where float32 has no normal numbers.
inline Vector power(Vector x) {
  constexpr float round = 12582912.0f;  // 1.5 * 2^23: what is added to it loses its fraction
  const Vector shifted = x * 1.44269504f + round, whole = shifted - round;
  const Vector rest = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
  Vector sum = rest * 1.9875691500e-4f + 1.3981999507e-3f;
  sum = sum * rest + 8.3334519073e-3f;
  sum = sum * rest + 4.1665795894e-2f;
  sum = sum * rest + 1.6666665459e-1f;
  sum = sum * rest + 5.0000001201e-1f;
  sum = sum * rest * rest + rest + 1.0f;
  const Vector scale = (Vector)(((Integers)shifted << 23) + 0x3f800000);
  return x < -87.0f ? Vector{} : sum * scale;
}

inline Vector larger(Vector one, Vector other) { return one > other ? one : other; }

// The products and the softmax of heads of one size, and the tables of offsets that `multiply` takes.
class Head {
 public:
  explicit Head(const Heads& heads)
      : heads_(heads),
        columns_(round_up(heads.length, kLanes)),
        size_(round_up(heads.size, heads.size <= kLanes ? kLanes : kPanel)),
        rows_(heads.length),
        terms_(std::max(heads.length, heads.size)) {}

  // Buffers for rows [length, size], for their transpose and for scores [length, length]: rows are whole vectors, and what
  // fills them up is 0.
  Floats make_rows() const { return Floats(heads_.length * size_ + kPanel); }
  Floats make_columns() const { return Floats(heads_.size * columns_ + kPanel); }
  Floats make_scores() const { return Floats(heads_.length * columns_); }

  // Copies rows that lie `width` numbers apart.
  void take(const float* from, int64_t width, float scale, Floats& rows) const {
    float* to = rows.data();
    for (int64_t row = 0; row < heads_.length; ++row, from += width, to += size_) {
      int64_t i = 0;
      for (; i + kLanes <= heads_.size; i += kLanes) *(Vector*)(to + i) = *(const Unaligned*)(from + i) * scale;
      for (; i < heads_.size; ++i) to[i] = from[i] * scale;
    }
  }

  void take_transposed(const float* from, int64_t width, Floats& columns) const {
    transpose(columns.data(), columns_, from, width, heads_.length, heads_.size);
  }

  // scores = rows x columns
  void compare(const Floats& rows, const Floats& columns, Floats& scores) {
    for (int64_t i = 0; i < heads_.length; ++i) rows_[i] = {int32_t(i * size_), int32_t(i * columns_)};
    for (int64_t k = 0; k < heads_.size; ++k) terms_[k] = {int32_t(k), int32_t(k * columns_)};
    for (int64_t first = 0; first < columns_; first += kPanel)
      multiply(rows.data(), rows_.data(), heads_.length, columns.data() + first, false, terms_.data(), heads_.size,
               scores.data() + first, std::min(columns_ - first, kPanel), {});
  }

  // to [length, size] = scores x rows, or the transposed scores x rows; `to` has rows of `width` numbers.
  void mix(const Floats& scores, bool transposed, const Floats& rows, float* to, int64_t width) {
    const int64_t down = transposed ? 1 : columns_, across = transposed ? columns_ : 1;
    for (int64_t i = 0; i < heads_.length; ++i) {
      rows_[i] = {int32_t(i * down), int32_t(i * width)};
      terms_[i] = {int32_t(i * across), int32_t(i * size_)};
    }
    for (int64_t first = 0; first < heads_.size; first += kPanel)
      multiply(scores.data(), rows_.data(), heads_.length, rows.data() + first, false, terms_.data(), heads_.length, to + first,
               std::min(heads_.size - first, kPanel), {});
  }

  // Scores of what a place looks at become their softmax, and all others 0.
  void softmax(Floats& scores, float* largest, float* inverse) const {
    for (int64_t i = 0; i < heads_.length; ++i) {
      Vector* row = (Vector*)(scores.data() + i * columns_);
      const int64_t vectors = hide(row, i);
      Vector high = row[0];
      for (int64_t v = 1; v < vectors; ++v) high = larger(row[v], high);
      largest[i] = across(high, larger);
      Vector total = {};
      for (int64_t v = 0; v < vectors; ++v) total += row[v] = power(row[v] - largest[i]);
      inverse[i] = 1 / across(total, add);
      for (int64_t v = 0; v < vectors; ++v) row[v] *= inverse[i];
    }
  }

  // The same softmax, from what it gave back.
  void softmax_again(Floats& scores, const float* largest, const float* inverse) const {
    for (int64_t i = 0; i < heads_.length; ++i) {
      Vector* row = (Vector*)(scores.data() + i * columns_);
      const int64_t vectors = hide(row, i);
      for (int64_t v = 0; v < vectors; ++v) row[v] = power(row[v] - largest[i]) * inverse[i];
    }
  }

  // The gradient of the scores takes the place of that of the softmax.
  void softmax_grad(const Floats& softmax, Floats& grad) const {
    for (int64_t i = 0; i < heads_.length; ++i) {
      const Vector* row = (const Vector*)(softmax.data() + i * columns_);
      Vector* own = (Vector*)(grad.data() + i * columns_);
      Vector total = {};
      for (int64_t v = 0; v < columns_ / kLanes; ++v) total += row[v] * own[v];
      const float mean = across(total, add);
      for (int64_t v = 0; v < columns_ / kLanes; ++v) own[v] = row[v] * (own[v] - mean);
    }
  }

 private:
  // Puts minus infinity where place i does not look, up to the end of a vector, and 0 behind it; the vectors up to there.
  int64_t hide(Vector* row, int64_t i) const {
    const int64_t seen = heads_.causal ? i + 1 : heads_.length, vectors = (seen + kLanes - 1) / kLanes;
    Integers lane;
    for (int l = 0; l < kLanes; ++l) lane[l] = l;
    const Vector hidden = Vector{} - std::numeric_limits<float>::infinity();
    row[vectors - 1] = lane < int32_t(seen - (vectors - 1) * kLanes) ? row[vectors - 1] : hidden;
    for (int64_t v = vectors; v < columns_ / kLanes; ++v) row[v] = Vector{};
    return vectors;
  }

  const Heads heads_;
  const int64_t columns_, size_;  // numbers of a row of scores and of a place, in whole vectors
  std::vector<Row> rows_;
  std::vector<Term> terms_;
};

// body(offset in packed, offset in the result, number of the first row) for all heads of all sequences.
template <typename Body>
void for_each_head(const Heads& heads, Body body) {
  const int64_t sequence_size = heads.length * heads.width();
  for (int64_t sequence = 0; sequence < heads.sequences; ++sequence)
    for (int64_t head = 0; head < heads.heads; ++head) {
      const int64_t within = head * heads.size, first = sequence * sequence_size;
      body(3 * first + within, first + within, (sequence * heads.heads + head) * heads.length);
    }
}

float scale_of(const Heads& heads) { return 1 / std::sqrt(float(heads.size)); }

}  // namespace

void attention(const Heads& heads, const float* packed, float* out, float* largest, float* inverse) {
  Head head(heads);
  const int64_t width = heads.width();
  Floats queries = head.make_rows(), values = head.make_rows(), keys = head.make_columns(), scores = head.make_scores();
  for_each_head(heads, [&](int64_t from, int64_t to, int64_t row) {
    head.take(packed + from, 3 * width, scale_of(heads), queries);
    head.take_transposed(packed + from + width, 3 * width, keys);
    head.take(packed + from + 2 * width, 3 * width, 1, values);
    head.compare(queries, keys, scores);
    head.softmax(scores, largest + row, inverse + row);
    head.mix(scores, false, values, out + to, width);
  });
}

void attention_grad(const Heads& heads, const float* packed, const float* largest, const float* inverse, const float* grad,
                    float* packed_grad) {
  Head head(heads);
  const int64_t width = heads.width();
  Floats queries = head.make_rows(), keys = head.make_rows(), grads = head.make_rows();
  Floats key_columns = head.make_columns(), value_columns = head.make_columns();
  Floats scores = head.make_scores(), score_grads = head.make_scores();
  for_each_head(heads, [&](int64_t from, int64_t to, int64_t row) {
    head.take(packed + from, 3 * width, scale_of(heads), queries);
    head.take_transposed(packed + from + width, 3 * width, key_columns);
    head.take_transposed(packed + from + 2 * width, 3 * width, value_columns);
    head.take(grad + to, width, 1, grads);
    head.compare(queries, key_columns, scores);
    head.softmax_again(scores, largest + row, inverse + row);
    head.mix(scores, true, grads, packed_grad + from + 2 * width, 3 * width);
    head.compare(grads, value_columns, score_grads);
    head.softmax_grad(scores, score_grads);
    head.mix(score_grads, true, queries, packed_grad + from + width, 3 * width);
    head.take(packed + from + width, 3 * width, scale_of(heads), keys);
    head.mix(score_grads, false, keys, packed_grad + from, 3 * width);
  });
}

}  // namespace jaxinfl
