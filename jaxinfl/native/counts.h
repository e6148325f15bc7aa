// Joint counts: how many models have both flag i of one set and flag j of another; flags are bytes of 0 or 1, [models,
// examples], contiguous.
#pragma once

#include <cstdint>
#include <vector>

namespace jaxinfl {

// One product of flags, cut into blocks of columns that any thread may take in any order.
class JointCounts {
 public:
  // counts[i * columns + j], all written.
  JointCounts(const bool* left, int64_t rows, const bool* right, int64_t columns, int64_t models, int32_t* counts);

  int64_t num_blocks() const;
  void compute(int64_t block) const;

 private:
  int64_t rows_, columns_, models_, quads_;
  const bool* right_;
  int32_t* counts_;
  std::vector<uint16_t> offsets_;
};

}  // namespace jaxinfl
