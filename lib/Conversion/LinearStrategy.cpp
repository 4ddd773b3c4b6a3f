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
    Parts acc = loadSums(block, t);
    flat.append(acc.begin(), acc.end());
  }
  flat = v.loop(from, to, 1, flat, [&](Value slot, ValueRange carried) {
    SmallVector<Parts> acc(block.count);
    for (auto [i, value] : llvm::enumerate(carried))
      acc[i / v.parts].push_back(value);
    Value column = v.add(steps.column, v.mul(slot, layout.step));
    SmallVector<Value> out;
    for (Parts &parts : blocked(slot, steps.extent, column, starts, acc))
      out.append(parts.begin(), parts.end());
    return out;
  });
  for (int64_t t = 0; t < block.count; ++t)
    storeSums(block, t, ArrayRef<Value>(flat).slice(t * v.parts, v.parts));
}

Parts Strategy::loadSums(const TokenBlock &block, int64_t token) {
  Parts result;
  for (int64_t part = 0; part < v.parts; ++part)
    result.push_back(v.load(block.sums, block.firstSum, token * 16 + part * v.width, v.floats()));
  return result;
}

void Strategy::storeSums(const TokenBlock &block, int64_t token, ArrayRef<Value> parts) {
  for (auto [part, value] : llvm::enumerate(parts))
    v.store(value, block.sums, block.firstSum, token * 16 + part * v.width);
}
