// The tiles of a product (product.h), compiled in two files side by side: they are what a first start waits for.
#pragma once

#include <cstring>
#include <type_traits>
#include <utility>

#include "product.h"

namespace jaxinfl {

// Registers decide the tile: kRows x 2 vectors of sums, 2 vectors of the right factor, 1 broadcast number.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kRows = 12;
#else
constexpr int kRows = 6;
#endif

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
  return shuffle(first, second, std::integer_sequence<int, 2 * I...>{}) +
         shuffle(first, second, std::integer_sequence<int, 2 * I + 1 ...>{});
}

// The end of a sum, as `Sums` says; what is not a number stays.
inline Vector finish(Vector sum, Sums ends) {
  if (ends.cut) sum = sum < 0 ? Vector{} : sum;
  return sum;
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
      total[w] = finish(total[w], ends);
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

// The tiles for two vectors of sums in pairs.
const Tile* paired_tiles();

}  // namespace jaxinfl
