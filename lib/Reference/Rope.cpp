//===- Rope.cpp - Rotary position embedding -------------------------------===//
//
// Frequencies come final: all scalings (llama3, yarn, longrope) are applied at import.
//
//===----------------------------------------------------------------------===//
#include "quern/Reference/Ops.h"
#include <algorithm>
#include <cassert>
#include <cmath>

using namespace quern::reference;

void quern::reference::rope(std::span<const float> x, std::span<const int32_t> positions,
                            const RopeShape &shape, std::span<float> out) {
  int64_t pairs = shape.frequencies.size(), tokenSize = shape.heads * shape.headDim;
  assert(2 * pairs <= shape.headDim && out.size() == x.size());
  assert(int64_t(x.size()) == int64_t(positions.size()) * tokenSize);
  std::copy(x.begin(), x.end(), out.begin());
  for (size_t t = 0; t < positions.size(); ++t) {
    for (int64_t pair = 0; pair < pairs; ++pair) {
      double angle = double(positions[t]) * shape.frequencies[pair];
      double cosine = std::cos(angle) * shape.attentionFactor;
      double sine = std::sin(angle) * shape.attentionFactor;
      bool neox = shape.pairing == RopePairing::Neox;
      int64_t first = neox ? pair : 2 * pair, second = neox ? pair + pairs : 2 * pair + 1;
      for (int64_t head = 0; head < shape.heads; ++head) {
        int64_t base = t * tokenSize + head * shape.headDim;
        double a = x[base + first], b = x[base + second];
        out[base + first] = static_cast<float>(a * cosine - b * sine);
        out[base + second] = static_cast<float>(a * sine + b * cosine);
      }
    }
  }
}
