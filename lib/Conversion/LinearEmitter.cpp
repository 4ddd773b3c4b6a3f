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
      panelSums = std::min(desc.maxTokens, strategy.tokensPerSuperblock()) * 16;
      sums = v.scratch(strategy.panelsPerPass() * panelSums, v.b.getF32Type());
    }
    strategy.allocate();
    if (desc.maxTokens == 1)
      return oneToken();
    v.ifElse(v.equal(o.tokenCount, v.index(1)), [&] { oneToken(); }, [&] { manyTokens(); });
  }

private:
  Parts zeros() { return Parts(v.parts, v.splat(v.floats(), 0.0)); }

  /// Runs `body` for `most` panels at a time as long as there are as many, then for one.
  void forPanels(int64_t most, llvm::function_ref<void(Value first, int64_t count)> body) {
    Value done = o.begin;
    if (most > 1) {
      Value left = arith::SubIOp::create(v.b, v.loc, o.end, done);
      Value end = v.add(done, v.mul(v.div(left, most), most));
      v.loop(done, end, most, [&](Value first) { body(first, most); });
      done = end;
    }
    v.loop(done, o.end, 1, [&](Value panel) { body(panel, 1); });
  }

  void oneToken() {
    forPanels(strategy.panelsAtOnce(),
              [&](Value first, int64_t count) { panelsTimesToken(first, count); });
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
      forPanels(strategy.panelsPerPass(), [&](Value panel, int64_t panels) {
        panelsTimesTokens(panel, panels, first, count);
      });
    });
    if (enough)
      v.ifElse(enough, [&] { strategy.releaseTiles(); }, nullptr);
  }

  void panelsTimesTokens(Value panel, int64_t panels, Value first, Value count) {
    auto forEach = [&](llvm::function_ref<void(Value i)> body) {
      v.loop(v.index(0), v.index(panels), 1, body);
    };
    forEach([&](Value i) {
      v.loop(v.index(0), count, 1, [&](Value t) { storeSums(i, t, zeros()); });
    });
    int64_t full = layout.fullSteps(), perBlock = strategy.stepsPerBlock();
    if (full > 0)
      v.loop(v.index(0), v.index(full), perBlock, [&](Value blockStart) {
        Value left = arith::SubIOp::create(v.b, v.loc, v.index(full), blockStart);
        Value steps = v.min(left, v.index(perBlock));
        forEach([&](Value i) {
          v.loop(v.index(0), steps, 1, [&](Value slot) {
            strategy.unpack(weights.position(v.add(panel, i), v.add(blockStart, slot), false),
                            v.add(v.mul(i, perBlock), slot));
          });
        });
        weights.forget();
        timesTokens({panels, steps, weights.extent(false),
                     v.add(v.mul(blockStart, layout.step), layout.columnStart)},
                    first, count, strategy.fetchesAhead() ? next(panel, panels, blockStart) : Value());
      });
    if (layout.tailColumns()) {
      forEach([&](Value i) {
        strategy.unpack(weights.position(v.add(panel, i), v.index(full), true),
                        v.mul(i, perBlock));
      });
      weights.forget();
      timesTokens({panels, v.index(1), weights.extent(true),
                   v.index(full * layout.step + layout.columnStart)},
                  first, count);
    }
    forEach([&](Value i) {
      auto finish = [&](Value row, Value mask) {
        v.loop(v.index(0), count, 1, [&](Value t) {
          Value token = v.add(first, t);
          finishToken(token, x.tokenStart(v, token), row, loadSums(i, t), mask);
        });
      };
      writeOut(v.add(panel, i), [&](Value row) { finish(row, {}); }, finish);
    });
  }

  /// Where the weights begin that are unpacked after the steps from `blockStart` on.
  Value next(Value panel, int64_t panels, Value blockStart) {
    Value step = v.add(blockStart, strategy.stepsPerBlock());
    Value isLast = arith::CmpIOp::create(v.b, v.loc, arith::CmpIPredicate::uge, step,
                                         v.index(layout.fullSteps()));
    auto select = [&](Value a, Value c) -> Value {
      return arith::SelectOp::create(v.b, v.loc, isLast, a, c);
    };
    return weights.position(select(v.add(panel, panels), panel), select(v.index(0), step), false)
        .codes;
  }

  /// Adds the products of unpacked steps to the sums of tokens [first, first + count): in the
  /// largest blocks first, what is left over in smaller ones. Weights `ahead` are fetched a few
  /// lines a block, so that all have been once the superblock is done.
  void timesTokens(const UnpackedSteps &steps, Value first, Value count, Value ahead = {}) {
    Value done = v.index(0);
    for (int64_t size : strategy.tokenBlocks(steps.panels)) {
      if (size > desc.maxTokens)
        continue;
      Value end = count;
      if (size > 1) {
        Value left = arith::SubIOp::create(v.b, v.loc, count, done);
        end = v.add(done, v.mul(v.div(left, size), size));
      }
      int64_t blocks = std::max<int64_t>(1, strategy.tokensPerSuperblock() / size);
      int64_t lines = strategy.stepsPerBlock() * weights.bytesOfStep() / 64;
      int64_t share = ahead && size > 1 ? (lines + blocks - 1) / blocks : 0;
      v.loop(done, end, size, [&](Value t) {
        for (int64_t i = 0; share && i < steps.panels; ++i)
          weights.prefetchLines(v.add(ahead, v.mul(v.div(t, size), share * 64)),
                                i * layout.panelStride, share);
        strategy.multiply(
            steps, {size, x.tokenStart(v, v.add(first, t)), sums, v.mul(t, 16), panelSums});
      });
      done = end;
    }
  }

  Value firstSum(Value panel, Value t) { return v.add(v.mul(panel, panelSums), v.mul(t, 16)); }
  Parts loadSums(Value panel, Value t) {
    Parts result;
    for (int64_t part = 0; part < v.parts; ++part)
      result.push_back(v.load(sums, firstSum(panel, t), part * v.width, v.floats()));
    return result;
  }
  void storeSums(Value panel, Value t, ArrayRef<Value> parts) {
    for (auto [part, value] : llvm::enumerate(parts))
      v.store(value, sums, firstSum(panel, t), part * v.width);
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
  Value sums;            ///< [panel][token][16 rows]
  int64_t panelSums = 0; ///< of a panel, in floats
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
