#include "transpose.h"

#include "vectors.h"

namespace jaxinfl {
namespace {

typedef float Four __attribute__((vector_size(4 * sizeof(float))));
typedef float UnalignedFour __attribute__((vector_size(4 * sizeof(float)), aligned(alignof(float)), may_alias));

void transpose_four(float* to, int64_t to_pitch, const float* from, int64_t from_pitch) {
  Four row[4], half[4];
  for (int r = 0; r < 4; ++r) row[r] = *(const UnalignedFour*)(from + r * from_pitch);
  for (int r = 0; r < 4; r += 2) {
    half[r] = shuffle(row[r], row[r + 1], std::integer_sequence<int, 0, 4, 1, 5>{});
    half[r + 1] = shuffle(row[r], row[r + 1], std::integer_sequence<int, 2, 6, 3, 7>{});
  }
  for (int c = 0; c < 4; c += 2) {
    const Four upper = half[c / 2], lower = half[2 + c / 2];
    *(UnalignedFour*)(to + c * to_pitch) = shuffle(upper, lower, std::integer_sequence<int, 0, 1, 4, 5>{});
    *(UnalignedFour*)(to + (c + 1) * to_pitch) = shuffle(upper, lower, std::integer_sequence<int, 2, 3, 6, 7>{});
  }
}

}  // namespace

void transpose(float* to, int64_t to_pitch, const float* from, int64_t from_pitch, int64_t rows, int64_t columns) {
  const int64_t even_rows = rows / 4 * 4, even_columns = columns / 4 * 4;
  for (int64_t r = 0; r < even_rows; r += 4)
    for (int64_t c = 0; c < even_columns; c += 4)
      transpose_four(to + c * to_pitch + r, to_pitch, from + r * from_pitch + c, from_pitch);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = r < even_rows ? even_columns : 0; c < columns; ++c) to[c * to_pitch + r] = from[r * from_pitch + c];
}

}  // namespace jaxinfl
