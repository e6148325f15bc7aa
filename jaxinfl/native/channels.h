// Loops over all positions of each channel; arrays [positions, channels], contiguous.
#pragma once

#include <algorithm>
#include <cstdint>

#include "vectors.h"

namespace jaxinfl {

// Rows that are summed before their sum is added to others: 16 KB, half of a level 1 cache. Sums of sums also keep float32
// accurate over millions of numbers.
inline int64_t block_rows(int64_t channels) { return std::max<int64_t>(1, 4096 / channels); }

// Rows gone through together, with what a channel has in registers: few, so that memory is read nearly in its order (a
// whole block took a quarter longer).
constexpr int64_t kStrip = 4;

// As many channels as a vector holds, or one.
template <typename T>
T load(const float* from);
template <>
inline Vector load<Vector>(const float* from) { return *(const Unaligned*)from; }
template <>
inline float load<float>(const float* from) { return *from; }

inline void store(float* to, Vector numbers) { *(Unaligned*)to = numbers; }
inline void store(float* to, float number) { *to = number; }

// body(T, channel) for all channels, a vector at a time: what belongs to a channel stays in registers.
template <typename Body>
void by_vectors(int64_t channels, Body body) {
  int64_t c = 0;
  for (; c + kLanes <= channels; c += kLanes) body(Vector{}, c);
  for (; c < channels; ++c) body(float{}, c);
}

// In four sums, because each addition to one waits for the one before.
template <typename T, typename Value>
T sum_of_rows(int64_t rows, Value value) {
  T sums[4] = {};
  int64_t row = 0;
  for (; row + 4 <= rows; row += 4)
    for (int i = 0; i < 4; ++i) sums[i] += value(row + i);
  for (; row < rows; ++row) sums[0] += value(row);
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

}  // namespace jaxinfl
