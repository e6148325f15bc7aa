// Matrix products whose left factor is read where it lies, by tables of offsets: the one kernel of all three passes of a
// convolution (Dukhan, "The indirect convolution algorithm", 2019). No patch matrix is ever written.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "vectors.h"

namespace jaxinfl {

// Registers decide the tile: kRows x 2 vectors of sums, 2 vectors of the right factor, 1 broadcast number.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kRows = 12;
#else
constexpr int kRows = 6;
#endif
constexpr int64_t kPanel = 2 * kLanes;  // columns of the right factor that are worked on together

// Where a row of the left factor and of the result begins.
struct Row {
  int32_t left, result;
};

// Where the two factors of one summand lie: the left one relative to its row, the right one in the panel.
struct Term {
  int32_t left, right;
};

// M rows by V vectors of the result, summed in registers. Every sum runs over the terms in their order, whatever
// M is: a result does not depend on which rows are worked on together.
template <int M, int V>
void tile(const float* left, const Row* rows, const float* right, const Term* terms, int64_t depth, float* result,
          int64_t width, bool add) {
  Vector sum[M][V];
  const float* from[M];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
    from[m] = left + rows[m].left;
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) sum[m][v] = Vector{};
  }
  for (int64_t k = 0; k < depth; ++k) {
    const int64_t offset = terms[k].left;
    const Unaligned* factor = (const Unaligned*)(right + terms[k].right);
    Vector loaded[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) loaded[v] = factor[v];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      const float number = from[m][offset];
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) sum[m][v] += number * loaded[v];
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
    float* to = result + rows[m].result;
    if (width == V * kLanes) {
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) {
        Unaligned* target = (Unaligned*)(to + v * kLanes);
        *target = add ? *target + sum[m][v] : sum[m][v];
      }
    } else {
      float numbers[V * kLanes];
      std::memcpy(numbers, sum[m], sizeof(numbers));
      for (int64_t i = 0; i < width; ++i) to[i] = add ? to[i] + numbers[i] : numbers[i];
    }
  }
}

using Tile = void (*)(const float*, const Row*, const float*, const Term*, int64_t, float*, int64_t, bool);

// The tiles of 1 to kRows rows.
template <int V, int... M>
const Tile* tiles(std::integer_sequence<int, M...>) {
  static constexpr Tile of_rows[] = {tile<M + 1, V>...};
  return of_rows;
}

// One panel: result[r][j] (+)= sum over k of left[rows[r].left + terms[k].left] * right[terms[k].right + j], j < width.
// Each row of the panel is readable for kPanel numbers, or kLanes if `width` is not above them.
inline void multiply(const float* left, const Row* rows, int64_t num_rows, const float* right, const Term* terms,
                     int64_t depth, float* result, int64_t width, bool add) {
  constexpr auto counts = std::make_integer_sequence<int, kRows>{};
  const Tile* of_rows = width <= kLanes ? tiles<1>(counts) : tiles<2>(counts);
  const int64_t blocks = (num_rows + kRows - 1) / kRows;
  for (int64_t block = 0, first = 0; block < blocks; ++block) {
    // Blocks of nearly equal size: 7 rows as 4 and 3, not as 6 and 1.
    const int64_t count = (num_rows - first + blocks - block - 1) / (blocks - block);
    of_rows[count - 1](left, rows + first, right, terms, depth, result, width, add);
    first += count;
  }
}

}  // namespace jaxinfl
