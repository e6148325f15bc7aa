// Pairs that reach thresholds in two estimates: how many do in both, and how many in one or both.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "counts.h"

namespace jaxinfl {

// One estimate of `rows` x `columns` pairs, with the value that it has to have at each threshold, rising.
template <typename T>
struct Estimate {
  const T* values;
  const T* limits;
  int64_t limit_rows;  // 1, or a row of limits for each row of the estimate

  const T* limits_of(int64_t row, int64_t num_limits) const { return limits + (limit_rows == 1 ? 0 : row * num_limits); }
};

// The counts of two estimates, cut into blocks of rows that any thread may take in any order. A pair is left out where either
// estimate is undefined: NaN, or the lowest whole number.
template <typename A, typename B>
class OverlapCounts {
 public:
  OverlapCounts(Estimate<A> a, Estimate<B> b, int64_t rows, int64_t columns, int64_t num_limits)
      : a_(a), b_(b), rows_(rows), columns_(columns), num_limits_(num_limits), counts_(num_blocks() * 2 * num_limits, 0) {}

  int64_t num_blocks() const { return (rows_ + kRows - 1) / kRows; }
  void compute(int64_t block);
  // counts[t] pairs in both and counts[num_limits + t] in one or both, all written.
  void add_up(int64_t* counts) const;

 private:
  static constexpr int64_t kRows = 8;

  Estimate<A> a_;
  Estimate<B> b_;
  int64_t rows_, columns_, num_limits_;
  std::vector<int64_t> counts_;  // of each block
};

// Models whose influence is compared by whole numbers: of `models`, num_in hold a training example, num_right are right on a test
// example, and `counts` both. Then the influence is that of the numerator models * counts - num_in * num_right.
struct Population {
  JointCounts counts;
  int64_t models;
  const int32_t* num_in;     // [rows]
  const int32_t* num_right;  // [columns]
  const int32_t* limits;     // [rows, limits], of the numerators, rising
};

// The counts of two populations, cut into blocks of columns that any thread may take in any order. What joint counts there are
// stays in the level 1 cache. Training examples that all models of a population hold, or none, are left out.
class OverlapOfModels {
 public:
  OverlapOfModels(Population a, Population b, int64_t num_limits);

  int64_t num_blocks() const { return a_.counts.num_blocks(); }
  void compute(int64_t block);
  // As that of `OverlapCounts`.
  void add_up(int64_t* counts) const;

 private:
  template <typename T>
  void compute(int64_t block, const T* limits_a, const T* limits_b);

  Population a_, b_;
  int64_t num_limits_;
  std::vector<int16_t> narrow_a_, narrow_b_;  // the limits, where all numerators fit 16 bits: of up to 361 models
  std::vector<int64_t> counts_;               // of each block
};

}  // namespace jaxinfl
