#include "tiles.h"

namespace jaxinfl {

const Tile* paired_tiles() { return tiles<2, true>(std::make_integer_sequence<int, kRows>{}); }

}  // namespace jaxinfl
