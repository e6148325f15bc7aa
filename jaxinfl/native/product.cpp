#include "tiles.h"

namespace jaxinfl {

void multiply(const float* left, const Row* rows, int64_t num_rows, const float* right, bool paired, const Term* terms,
              int64_t depth, float* result, int64_t width, Sums ends) {
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
