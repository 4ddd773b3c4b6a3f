//===- LinearEmitter.cpp - Loops over panels, steps and tokens ------------===//
//
// One token: each step of a panel is multiplied as it is read. Many tokens: a block of steps
// is unpacked once into scratch, and blocks of tokens run over it, their sums kept in scratch
// as well; tokens are taken by superblocks whose activations stay in the second-level cache.
//
//===----------------------------------------------------------------------===//
#include "quern/Conversion/LinearEmitter.h"
#include "LinearStrategy.h"

using namespace mlir;
using namespace quern;
using namespace quern::conversion;
using namespace quern::conversion::detail;

Activation conversion::fastActivation(const target::TargetInfo &target,
                                      const format::PackedLayout &weight) {
  return format::prefersInt8Activations(weight) ? Activation::Q8 : Activation::BF16;
}

int64_t ActivationLayout::plainColumns(Activation kind, int64_t k, const format::Spec &weight) {
  if (kind != Activation::Int8 || weight.kind != format::Spec::Kind::Split)
    return 0;
  llvm::Expected<std::vector<int64_t>> sets = format::splitColumns(weight, k);
  if (!sets) { // the format has no packed layout either, and whoever asks for that gets the error
    llvm::consumeError(sets.takeError());
    return 0;
  }
  return k - sets->back();
}

ActivationLayout ActivationLayout::get(Activation kind, int64_t k, int64_t plain) {
  ActivationLayout l = {};
  l.kind = kind;
  if (plain) {
    l = get(kind, k - plain);
    l.plain = plain;
    l.base = llvm::alignTo(4 * plain, 64);
    l.bytes += l.base;
    return l;
  }
  l.k = k;
  l.paddedK = (k + 31) / 32 * 32;
  if (kind == Activation::F32) {
    l.bytes = k * 4;
    return l;
  }
  if (kind == Activation::BF16) {
    l.codesOffset = l.paddedK * 4;
    l.scalesOffset = l.codesOffset + l.paddedK * 2;
    l.sums32Offset = l.scalesOffset + l.paddedK / 8;
    l.sums16Offset = l.sums32Offset + l.paddedK / 8;
    l.sums8Offset = l.sums16Offset + l.paddedK / 4;
    l.bytes = (l.sums8Offset + l.paddedK / 2 + 63) / 64 * 64;
    // Tiles read the same columns of 16 tokens: rows 4096 bytes apart would share few cache sets.
    if (l.bytes % 1024 == 0)
      l.bytes += 64;
    return l;
  }
  l.scalesOffset = l.paddedK;
  l.sums32Offset = l.scalesOffset + (kind == Activation::Q8 ? l.paddedK / 8 : 4);
  l.sums16Offset = l.sums32Offset + l.paddedK / 8;
  l.sums8Offset = l.sums16Offset + l.paddedK / 4;
  l.bytes = (l.sums8Offset + l.paddedK / 4 + 63) / 64 * 64;
  return l;
}

namespace {
class Driver {
public:
  Driver(VectorCode &v, const LinearDesc &desc, const format::PackedLayout &layout,
         const LinearOperands &o, Strategy &strategy, WeightReader &weights,
         const ActivationSource &x)
      : v(v), desc(desc), layout(layout), o(o), strategy(strategy), weights(weights), x(x) {}

  void emit() {
    if (desc.maxTokens > 1) {
      sums = v.scratch(std::min(desc.maxTokens, strategy.tokensPerSuperblock()) * 16, v.b.getF32Type());
      strategy.allocate();
    } else {
      strategy.allocate();
    }
    if (desc.maxTokens == 1)
      return oneToken();
    v.ifElse(v.equal(o.tokenCount, v.index(1)), [&] { oneToken(); }, [&] { manyTokens(); });
  }

private:
  Parts zeros() { return Parts(v.parts, v.splat(v.floats(), 0.0)); }

  /// Panels side by side as long as there are enough, the rest one by one.
  void oneToken() {
    Value done = o.begin;
    for (int64_t atOnce : {strategy.panelsAtOnce(), int64_t(1)}) {
      Value end = o.end;
      if (atOnce > 1) {
        Value left = arith::SubIOp::create(v.b, v.loc, o.end, done);
        end = v.add(done, v.mul(v.div(left, atOnce), atOnce));
      }
      v.loop(done, end, atOnce, [&](Value panel) { panelsTimesToken(panel, atOnce); });
      if (atOnce == 1)
        return;
      done = end;
    }
  }

  void panelsTimesToken(Value first, int64_t count) {
    Value token = v.index(0), start = x.tokenStart(v, token);
    SmallVector<Value> acc(count * v.parts, v.splat(v.floats(), 0.0));
    auto times = [&](Value step, bool tail, ValueRange carried) {
      SmallVector<Value> next;
      for (int64_t i = 0; i < count; ++i) {
        auto from = carried.begin() + i * v.parts;
        next.append(strategy.direct(weights.position(v.add(first, i), step, tail), start,
                                    Parts(from, from + v.parts)));
      }
      return next;
    };
    if (layout.fullSteps() > 0)
      acc = v.loop(v.index(0), v.index(layout.fullSteps()), 1, acc,
                   [&](Value at, ValueRange carried) { return times(at, false, carried); });
    if (layout.tailColumns())
      acc = times(v.index(layout.fullSteps()), true, acc);
    weights.forget();
    for (int64_t i = 0; i < count; ++i) {
      Parts sum(ArrayRef<Value>(acc).slice(i * v.parts, v.parts));
      writeOut(
          v.add(first, i), [&](Value row) { finishToken(token, start, row, sum); },
          [&](Value row, Value mask) { finishToken(token, start, row, sum, mask); });
    }
  }

  void manyTokens() {
    Value enough;
    int64_t fewest = strategy.tokensForTiles();
    if (fewest && fewest <= desc.maxTokens) {
      enough = arith::CmpIOp::create(v.b, v.loc, arith::CmpIPredicate::uge, o.tokenCount,
                                     v.index(fewest));
      v.ifElse(enough, [&] { strategy.configureTiles(); }, nullptr);
    }
    int64_t superblock = strategy.tokensPerSuperblock();
    v.loop(v.index(0), o.tokenCount, superblock, [&](Value first) {
      Value rest = arith::SubIOp::create(v.b, v.loc, o.tokenCount, first);
      Value count = v.min(rest, v.index(superblock));
      v.loop(o.begin, o.end, 1, [&](Value panel) { panelTimesTokens(panel, first, count); });
    });
    if (enough)
      v.ifElse(enough, [&] { strategy.releaseTiles(); }, nullptr);
  }

  void panelTimesTokens(Value panel, Value first, Value count) {
    v.loop(v.index(0), count, 1, [&](Value t) {
      Parts zero = zeros();
      storeSums(t, zero);
    });
    int64_t full = layout.fullSteps(), perBlock = strategy.stepsPerBlock();
    if (full > 0)
      v.loop(v.index(0), v.index(full), perBlock, [&](Value blockStart) {
        Value left = arith::SubIOp::create(v.b, v.loc, v.index(full), blockStart);
        Value steps = v.min(left, v.index(perBlock));
        v.loop(v.index(0), steps, 1, [&](Value slot) {
          strategy.unpack(weights.position(panel, v.add(blockStart, slot), false), slot);
        });
        weights.forget();
        timesTokens({steps, weights.extent(false),
                     v.add(v.mul(blockStart, layout.step), layout.columnStart)},
                    first, count);
      });
    if (layout.tailColumns()) {
      strategy.unpack(weights.position(panel, v.index(full), true), v.index(0));
      weights.forget();
      timesTokens({v.index(1), weights.extent(true),
                   v.index(full * layout.step + layout.columnStart)},
                  first, count);
    }
    auto finish = [&](Value row, Value mask) {
      v.loop(v.index(0), count, 1, [&](Value t) {
        Value token = v.add(first, t);
        finishToken(token, x.tokenStart(v, token), row, loadSums(t), mask);
      });
    };
    writeOut(panel, [&](Value row) { finish(row, {}); }, finish);
  }

  /// Adds the products of unpacked steps to the sums of tokens [first, first + count): in the
  /// largest blocks first, what is left over in smaller ones.
  void timesTokens(const UnpackedSteps &steps, Value first, Value count) {
    Value done = v.index(0);
    for (int64_t size : strategy.tokenBlocks()) {
      if (size > desc.maxTokens)
        continue;
      Value end = count;
      if (size > 1) {
        Value left = arith::SubIOp::create(v.b, v.loc, count, done);
        end = v.add(done, v.mul(v.div(left, size), size));
      }
      v.loop(done, end, size, [&](Value t) {
        strategy.multiply(steps, {size, x.tokenStart(v, v.add(first, t)), sums, v.mul(t, 16)});
      });
      done = end;
    }
  }

  Parts loadSums(Value t) {
    Parts result;
    for (int64_t part = 0; part < v.parts; ++part)
      result.push_back(v.load(sums, v.mul(t, 16), part * v.width, v.floats()));
    return result;
  }
  void storeSums(Value t, ArrayRef<Value> parts) {
    for (auto [part, value] : llvm::enumerate(parts))
      v.store(value, sums, v.mul(t, 16), part * v.width);
  }

  /// Chooses between whole panels and a last one with fewer than 16 rows. `partial` gets the
  /// number of rows present.
  void writeOut(Value panel, llvm::function_ref<void(Value row)> whole,
                llvm::function_ref<void(Value row, Value present)> partial) {
    Value row = v.mul(panel, 16);
    if (layout.n % 16 == 0)
      return whole(row);
    v.ifElse(
        v.equal(panel, v.index(layout.n / 16)), [&] { partial(row, v.index(layout.n % 16)); },
        [&] { whole(row); });
  }

  Value lanesPresent(Value present, int64_t part) {
    int64_t here = std::clamp<int64_t>(layout.n % 16 - part * v.width, 0, v.width);
    return vector::ConstantMaskOp::create(v.b, v.loc, v.vec(v.width, v.b.getI1Type()),
                                          ArrayRef<int64_t>{here});
  }

  void finishToken(Value token, Value start, Value row, Parts acc, Value present = {}) {
    acc = strategy.finish(start, acc);
    for (int64_t part = 0; part < v.parts; ++part) {
      Value mask = present ? lanesPresent(present, part) : Value();
      Value at = v.add(row, part * v.width), value = acc[part];
      auto read = [&](Value from, ValueRange indices) -> Value {
        if (!mask)
          return vector::LoadOp::create(v.b, v.loc, v.floats(), from, indices);
        return vector::MaskedLoadOp::create(v.b, v.loc, v.floats(), from, indices, mask,
                                            v.splat(v.floats(), 0.0));
      };
      if (desc.bias)
        value = v.plus(value, read(o.bias, {at}));
      if (desc.residual)
        value = v.plus(value, read(o.residual, {token, at}));
      if (mask)
        vector::MaskedStoreOp::create(v.b, v.loc, o.out, ValueRange{token, at}, mask, value);
      else
        vector::StoreOp::create(v.b, v.loc, value, o.out, ValueRange{token, at});
    }
  }

  VectorCode &v;
  const LinearDesc &desc;
  const format::PackedLayout &layout;
  const LinearOperands &o;
  Strategy &strategy;
  WeightReader &weights;
  const ActivationSource &x;
  Value sums;
};
} // namespace

LogicalResult conversion::emitLinear(OpBuilder &builder, Location loc, const LinearDesc &desc,
                                     const target::TargetInfo &target,
                                     const LinearOperands &operands) {
  auto layout = format::PackedLayout::get(desc.weight, desc.n, desc.k);
  if (!layout)
    return emitError(loc) << llvm::toString(layout.takeError());
  VectorCode v(builder, loc, target);
  ActivationSource x(operands.x, ActivationLayout::get(desc.activation, desc.k, desc.weight));
  if (desc.activation == Activation::F32 && cast<MemRefType>(operands.x.getType()).getRank() == 2) {
    // One dimension, as the quantized forms have.
    SmallVector<ReassociationIndices> all = {{0, 1}};
    x.buffer = memref::CollapseShapeOp::create(builder, loc, operands.x, all);
  }
  ArrayRef<format::PackedLayout> terms = *layout;
  if (!layout->terms.empty())
    terms = layout->terms;
  // The terms of a sum or a split are added up in `out`.
  LinearDesc termDesc = desc;
  LinearOperands termOperands = operands;
  std::optional<ActivationSource> plain;
  if (x.layout.plain)
    plain.emplace(x.plainColumns(v));
  for (format::PackedLayout term : terms) {
    bool isPlain = plain && term.columnStart < x.layout.plain;
    const ActivationSource &source = isPlain ? *plain : x;
    if (!isPlain)
      term.columnStart -= x.layout.plain;
    WeightReader weights(v, term, operands.weight);
    std::unique_ptr<Strategy> strategy = makeIntegerStrategy(v, term, weights, source);
    if (!strategy)
      strategy = makeFloatStrategy(v, term, weights, source);
    Driver(v, termDesc, term, termOperands, *strategy, weights, source).emit();
    termDesc.bias = false;
    termDesc.residual = true;
    termOperands.residual = operands.out;
  }
  return success();
}
