// Vectors as wide as the processor's, and memory that begins where they do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>
#include <vector>

namespace jaxinfl {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Vector __attribute__((vector_size(kLanes * sizeof(float))));
typedef float Unaligned __attribute__((vector_size(kLanes * sizeof(float)), aligned(alignof(float)), may_alias));

// Numbers of two vectors, counted through both.
template <typename V, int... I>
V shuffle(V first, V second, std::integer_sequence<int, I...>) {
#if defined(__clang__)
  return __builtin_shufflevector(first, second, I...);
#else
  typedef int32_t Indices __attribute__((vector_size(sizeof(V))));
  return __builtin_shuffle(first, second, Indices{I...});
#endif
}

template <int distance, int... I>
Vector rotate(Vector numbers, std::integer_sequence<int, I...>) {
  return shuffle(numbers, numbers, std::integer_sequence<int, (I + distance) % kLanes...>{});
}

// All lanes combined, by halves and in registers: through memory a softmax took three times as long.
template <int distance = kLanes / 2, typename Combine>
float across(Vector numbers, Combine combine) {
  if constexpr (distance == 0)
    return numbers[0];
  else
    return across<distance / 2>(combine(numbers, rotate<distance>(numbers, std::make_integer_sequence<int, kLanes>{})), combine);
}

inline Vector add(Vector one, Vector other) { return one + other; }

inline void copy(float* to, const float* from, int64_t count) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) *(Unaligned*)(to + i) = *(const Unaligned*)(from + i);
  for (; i < count; ++i) to[i] = from[i];
}

// Begins at a line of the cache: vectors of 64 bytes that lie across two lines made convolutions 3 to 9% slower (AVX-512).
template <typename T>
struct LineAllocator {
  using value_type = T;
  static constexpr std::align_val_t kLine{64};

  LineAllocator() = default;
  template <typename U>
  LineAllocator(const LineAllocator<U>&) {}
  T* allocate(size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), kLine)); }
  void deallocate(T* memory, size_t) { ::operator delete(memory, kLine); }
  template <typename U>
  bool operator==(const LineAllocator<U>&) const { return true; }
  template <typename U>
  bool operator!=(const LineAllocator<U>&) const { return false; }
};

using Floats = std::vector<float, LineAllocator<float>>;

}  // namespace jaxinfl
