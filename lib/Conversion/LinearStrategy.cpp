//===- LinearStrategy.cpp - What all strategies do with blocks of tokens --===//
//
// Sums stay in registers while a block of tokens passes over the unpacked steps.
//
//===----------------------------------------------------------------------===//
#include "LinearStrategy.h"

using namespace mlir;
using namespace quern::conversion::detail;

void Strategy::multiplySlots(Value from, Value to, const UnpackedSteps &steps,
                             const TokenBlock &block) {
  SmallVector<Value> starts, flat;
  for (int64_t t = 0; t < block.count; ++t) {
    starts.push_back(v.add(block.start, t * x.tokenStride()));
    Parts acc = loadSums(block, t, steps.panels);
    flat.append(acc.begin(), acc.end());
  }
  int64_t perToken = steps.panels * v.parts;
  flat = v.loop(from, to, 1, flat, [&](Value slot, ValueRange carried) {
    SmallVector<Parts> acc(block.count);
    for (auto [i, value] : llvm::enumerate(carried))
      acc[i / perToken].push_back(value);
    Value column = v.add(steps.column, v.mul(slot, layout.step));
    SmallVector<Value> out;
    for (Parts &parts : blocked(slot, steps.extent, column, starts, acc))
      out.append(parts.begin(), parts.end());
    return out;
  });
  for (int64_t t = 0; t < block.count; ++t)
    storeSums(block, t, ArrayRef<Value>(flat).slice(t * perToken, perToken));
}

/// Where vector `part` of a token's sums lies, from the block's first sum.
static int64_t placeOfSum(const VectorCode &v, const TokenBlock &block, int64_t token,
                          int64_t part) {
  return part / v.parts * block.panelSums + token * 16 + part % v.parts * v.width;
}

Parts Strategy::loadSums(const TokenBlock &block, int64_t token, int64_t panels) {
  Parts result;
  for (int64_t part = 0; part < panels * v.parts; ++part)
    result.push_back(
        v.load(block.sums, block.firstSum, placeOfSum(v, block, token, part), v.floats()));
  return result;
}

void Strategy::storeSums(const TokenBlock &block, int64_t token, ArrayRef<Value> parts) {
  for (auto [part, value] : llvm::enumerate(parts))
    v.store(value, block.sums, block.firstSum, placeOfSum(v, block, token, int64_t(part)));
}
