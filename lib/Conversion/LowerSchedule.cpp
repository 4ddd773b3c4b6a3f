//===- LowerSchedule.cpp - Schedules to a forward function ----------------===//
//
// Straight-line LLVM code: one function per schedule, and one that chooses among them.
// The offsets of quern_step (Runtime/Program.h) are known here alone.
//
//===----------------------------------------------------------------------===//
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "quern/Conversion/Passes.h"
#include "quern/Dialect/Kernel/IR/Kernel.h"
#include "quern/Runtime/Program.h"
#include "llvm/ADT/TypeSwitch.h"

namespace quern {
#define GEN_PASS_DEF_LOWERSCHEDULEPASS
#include "quern/Conversion/Passes.h.inc"
} // namespace quern

using namespace mlir;
using namespace quern;
using namespace quern::kernel;

namespace {

constexpr int64_t alignment = 64;
constexpr StringLiteral barrierName = "quern_barrier";

/// Emits one schedule into a function with arguments (step, thread, threads).
class ScheduleLowering {
public:
  ScheduleLowering(ImplicitLocOpBuilder &b, Block *entry, ScheduleOp schedule)
      : b(b), pointer(LLVM::LLVMPointerType::get(b.getContext())), step(entry->getArgument(0)),
        thread(entry->getArgument(1)), threads(entry->getArgument(2)), schedule(schedule) {}

  LogicalResult run() {
    thread64 = LLVM::ZExtOp::create(b, b.getI64Type(), thread);
    threads64 = LLVM::ZExtOp::create(b, b.getI64Type(), threads);
    scratch = field(offsetof(quern_step, scratch), pointer);
    // Private parts follow the shared one.
    int64_t shared = llvm::alignTo(*schedule.getScratchBytes(), alignment);
    int64_t own = llvm::alignTo(*schedule.getPrivateBytes(), alignment);
    Value mine = LLVM::MulOp::create(b, thread64, constant(own));
    privateScratch = at(at(scratch, shared), mine);
    Block &body = schedule.getBody().front();
    // What a skipped part would define, addresses alone, is made before all parts.
    bool parts = !body.getOps<kernel::BoundaryOp>().empty();
    auto acts = [](Operation &op) {
      return isa<LaunchOp, BarrierOp, kernel::ObserveOp, kernel::BoundaryOp>(op);
    };
    for (Operation &op : body)
      if (!(parts && acts(op)) && failed(lower(&op)))
        return failure();
    for (Operation &op : body)
      if (parts && acts(op) && failed(lower(&op)))
        return failure();
    endPart();
    LLVM::ReturnOp::create(b, ValueRange());
    return success();
  }

private:
  Value constant(int64_t v) { return LLVM::ConstantOp::create(b, b.getI64IntegerAttr(v)); }
  Value at(Value base, int64_t bytes) {
    return LLVM::GEPOp::create(b, pointer, b.getI8Type(), base,
                               ArrayRef<LLVM::GEPArg>{int32_t(bytes)});
  }
  Value at(Value base, Value bytes) {
    return LLVM::GEPOp::create(b, pointer, b.getI8Type(), base, ArrayRef<LLVM::GEPArg>{bytes});
  }
  Value field(int64_t offset, Type type) {
    return LLVM::LoadOp::create(b, type, at(step, constant(offset)));
  }
  Value count(StepCount which) {
    int64_t offset = which == StepCount::Tokens ? offsetof(quern_step, token_count)
                                                : offsetof(quern_step, output_count);
    return LLVM::ZExtOp::create(b, b.getI64Type(), field(offset, b.getI32Type()));
  }
  static int64_t offsetOf(StepArray array) {
    switch (array) {
    case StepArray::Tokens:
      return offsetof(quern_step, tokens);
    case StepArray::Positions:
      return offsetof(quern_step, positions);
    case StepArray::Sequences:
      return offsetof(quern_step, sequences);
    case StepArray::Outputs:
      return offsetof(quern_step, outputs);
    case StepArray::Logits:
      return offsetof(quern_step, logits);
    case StepArray::Embeddings:
      return offsetof(quern_step, embeddings);
    }
    llvm_unreachable("all arrays covered");
  }

  LogicalResult lower(Operation *op) {
    return llvm::TypeSwitch<Operation *, LogicalResult>(op)
        .Case([&](BufferOp buffer) {
          if (!buffer.getOffset())
            return LogicalResult(buffer.emitOpError("has no place: run quern-plan-buffers first"));
          values[buffer.getResult()] =
              at(buffer.getIsPrivate() ? privateScratch : scratch, constant(*buffer.getOffset()));
          return success();
        })
        .Case([&](WeightOp weight) {
          Value table = field(offsetof(quern_step, weights), pointer);
          Value slot = at(table, constant(weight.getIndex() * int64_t(sizeof(void *))));
          Value data = LLVM::LoadOp::create(b, pointer, slot);
          values[weight.getResult()] = at(data, constant(weight.getByteOffset()));
          return success();
        })
        .Case([&](CacheOp cache) {
          values[cache.getResult()] =
              at(field(offsetof(quern_step, cache), pointer), constant(cache.getByteOffset()));
          return success();
        })
        .Case([&](StepArrayOp array) {
          values[array.getResult()] = field(offsetOf(array.getArray()), pointer);
          return success();
        })
        .Case([&](StepCountOp op) {
          values[op.getResult()] = count(op.getCount());
          return success();
        })
        .Case([&](UnitsOp units) {
          Value n = constant(units.getScale());
          if (units.getCount()) {
            Value whole =
                LLVM::AddOp::create(b, values[units.getCount()], constant(units.getBlock() - 1));
            n = LLVM::MulOp::create(b, LLVM::UDivOp::create(b, whole, constant(units.getBlock())),
                                    n);
          }
          values[units.getResult()] = n;
          return success();
        })
        .Case([&](BarrierOp) {
          callBarrier();
          return success();
        })
        .Case([&](LaunchOp launch) { return lowerLaunch(launch); })
        .Case([&](kernel::ObserveOp observe) { return lowerObserve(observe); })
        .Case([&](kernel::BoundaryOp boundary) { return lowerBoundary(boundary); })
        .Default([](Operation *op) { return op->emitOpError("is not part of a schedule"); });
  }

  void callBarrier() {
    Value barrier = field(offsetof(quern_step, barrier), pointer);
    LLVM::CallOp::create(b, TypeRange(), barrierName, ValueRange{barrier, thread, threads});
  }

  /// units * thread / threads.
  Value share(Value units, Value which) {
    return LLVM::UDivOp::create(b, LLVM::MulOp::create(b, units, which), threads64);
  }

  LogicalResult lowerLaunch(LaunchOp launch) {
    Value units = values[launch.getUnits()];
    Value optional; // null if the caller does not want this output
    SmallVector<Value> arguments;
    for (Value buffer : launch.getBuffers()) {
      arguments.push_back(values[buffer]);
      auto array = buffer.getDefiningOp<StepArrayOp>();
      if (array && array.getArray() == StepArray::Embeddings)
        optional = values[buffer];
    }
    if (launch.getReplicated()) {
      arguments.append({constant(0), units});
    } else {
      Value next = LLVM::AddOp::create(b, thread64, constant(1));
      arguments.append({share(units, thread64), share(units, next)});
    }
    arguments.push_back(values[launch.getTokens()]);
    auto call = [&] { LLVM::CallOp::create(b, TypeRange(), launch.getKernel(), arguments); };
    if (!optional) {
      call();
      return success();
    }
    ifNotNull(optional, call);
    return success();
  }

  void ifNotNull(Value optional, llvm::function_ref<void()> body) {
    Value null = LLVM::ZeroOp::create(b, pointer);
    Value wanted = LLVM::ICmpOp::create(b, LLVM::ICmpPredicate::ne, optional, null);
    Block *block = b.getInsertionBlock();
    Block *rest = block->splitBlock(b.getInsertionPoint());
    Block *then = b.createBlock(rest);
    body();
    LLVM::BrOp::create(b, rest);
    b.setInsertionPointToEnd(block);
    LLVM::CondBrOp::create(b, wanted, then, rest);
    b.setInsertionPointToStart(rest);
  }

  /// A function of the caller's that takes rows: (context, index, buffer, rows, columns, thread,
  /// threads); null if it has none.
  struct RowsCall {
    Value function;
    SmallVector<Value> arguments;
    Type resultType;
    Value create(OpBuilder &b, Location loc) const {
      SmallVector<Type> types;
      for (Value argument : ArrayRef(arguments).drop_front())
        types.push_back(argument.getType());
      auto type = LLVM::LLVMFunctionType::get(resultType, types);
      auto call = LLVM::CallOp::create(b, loc, type, arguments);
      return isa<LLVM::LLVMVoidType>(resultType) ? Value() : call.getResult();
    }
  };
  FailureOr<RowsCall> rowsCall(Operation *op, Value buffer, int64_t index, Value count,
                               int64_t functionOffset, int64_t contextOffset, Type resultType) {
    auto type = cast<MemRefType>(buffer.getType());
    bool ids = isa<kernel::ObserveOp>(op) && type.getElementType().isInteger(32);
    if (!type.getElementType().isF32() && !ids)
      return op->emitOpError("expects a buffer of f32");
    // Rows beyond two dimensions are several a token: [tokens, experts, columns].
    int64_t columns = type.getShape().back(), perToken = 1;
    for (int64_t extent : type.getShape().drop_front().drop_back())
      perToken *= extent;
    Type i32 = b.getI32Type();
    auto number = [&](int64_t n) -> Value {
      return LLVM::ConstantOp::create(b, b.getI32IntegerAttr(int32_t(n)));
    };
    Value rows =
        LLVM::TruncOp::create(b, i32, LLVM::MulOp::create(b, values[count], constant(perToken)));
    Value function = field(functionOffset, pointer);
    Value context = field(contextOffset, pointer);
    return RowsCall{
        function,
        {function, context, number(index), values[buffer], rows, number(columns), thread, threads},
        resultType};
  }

  LogicalResult lowerObserve(kernel::ObserveOp observe) {
    FailureOr<RowsCall> call =
        rowsCall(observe, observe.getBuffer(), observe.getIndex(), observe.getCount(),
                 offsetof(quern_step, observe), offsetof(quern_step, observe_context),
                 LLVM::LLVMVoidType::get(b.getContext()));
    if (failed(call))
      return failure();
    ifNotNull(call->function, [&] { call->create(b, b.getLoc()); });
    return success();
  }

  /// Begins a part, which runs unless the caller's function returns zero.
  LogicalResult lowerBoundary(kernel::BoundaryOp boundary) {
    endPart();
    FailureOr<RowsCall> call = rowsCall(boundary, boundary.getBuffer(), boundary.getIndex(),
                                        boundary.getCount(), offsetof(quern_step, boundary),
                                        offsetof(quern_step, boundary_context), b.getI32Type());
    if (failed(call))
      return failure();
    Value none = LLVM::ZeroOp::create(b, pointer);
    Value wanted = LLVM::ICmpOp::create(b, LLVM::ICmpPredicate::ne, call->function, none);
    Block *block = b.getInsertionBlock();
    Block *next = block->splitBlock(b.getInsertionPoint());
    Block *part = b.createBlock(next), *ask = b.createBlock(part);
    Value runs = call->create(b, b.getLoc());
    callBarrier();
    Value zero = LLVM::ZeroOp::create(b, b.getI32Type());
    LLVM::CondBrOp::create(
        b, LLVM::ICmpOp::create(b, LLVM::ICmpPredicate::ne, runs, zero).getResult(), part, next);
    b.setInsertionPointToEnd(block);
    LLVM::CondBrOp::create(b, wanted, ask, part);
    b.setInsertionPointToStart(part);
    afterPart = next;
    return success();
  }
  void endPart() {
    if (!afterPart)
      return;
    LLVM::BrOp::create(b, afterPart);
    b.setInsertionPointToStart(afterPart);
    afterPart = nullptr;
  }

  ImplicitLocOpBuilder &b;
  Type pointer;
  Value step, thread, threads;
  ScheduleOp schedule;
  Value thread64, threads64, scratch, privateScratch;
  llvm::DenseMap<Value, Value> values;
  Block *afterPart = nullptr; ///< where the part being lowered ends
};

struct LowerSchedule : quern::impl::LowerSchedulePassBase<LowerSchedule> {
  using Base::Base;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    ImplicitLocOpBuilder b(module.getLoc(), module.getBodyRegion());
    b.setInsertionPointToEnd(module.getBody());
    auto pointer = LLVM::LLVMPointerType::get(&getContext());
    Type none = LLVM::LLVMVoidType::get(&getContext()), i32 = b.getI32Type();
    auto type = LLVM::LLVMFunctionType::get(none, {pointer, i32, i32});
    if (!module.lookupSymbol(barrierName))
      LLVM::LLVMFuncOp::create(b, barrierName, type);

    SmallVector<ScheduleOp> schedules(module.getOps<ScheduleOp>());
    llvm::sort(schedules, [](ScheduleOp a, ScheduleOp b) {
      return std::pair(a.getMaxTokens(), a.getSymName()) <
             std::pair(b.getMaxTokens(), b.getSymName());
    });
    SmallVector<LLVM::LLVMFuncOp> functions;
    for (ScheduleOp schedule : schedules) {
      if (!schedule.getScratchBytes() || !schedule.getPrivateBytes()) {
        schedule.emitOpError("has no plan: run quern-plan-buffers first");
        return signalPassFailure();
      }
      b.setInsertionPointToEnd(module.getBody());
      auto function = LLVM::LLVMFuncOp::create(b, (symbol + "." + schedule.getSymName()).str(),
                                               type, LLVM::Linkage::Internal);
      function.setNoInline(true);
      Block *entry = function.addEntryBlock(b);
      b.setInsertionPointToStart(entry);
      if (failed(ScheduleLowering(b, entry, schedule).run()))
        return signalPassFailure();
      functions.push_back(function);
    }

    b.setInsertionPointToEnd(module.getBody());
    auto forward = LLVM::LLVMFuncOp::create(b, symbol, type);
    Block *entry = forward.addEntryBlock(b);
    b.setInsertionPointToStart(entry);
    Value tokens = LLVM::LoadOp::create(b, i32, entry->getArgument(0)); // token_count is first
    static_assert(offsetof(quern_step, token_count) == 0);
    for (auto [i, schedule, function] : llvm::enumerate(schedules, functions)) {
      Block *last = nullptr;
      if (i + 1 < schedules.size()) {
        Block *block = b.getInsertionBlock(), *call = b.createBlock(&forward.getBody());
        last = b.createBlock(&forward.getBody());
        b.setInsertionPointToEnd(block);
        Value limit = LLVM::ConstantOp::create(b, b.getI32IntegerAttr(schedule.getMaxTokens()));
        Value fits = LLVM::ICmpOp::create(b, LLVM::ICmpPredicate::sle, tokens, limit);
        LLVM::CondBrOp::create(b, fits, call, last);
        b.setInsertionPointToEnd(call);
      }
      LLVM::CallOp::create(b, function, entry->getArguments());
      LLVM::ReturnOp::create(b, ValueRange());
      if (last)
        b.setInsertionPointToEnd(last);
    }
    for (ScheduleOp schedule : schedules)
      schedule.erase();
  }
};
} // namespace
