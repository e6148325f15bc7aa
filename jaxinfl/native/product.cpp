#include "tiles.h"

namespace jaxinfl {
namespace {

constexpr int kFewTerms = 9;  // a window of 3x3 pixels of one channel
constexpr int kFewRows = 4;   // whose sums fit into the registers beside so many terms

// The columns of one vector, with the right factors of all terms in registers; sums in the order of `tile`. What a tile does
// before and after its terms takes as long as so few: 8x8 gray images to 16 channels took 17 us in place of 12 (AVX-512).
// Returns how many rows it did, a multiple of kFewRows.
int64_t multiply_few(const float* left, const Row* rows, int64_t num_rows, const float* right, const Term* terms,
                     float* result, Sums ends) {
  Vector factors[kFewTerms];
  int64_t offsets[kFewTerms];
#pragma GCC unroll 9
  for (int k = 0; k < kFewTerms; ++k) {
    factors[k] = *(const Unaligned*)(right + terms[k].right);
    offsets[k] = terms[k].left;
  }
  const Vector begin = ends.begin ? *(const Unaligned*)ends.begin : Unaligned{};
  const Row* const last = rows + num_rows / kFewRows * kFewRows;
  for (const Row* row = rows; row < last; row += kFewRows) {
    Vector sums[kFewRows];
    const float* from[kFewRows];
#pragma GCC unroll 4
    for (int m = 0; m < kFewRows; ++m) {
      sums[m] = begin;
      from[m] = left + row[m].left;
    }
#pragma GCC unroll 9
    for (int k = 0; k < kFewTerms; ++k)
#pragma GCC unroll 4
      for (int m = 0; m < kFewRows; ++m) sums[m] += broadcast<false>(from[m] + offsets[k]) * factors[k];
#pragma GCC unroll 4
    for (int m = 0; m < kFewRows; ++m) *(Unaligned*)(result + row[m].result) = finish(sums[m], ends);
  }
  return last - rows;
}

}  // namespace

void multiply(const float* left, const Row* rows, int64_t num_rows, const float* right, bool paired, const Term* terms,
              int64_t depth, float* result, int64_t width, Sums ends) {
  if (depth == kFewTerms && width == kLanes && !paired && !ends.add) {
    const int64_t done = multiply_few(left, rows, num_rows, right, terms, result, ends);
    rows += done;
    num_rows -= done;
  }
  constexpr auto counts = std::make_integer_sequence<int, kRows>{};
  const Tile* of_rows = paired            ? paired_tiles()
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
