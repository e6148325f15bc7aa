// Matrix products whose left factor is read where it lies, by tables of offsets: the one kernel of all three passes of a
// convolution (Dukhan, "The indirect convolution algorithm", 2019). No patch matrix is ever written.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
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

// How sums begin and end.
struct Sums {
  const float* begin = nullptr;  // of each column of the panel; without, at 0
  bool add = false;              // to the result that is there
  bool cut = false;              // what is below zero becomes zero
};

// A number in all lanes, or two that lie side by side in all pairs of lanes; as integers, because bits must not change.
template <bool paired>
Vector broadcast(const float* numbers) {
  using Bits = std::conditional_t<paired, int64_t, int32_t>;
  typedef Bits Integers __attribute__((vector_size(sizeof(Vector))));
  Bits bits;
  std::memcpy(&bits, numbers, sizeof(bits));
  return (Vector)(Integers{} | bits);
}

template <int... I>
Vector sums_of_pairs(Vector first, Vector second, std::integer_sequence<int, I...>) {
#if defined(__clang__)
  return __builtin_shufflevector(first, second, 2 * I...) + __builtin_shufflevector(first, second, 2 * I + 1 ...);
#else
  typedef int32_t Indices __attribute__((vector_size(sizeof(Vector))));
  return __builtin_shuffle(first, second, Indices{2 * I...}) + __builtin_shuffle(first, second, Indices{2 * I + 1 ...});
#endif
}

// M rows by V vectors of the result, summed in registers. Every sum runs over the terms in their order, whatever
// M is: a result does not depend on which rows are worked on together.
//
// In pairs, a term stands for two that lie side by side on the left, and a vector of the right factor has both numbers of
// a column side by side, so that the columns of one vector fill two. With one each product needs a number loaded for it
// alone: the gradient of 8x8 images of 16 channels took a third longer (AVX-512).
template <int M, int V, bool paired>
void tile(const float* left, const Row* rows, const float* right, const Term* terms, int64_t depth, float* result,
          int64_t width, Sums ends) {
  Vector sum[M][V];
  const float* from[M];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
    from[m] = left + rows[m].left;
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) sum[m][v] = ends.begin ? ((const Unaligned*)ends.begin)[v] : Unaligned{};
  }
  for (int64_t k = 0; k < depth; ++k) {
    const int64_t offset = terms[k].left;
    const Unaligned* factor = (const Unaligned*)(right + terms[k].right);
    Vector loaded[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) loaded[v] = factor[v];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      const Vector number = broadcast<paired>(from[m] + offset);
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) sum[m][v] += number * loaded[v];
    }
  }
  constexpr int W = paired ? V / 2 : V;
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
    Vector total[W];
#pragma GCC unroll 2
    for (int w = 0; w < W; ++w) {
      if constexpr (paired)
        total[w] = sums_of_pairs(sum[m][2 * w], sum[m][2 * w + 1], std::make_integer_sequence<int, kLanes>{});
      else
        total[w] = sum[m][w];
      if (ends.cut) total[w] = total[w] < 0 ? Vector{} : total[w];  // what is not a number stays
    }
    float* to = result + rows[m].result;
    if (width == W * kLanes) {
#pragma GCC unroll 2
      for (int w = 0; w < W; ++w) {
        Unaligned* target = (Unaligned*)(to + w * kLanes);
        *target = ends.add ? *target + total[w] : total[w];
      }
    } else {
      float numbers[W * kLanes];
      std::memcpy(numbers, total, sizeof(numbers));
      for (int64_t i = 0; i < width; ++i) to[i] = ends.add ? to[i] + numbers[i] : numbers[i];
    }
  }
}

using Tile = void (*)(const float*, const Row*, const float*, const Term*, int64_t, float*, int64_t, Sums);

// The tiles of 1 to kRows rows.
template <int V, bool paired, int... M>
const Tile* tiles(std::integer_sequence<int, M...>) {
  static constexpr Tile of_rows[] = {tile<M + 1, V, paired>...};
  return of_rows;
}

// One panel: result[r][j] (+)= sum over k of left[rows[r].left + terms[k].left] * right[terms[k].right + j], j < width.
// Each row of the panel is readable for kPanel numbers, or kLanes if `width` is not above them. `paired`: see `tile`, for
// widths up to kLanes.
inline void multiply(const float* left, const Row* rows, int64_t num_rows, const float* right, bool paired, const Term* terms,
                     int64_t depth, float* result, int64_t width, Sums ends) {
  constexpr auto counts = std::make_integer_sequence<int, kRows>{};
  const Tile* of_rows = paired            ? tiles<2, true>(counts)
                        : width <= kLanes ? tiles<1, false>(counts)
                                          : tiles<2, false>(counts);
  const int64_t blocks = (num_rows + kRows - 1) / kRows;
  for (int64_t block = 0, first = 0; block < blocks; ++block) {
    // Blocks of nearly equal size: 7 rows as 4 and 3, not as 6 and 1.
    const int64_t count = (num_rows - first + blocks - block - 1) / (blocks - block);
    of_rows[count - 1](left, rows + first, right, terms, depth, result, width, ends);
    first += count;
  }
}

}  // namespace jaxinfl
