// Joint counts: how many models have both flag i of one set and flag j of another; flags are bytes of 0 or 1, [models,
// examples], contiguous.
#pragma once

#include <cstdint>
#include <vector>

namespace jaxinfl {

// One product of flags, cut into blocks of columns that any thread may take in any order.
class JointCounts {
 public:
  JointCounts(const bool* left, int64_t rows, const bool* right, int64_t columns, int64_t models);

  static const int64_t kBlockWidth;  // columns of a block
  static constexpr int64_t kTileRows = 32;

  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  int64_t num_blocks() const { return (columns_ + kBlockWidth - 1) / kBlockWidth; }

  // The columns of a block, as `count` takes them.
  std::vector<uint8_t> pack(int64_t block) const;

  // sums[r * kBlockWidth + j] of the rows `row` to `row + rows` and the columns that were packed. `row` is a multiple of
  // kTileRows, which are the most rows, and those that `sums` has room for.
  void count(const std::vector<uint8_t>& packed, int64_t row, int64_t rows, int32_t* sums) const;

 private:
  int64_t rows_, columns_, models_, quads_;
  const bool* right_;
  std::vector<uint16_t> offsets_;
};

// All counts of a product.
struct StoredCounts {
  JointCounts product;
  int32_t* counts;  // [rows, columns], all written

  int64_t num_blocks() const { return product.num_blocks(); }
  void compute(int64_t block) const;
};

}  // namespace jaxinfl
