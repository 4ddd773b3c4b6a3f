//===- LinearTiles.cpp - AMX tile registers -------------------------------===//
//
// Addresses, constants and the configuration that tile instructions take.
//
//===----------------------------------------------------------------------===//
#include "LinearTiles.h"

using namespace mlir;
using namespace quern::conversion::detail;

void TileCode::configure() {
  // Palette 1, then from byte 16 the bytes of a row (16 bits a tile), from 48 the rows.
  SmallVector<int8_t> config(64, 0);
  config[0] = 1;
  auto shape = [&](int first, int count, int64_t rows, int64_t bytes) {
    for (int tile = first; tile < first + count; ++tile) {
      config[16 + 2 * tile] = int8_t(bytes);
      config[48 + tile] = int8_t(rows);
    }
  };
  shape(sums, sumTiles, tokens, 64);
  shape(left, leftTiles, tokens, columnBytes);
  shape(right, rightTiles, columnBytes / 4, 64);
  auto type = RankedTensorType::get({64}, v.b.getI8Type());
  Value table = v.constantTable(DenseElementsAttr::get(type, ArrayRef<int8_t>(config)));
  call("llvm.x86.ldtilecfg", {address(table, v.index(0))});
}

void TileCode::call(StringRef name, ValueRange operands) {
  LLVM::CallIntrinsicOp::create(v.b, v.loc, v.b.getStringAttr(name), operands);
}

Value TileCode::number(int tile) {
  return arith::ConstantOp::create(v.b, v.loc, v.b.getI8IntegerAttr(int8_t(tile)));
}

Value TileCode::strideOf(int64_t bytes) {
  return arith::ConstantOp::create(v.b, v.loc, v.b.getI64IntegerAttr(bytes));
}

Value TileCode::address(Value memref, Value offset) {
  auto type = cast<MemRefType>(memref.getType());
  assert(canLoad(memref) && "tiles need a plain buffer");
  Value base = memref::ExtractAlignedPointerAsIndexOp::create(v.b, v.loc, memref);
  Value sum = v.add(base, v.mul(offset, type.getElementTypeBitWidth() / 8));
  Value bits = arith::IndexCastOp::create(v.b, v.loc, v.b.getI64Type(), sum);
  return LLVM::IntToPtrOp::create(v.b, v.loc, LLVM::LLVMPointerType::get(v.b.getContext()), bits);
}
