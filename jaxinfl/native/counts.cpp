// Population counts by table, in the manner of Andre, Kermarrec and Le Scouarnec, "Quicker ADC" (2019): four models are
// the half of a byte, and one shuffle instruction looks up, for as many examples as a vector has bytes, how many of
// these four models an example shares with a row. A shuffle and an addition serve 128 pairs of flags under AVX2, where
// counting the bits of 64-bit words takes seven instructions for 256 (half of them to count: only AVX-512 has one
// for it).

#include "counts.h"

#include <algorithm>
#include <cstring>

#if defined(__AVX2__) || defined(__SSSE3__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace jaxinfl {
namespace {

#if defined(__AVX512BW__)
constexpr int kBytes = 64, kRows = 4;
#elif defined(__AVX2__)
constexpr int kBytes = 32, kRows = 2;
#elif defined(__aarch64__)
constexpr int kBytes = 16, kRows = 4;
#else
constexpr int kBytes = 16, kRows = 2;
#endif
constexpr int kVectors = 4;                   // kRows x kVectors sums, kVectors columns and a table live in registers
constexpr int64_t kWidth = kVectors * kBytes;  // examples of a block
constexpr int64_t kQuads = 63;                // of four models each: their count still fits a byte

typedef uint8_t Bytes __attribute__((vector_size(kBytes)));
typedef uint8_t Unaligned __attribute__((vector_size(kBytes), aligned(1), may_alias));

// table[index[b] & 15] for each byte b; every 16 bytes of `table` hold the same 16 entries, every index is below 16.
inline Bytes look_up(Bytes table, Bytes index) {
#if defined(__AVX512BW__)
  return (Bytes)_mm512_shuffle_epi8((__m512i)table, (__m512i)index);
#elif defined(__AVX2__)
  return (Bytes)_mm256_shuffle_epi8((__m256i)table, (__m256i)index);
#elif defined(__SSSE3__)
  return (Bytes)_mm_shuffle_epi8((__m128i)table, (__m128i)index);
#elif defined(__aarch64__)
  return (Bytes)vqtbl1q_u8((uint8x16_t)table, (uint8x16_t)index);
#else
  Bytes result;
  for (int b = 0; b < kBytes; ++b) result[b] = table[index[b]];
  return result;
#endif
}

// The compiler would load a column anew for each row, and loads are what limits the loop then.
#if defined(__x86_64__)
#define KEEP(vector) asm("" : "+x"(vector))
#elif defined(__aarch64__)
#define KEEP(vector) asm("" : "+w"(vector))
#else
#define KEEP(vector)
#endif

// For each set of four models, how many of it are in each other set.
struct Tables {
  alignas(64) uint8_t shared[16][kBytes];
  Tables() {
    for (int set = 0; set < 16; ++set)
      for (int b = 0; b < kBytes; ++b) shared[set][b] = uint8_t(__builtin_popcount(set & b & 15));
  }
};
const Tables kTables;

// Four flags of one example, `stride` apart, as a number; models from `count` on are not there.
inline int quad(const bool* flags, int64_t stride, int64_t count) {
  int bits = 0;
  for (int64_t m = 0; m < std::min<int64_t>(count, 4); ++m) bits |= int(flags[m * stride]) << m;
  return bits;
}

// `width` examples from `flags` on, as quads: packed[k * kWidth + j]; zeros beyond.
void pack(const bool* flags, int64_t stride, int64_t models, int64_t quads, int64_t width, uint8_t* packed) {
#pragma GCC unroll 2
  for (int64_t k = 0; k < quads; ++k, packed += kWidth) {
    std::memset(packed, 0, kWidth);
    for (int64_t m = 0; m < std::min<int64_t>(models - 4 * k, 4); ++m) {
      const uint8_t* row = (const uint8_t*)flags + (4 * k + m) * stride;
      for (int64_t j = 0; j < width; ++j) packed[j] |= uint8_t(row[j] << m);
    }
  }
}

// Adds to kRows rows of sums what `quads` quads of a block share with the sets in which `offsets` look.
void add(const uint8_t* packed, const uint16_t* offsets, int64_t quads, int32_t* sums) {
  const uint8_t* tables = kTables.shared[0];
  Bytes sum[kRows][kVectors] = {};
#pragma GCC unroll 2
  for (int64_t k = 0; k < quads; ++k, packed += kWidth, offsets += kRows) {
    Bytes column[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      column[v] = *(const Unaligned*)(packed + v * kBytes);
      KEEP(column[v]);
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const Bytes table = *(const Unaligned*)(tables + offsets[r]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] += look_up(table, column[v]);
    }
  }
  uint8_t share[kRows * kWidth];
#pragma GCC unroll 16
  for (int i = 0; i < kRows * kVectors; ++i) *(Unaligned*)(share + i * kBytes) = sum[i / kVectors][i % kVectors];
  for (int64_t i = 0; i < kRows * kWidth; ++i) sums[i] += share[i];
}

}  // namespace

const int64_t JointCounts::kBlockWidth = kWidth;

JointCounts::JointCounts(const bool* left, int64_t rows, const bool* right, int64_t columns, int64_t models)
    : rows_(rows), columns_(columns), models_(models), quads_((models + 3) / 4), right_(right),
      offsets_((rows + kRows - 1) / kRows * quads_ * kRows, 0) {
  // Where in the tables the quads of a row look: those of kRows rows side by side, missing rows in the empty set.
  for (int64_t k = 0; k < quads_; ++k)
    for (int64_t row = 0; row < rows; ++row)
      offsets_[(row / kRows * quads_ + k) * kRows + row % kRows] =
          uint16_t(kBytes * quad(left + 4 * k * rows + row, rows, models - 4 * k));
}

std::vector<uint8_t> JointCounts::pack(int64_t block) const {
  const int64_t first = block * kWidth;
  std::vector<uint8_t> packed(quads_ * kWidth);
  jaxinfl::pack(right_ + first, columns_, models_, quads_, std::min(kWidth, columns_ - first), packed.data());
  return packed;
}

void JointCounts::count(const std::vector<uint8_t>& packed, int64_t row, int64_t rows, int32_t* sums) const {
  std::fill_n(sums, kTileRows * kWidth, 0);
  for (int64_t from = 0; from < quads_; from += kQuads)
    for (int64_t r = 0; r < rows; r += kRows)
      add(&packed[from * kWidth], &offsets_[((row + r) / kRows * quads_ + from) * kRows], std::min(kQuads, quads_ - from),
          sums + r * kWidth);
}

// Some rows at a time go through all models, with their sums in the level 1 cache: in the result, whose rows lie pages
// apart, each share would miss it.
void StoredCounts::compute(int64_t block) const {
  const int64_t first = block * kWidth, width = std::min(kWidth, product.columns() - first);
  const std::vector<uint8_t> packed = product.pack(block);
  int32_t sums[JointCounts::kTileRows * kWidth];
  for (int64_t row = 0; row < product.rows(); row += JointCounts::kTileRows) {
    const int64_t rows = std::min(JointCounts::kTileRows, product.rows() - row);
    product.count(packed, row, rows, sums);
    for (int64_t r = 0; r < rows; ++r)
      std::copy_n(sums + r * kWidth, width, counts + (row + r) * product.columns() + first);
  }
}

}  // namespace jaxinfl
