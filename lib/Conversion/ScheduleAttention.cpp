//===- ScheduleAttention.cpp - Launches of norms, rope and attention ------===//
//
// With one token, a thread keeps to its kv heads from the products to the output.
//
//===----------------------------------------------------------------------===//
#include "ScheduleBuilder.h"

using namespace mlir;
using namespace quern;
using kernel::Access;
using kernel::Domain;

/// Slots a cache type has room for; the number in use is the runtime's.
static constexpr int64_t slotBound = 1024;
/// Queries of a kv head worked on together when there are many tokens.
static constexpr int64_t tokensPerBlock = 16;
/// Rows at a time: eight sums in registers, 16 lanes each row, keep both units for
/// multiply-adds busy.
static int64_t rowsAtOnceOn(const target::TargetInfo &target) {
  return target.vectorBits >= 512 ? 8 : 4;
}

LogicalResult ScheduleBuilder::convert(RMSNormOp op) {
  Value x = buffer(op.getX()), gain = weight(op.getGain(), b.getF32Type());
  bool repeated = replicable(op.getResult());
  Value out = resultBuffer(op.getResult(), repeated);
  int64_t length = cast<MemRefType>(gain.getType()).getNumElements();
  int64_t perToken = rowsType(op.getX()).getShape().back() / length;
  auto norm = [&](Value out, bool repeated) {
    int64_t scale = perToken;
    LaunchShape shape =
        perToken > 1 && !repeated ? heads(op.getX(), perToken, scale) : rows(op.getX(), repeated);
    launch(shapeName("rms_norm", {length}),
           {{x, repeated ? Access::Read : Access::ReadPart},
            {gain, Access::Read},
            {out, Access::WritePart}},
           shape, [&](KernelBody &body) {
             kernel::TileRmsNormOp::create(body.b, body.buffers[0], body.buffers[1],
                                           body.buffers[2], body.scaled(body.begin, scale),
                                           body.scaled(body.end, scale), op.getEps(),
                                           op.getUnitOffset());
           });
  };
  norm(out, repeated);
  // The final hidden states are an output of their own, if the caller wants them.
  auto makesLogits = [&](Operation *user) {
    return llvm::is_contained(user->getResults(), logits);
  };
  if (llvm::any_of(op.getResult().getUsers(), makesLogits))
    norm(arrayOf(kernel::StepArray::Embeddings, b.getF32Type(), rowsType(op.getX()).getShape()),
         false);
  return success();
}

LogicalResult ScheduleBuilder::convert(LayerNormOp op) {
  Value x = buffer(op.getX()), gain = weight(op.getGain(), b.getF32Type());
  bool repeated = replicable(op.getResult());
  Value out = resultBuffer(op.getResult(), repeated);
  SmallVector<BufferUse> uses = {{x, repeated ? Access::Read : Access::ReadPart},
                                 {gain, Access::Read}};
  if (op.getBias())
    uses.push_back({weight(op.getBias(), b.getF32Type()), Access::Read});
  uses.push_back({out, Access::WritePart});
  launch(shapeName("layer_norm", cast<ShapedType>(gain.getType()).getShape()), uses,
         rows(op.getX(), repeated), [&](KernelBody &body) {
           kernel::TileLayerNormOp::create(body.b, body.buffers[0], body.buffers[1],
                                           op.getBias() ? body.buffers[2] : Value(),
                                           body.buffers.back(), body.begin, body.end, op.getEps());
         });
  return success();
}

LogicalResult ScheduleBuilder::convert(RopeOp op) {
  // In place, into a copy if somebody else reads the operand.
  if (!op.getX().hasOneUse())
    return op.emitOpError("expects an operand that nothing else reads");
  Value x = buffer(op.getX()), angles = ropeTable(op.getRope());
  buffers[op.getResult()] = x;
  int64_t count = op.getHeads(), scale = 0;
  LaunchShape shape = heads(op.getX(), count, scale);
  launch(shapeName("rope", {count, int64_t(op.getHeadDim())}),
         {{x, Access::UpdatePart}, {angles, single ? Access::Read : Access::ReadPart}}, shape,
         [&](KernelBody &body) {
           kernel::TileRopeOp::create(body.b, body.buffers[0], body.buffers[1],
                                      body.scaled(body.begin, scale), body.scaled(body.end, scale),
                                      count, op.isInterleaved());
         });
  return success();
}

Value ScheduleBuilder::cachePart(AttentionOp op, int64_t offset, int64_t slotBytes, Type element) {
  int64_t elements = slotBytes / (element.getIntOrFloatBitWidth() / 8);
  return kernel::CacheOp::create(b, MemRefType::get({slotBound, elements}, element), offset);
}

LogicalResult ScheduleBuilder::convert(AttentionOp op) {
  KvCacheType cache = op.getCache().getType();
  int64_t kvHeads = cache.getKvHeads(), dim = cache.getHeadDim(), heads = op.getHeads();
  int64_t capacity = llvm::alignTo(cache.getContextLength(), kernel::keyLanes);
  bool nibbles = cache.getElement() == CacheElement::Q4;
  bool coded = nibbles || cache.getElement() == CacheElement::Q8_0;
  if (coded && dim % kernel::cacheGroup)
    return op.emitOpError() << "expects heads of a multiple of " << kernel::cacheGroup
                            << " dimensions for a " << stringifyEnum(cache.getElement())
                            << " cache, found " << dim;
  Type element = coded                                     ? Type(b.getI8Type())
                 : cache.getElement() == CacheElement::F16 ? Type(b.getF16Type())
                                                           : Type(b.getF32Type());
  // A layer's part of a slot: keys, values, their scales; each a multiple of 64 bytes.
  int64_t bits = nibbles ? 4 : element.getIntOrFloatBitWidth(), codeBits = nibbles ? 4 : 8;
  int64_t scalesPerHead = !coded ? 0 : nibbles ? 1 : dim / kernel::cacheGroup;
  int64_t codes = llvm::alignTo(kvHeads * capacity * dim * bits / 8, 64);
  int64_t scales = llvm::alignTo(kvHeads * capacity * scalesPerHead * 2, 64);
  int64_t slot = cache.getLayers() * 2 * (codes + scales);
  int64_t base = op.getLayer() * 2 * (codes + scales);
  Value k = cachePart(op, base, slot, element), v = cachePart(op, base + codes, slot, element);
  SmallVector<Value> cacheBuffers = {k, v};
  if (coded) {
    cacheBuffers.push_back(cachePart(op, base + 2 * codes, slot, b.getF16Type()));
    cacheBuffers.push_back(cachePart(op, base + 2 * codes + scales, slot, b.getF16Type()));
  }

  // One token: a thread stores and reads the kv heads that are its own, without a barrier.
  LaunchShape perHead = {Domain::Heads, constantUnits(kvHeads), tokenCount};
  SmallVector<BufferUse> store = {{buffer(op.getK()), Access::ReadPart},
                                  {buffer(op.getV()), Access::ReadPart}};
  for (Value part : cacheBuffers)
    store.push_back({part, Access::WritePart});
  store.push_back({positions, Access::Read});
  store.push_back({sequences, Access::Read});
  int64_t perUnit = single ? 1 : kvHeads;
  launch(shapeName("store_kv", {kvHeads, dim}), store, single ? perHead : rows(op.getK()),
         [&](KernelBody &body) {
           ValueRange v = body.buffers;
           kernel::TileStoreKvOp::create(
               body.b, v[0], v[1], v[2], v[3], coded ? v[4] : Value(), coded ? v[5] : Value(),
               v[v.size() - 2], v.back(), body.scaled(body.begin, perUnit),
               body.scaled(body.end, perUnit), kvHeads, capacity, codeBits);
         });

  Value out = resultBuffer(op.getOutput());
  Access access = single ? Access::ReadPart : Access::Read;
  SmallVector<BufferUse> attend = {{buffer(op.getQ()), access}};
  for (Value part : cacheBuffers)
    attend.push_back({part, access});
  attend.push_back({positions, Access::Read});
  attend.push_back({sequences, Access::Read});
  attend.push_back({out, Access::WritePart});
  LaunchShape blocks = perHead;
  if (!single)
    blocks = {Domain::Blocks,
              kernel::UnitsOp::create(b, b.getIndexType(), tokenCount, tokensPerBlock, kvHeads),
              tokenCount};
  int64_t rowsAtOnce = rowsAtOnceOn(target);
  launch(shapeName("attention", {heads, kvHeads, dim}), attend, blocks, [&](KernelBody &body) {
    ValueRange v = body.buffers;
    size_t n = v.size();
    kernel::TileAttentionOp::create(
        body.b, v[0], v[1], v[2], coded ? v[3] : Value(), coded ? v[4] : Value(), v[n - 3],
        v[n - 2], v[n - 1], body.begin, body.end, body.tokens, heads, kvHeads, capacity,
        op.getScale(), op.getWindow().value_or(0), op.getSoftcap().value_or(APFloat(0.0f)),
        single ? 1 : tokensPerBlock, single ? std::min(heads / kvHeads, rowsAtOnce) : rowsAtOnce,
        codeBits);
  });
  return success();
}
