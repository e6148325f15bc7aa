// Matrix products whose left factor is read where it lies, by tables of offsets: the one kernel of all three passes of a
// convolution (Dukhan, "The indirect convolution algorithm", 2019). No patch matrix is ever written.
#pragma once

#include <cstdint>

#include "vectors.h"

namespace jaxinfl {

constexpr int64_t kPanel = 2 * kLanes;  // columns of the right factor that are worked on together

// Where a row of the left factor and of the result begins.
struct Row {
  int32_t left, result;
};

// Where the two factors of one summand lie: the left one relative to its row, the right one in the panel.
struct Term {
  int32_t left, right;
};

// How sums begin and end.
struct Sums {
  const float* begin = nullptr;  // of each column of the panel; without, at 0
  bool add = false;              // to the result that is there
  bool cut = false;              // what is below zero becomes zero
};

// One panel: result[r][j] (+)= sum over k of left[rows[r].left + terms[k].left] * right[terms[k].right + j], j < width.
// Each row of the panel is readable for kPanel numbers, or kLanes if `width` is not above them. `paired`: see `tile`, for
// widths up to kLanes.
void multiply(const float* left, const Row* rows, int64_t num_rows, const float* right, bool paired, const Term* terms,
              int64_t depth, float* result, int64_t width, Sums ends);

}  // namespace jaxinfl
