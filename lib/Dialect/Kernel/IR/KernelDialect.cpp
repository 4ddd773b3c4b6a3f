//===- KernelDialect.cpp - Registration and verifiers ---------------------===//
//
// The kernel-level dialect. Verifiers check the shapes lowering relies on.
//
//===----------------------------------------------------------------------===//
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "quern/Dialect/Kernel/IR/Kernel.h"
#include "quern/Reference/Hadamard.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace quern::kernel;

#include "quern/Dialect/Kernel/IR/KernelDialect.cpp.inc"
#include "quern/Dialect/Kernel/IR/KernelEnums.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "quern/Dialect/Kernel/IR/KernelAttributes.cpp.inc"
#define GET_OP_CLASSES
#include "quern/Dialect/Kernel/IR/KernelOps.cpp.inc"

void KernelDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "quern/Dialect/Kernel/IR/KernelAttributes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "quern/Dialect/Kernel/IR/KernelOps.cpp.inc"
      >();
}

static MemRefType typeOf(Value v) { return cast<MemRefType>(v.getType()); }
static int64_t elements(Value v) { return typeOf(v).getNumElements(); }
static int64_t columns(Value v) { return typeOf(v).getShape().back(); }

static LogicalResult sameShape(Operation *op, StringRef a, Value x, StringRef b, Value y) {
  if (typeOf(x).getShape() == typeOf(y).getShape())
    return success();
  return op->emitOpError() << "expects " << a << " and " << b << " of the same shape, found "
                           << x.getType() << " and " << y.getType();
}

static LogicalResult divides(Operation *op, StringRef part, int64_t divisor, Value whole) {
  if (divisor > 0 && columns(whole) % divisor == 0)
    return success();
  return op->emitOpError() << "expects rows of a multiple of " << part << " (" << divisor
                           << ") elements, found " << whole.getType();
}

LogicalResult ScheduleOp::verifyRegions() {
  for (Operation &op : getBody().front())
    if (!isa<KernelDialect>(op.getDialect()) || op.getName().stripDialect().starts_with("tile_"))
      return op.emitOpError("is not an operation of a schedule");
  return success();
}

LogicalResult CacheOp::verify() {
  auto type = cast<MemRefType>(getResult().getType());
  if (type.getRank() != 2)
    return emitOpError() << "expects a memref [slots, elements of a slot], found " << type;
  if (getByteOffset() < 0)
    return emitOpError() << "expects an offset of at least 0, found " << getByteOffset();
  return success();
}

LogicalResult LaunchOp::verifySymbolUses(SymbolTableCollection &symbols) {
  Operation *callee = symbols.lookupNearestSymbolFrom(*this, getKernelAttr());
  if (!callee)
    return emitOpError() << "refers to unknown kernel " << getKernelAttr();
  auto function = dyn_cast<func::FuncOp>(callee);
  if (!function) // already lowered
    return success();
  SmallVector<Type> expected(getBuffers().getTypes());
  expected.append(kernelIndexArguments, IndexType::get(getContext()));
  if (function.getArgumentTypes() != ArrayRef<Type>(expected) || function.getNumResults())
    return emitOpError() << "expects kernel " << getKernelAttr() << " to take its "
                         << getBuffers().size() << " buffers and (begin, end, tokens), found "
                         << function.getFunctionType();
  return success();
}

std::optional<Access> LaunchOp::accessOf(unsigned i, SymbolTable &symbols) {
  auto function = symbols.lookup<func::FuncOp>(getKernel());
  if (!function)
    return std::nullopt;
  if (auto attr = function.getArgAttrOfType<AccessAttr>(i, accessAttrName))
    return attr.getValue();
  return std::nullopt;
}

LogicalResult TileRmsNormOp::verify() {
  if (failed(divides(*this, "the gain", elements(getGain()), getX())))
    return failure();
  return sameShape(*this, "x", getX(), "out", getOut());
}

LogicalResult TileLayerNormOp::verify() {
  if (failed(divides(*this, "the gain", elements(getGain()), getX())))
    return failure();
  if (getBias() && elements(getBias()) != elements(getGain()))
    return emitOpError() << "expects gain and bias of the same length, found "
                         << getGain().getType() << " and " << getBias().getType();
  return sameShape(*this, "x", getX(), "out", getOut());
}

LogicalResult TileRopeTableOp::verify() {
  int64_t dims = 2 * getFrequencies().size();
  if (columns(getOut()) != dims)
    return emitOpError() << "expects table rows of twice the " << getFrequencies().size()
                         << " frequencies, found " << getOut().getType();
  return success();
}

LogicalResult TileRopeOp::verify() {
  if (failed(divides(*this, "heads", getHeads(), getX())))
    return failure();
  int64_t headDim = columns(getX()) / getHeads();
  if (columns(getTable()) > headDim || columns(getTable()) % 2)
    return emitOpError() << "expects an even number of rotated dimensions, at most " << headDim
                         << ", found " << columns(getTable());
  return success();
}

/// Checks what store and attention share: the geometry of a cache slot.
template <typename OpT> static LogicalResult verifyCache(OpT op, int64_t headDim) {
  if (op.getCapacity() <= 0 || op.getCapacity() % keyLanes)
    return op.emitOpError() << "expects a capacity that is a positive multiple of " << keyLanes
                            << ", found " << op.getCapacity();
  bool coded = typeOf(op.getKCache()).getElementType().isInteger(8);
  if (op.getKCache().getType() != op.getVCache().getType())
    return op.emitOpError("expects key and value caches of the same type");
  if (coded != bool(op.getKScales()))
    return op.emitOpError("expects scales with an i8 cache, and only then");
  if (coded && headDim % cacheGroup)
    return op.emitOpError() << "expects heads of a multiple of " << cacheGroup
                            << " dimensions for an i8 cache, found " << headDim;
  if (coded && !typeOf(op.getKScales()).getElementType().isF16())
    return op.emitOpError() << "expects f16 scales, found " << op.getKScales().getType();
  if (op.getCodeBits() != 8 && (op.getCodeBits() != 4 || !coded))
    return op.emitOpError() << "expects code_bits of 8, or 4 with an i8 cache, found "
                            << op.getCodeBits();
  int64_t lines = op.getKvHeads() * op.getCapacity();
  int64_t needed = lines * headDim * op.getCodeBits() / 8;
  int64_t scales = op.getCodeBits() == 4 ? lines : lines * headDim / cacheGroup;
  if (coded && (typeOf(op.getKScales()).getRank() != 2 || columns(op.getKScales()) < scales))
    return op.emitOpError() << "expects at least " << scales << " scales a slot, found "
                            << op.getKScales().getType();
  if (typeOf(op.getKCache()).getRank() != 2 || columns(op.getKCache()) < needed)
    return op.emitOpError() << "expects cache slots of at least " << needed << " elements, found "
                            << op.getKCache().getType();
  return success();
}

LogicalResult TileStoreKvOp::verify() {
  if (failed(divides(*this, "kv_heads", getKvHeads(), getK())) ||
      failed(sameShape(*this, "k", getK(), "v", getV())))
    return failure();
  return verifyCache(*this, columns(getK()) / getKvHeads());
}

LogicalResult TileAttentionOp::verify() {
  if (failed(divides(*this, "heads", getHeads(), getQ())) ||
      failed(sameShape(*this, "q", getQ(), "out", getOut())))
    return failure();
  if (getKvHeads() <= 0 || getHeads() % getKvHeads())
    return emitOpError() << "expects heads (" << getHeads() << ") to be a multiple of kv_heads ("
                         << getKvHeads() << ")";
  if (getTokenBlock() < 1 || getRowBlock() < 1)
    return emitOpError("expects blocks of at least one token and one row");
  return verifyCache(*this, columns(getQ()) / getHeads());
}

LogicalResult TileGatedActivationOp::verify() {
  if (failed(sameShape(*this, "gate", getGate(), "up", getUp())))
    return failure();
  return sameShape(*this, "gate", getGate(), "out", getOut());
}

LogicalResult TileAddOp::verify() {
  if (failed(sameShape(*this, "a", getA(), "b", getB())))
    return failure();
  return sameShape(*this, "a", getA(), "out", getOut());
}

LogicalResult TileScaleChannelsOp::verify() {
  if (elements(getFactors()) != columns(getX()))
    return emitOpError() << "expects a factor for each of " << columns(getX())
                         << " columns, found " << getFactors().getType();
  return sameShape(*this, "x", getX(), "out", getOut());
}

LogicalResult TileOutliersOp::verify() { return sameShape(*this, "x", getX(), "out", getOut()); }

LogicalResult TileScaleOp::verify() { return sameShape(*this, "x", getX(), "out", getOut()); }

LogicalResult TileHadamardOp::verify() {
  if (failed(sameShape(*this, "x", getX(), "out", getOut())))
    return failure();
  if (!reference::hadamardFactor(int64_t(getBlock())) || columns(getX()) % int64_t(getBlock()))
    return emitOpError() << "expects blocks with a known Hadamard matrix that divide rows of "
                         << columns(getX()) << ", found " << getBlock();
  return success();
}

LogicalResult TileTakeRowsOp::verify() {
  if (columns(getX()) == columns(getOut()))
    return success();
  return emitOpError() << "expects rows of the same length, found " << getX().getType() << " and "
                       << getOut().getType();
}

LogicalResult TileTakeColumnsOp::verify() {
  if (elements(getIndices()) != columns(getX()))
    return emitOpError() << "expects an index for each of " << columns(getX()) << " columns, found "
                         << getIndices().getType();
  return sameShape(*this, "x", getX(), "out", getOut());
}

LogicalResult TileRouteOp::verify() {
  if (failed(sameShape(*this, "experts", getExperts(), "weights", getWeights())))
    return failure();
  if (columns(getExperts()) > columns(getLogits()))
    return emitOpError() << "expects at most as many experts used as there are ("
                         << columns(getLogits()) << "), found " << columns(getExperts());
  return success();
}

LogicalResult TileCombineExpertsOp::verify() {
  if (columns(getX()) == columns(getOut()))
    return success();
  return emitOpError() << "expects rows of the same length, found " << getX().getType() << " and "
                       << getOut().getType();
}

LogicalResult TileQuantizeOp::verify() {
  if (getForm() != Activation::Int8 && (getStaticScale() || getStaticZero()))
    return emitOpError("has a static scale or zero, which form int8 alone takes");
  bool isInteger = getForm() == Activation::Int8 || getForm() == Activation::Q8;
  if (getBits() != 8 && (getBits() != 4 || !isInteger || getStaticScale()))
    return emitOpError("expects codes of 8 bits, or of 4 for forms q8 and int8 without a static "
                       "scale; found ")
           << getBits();
  int64_t plain = int64_t(getPlain());
  if (plain && (getForm() != Activation::Int8 || plain < 0 || plain % 32 ||
                plain >= columns(getX())))
    return emitOpError("expects groups of 32 of the columns of int8 rows to stay f32, found ")
           << plain;
  return success();
}

LogicalResult TileLinearOp::verify() {
  auto type = dyn_cast<RankedTensorType>(getWeightType());
  if (!type || type.getRank() != 2 || !type.hasStaticShape())
    return emitOpError() << "expects a matrix type, found " << getWeightType();
  if (columns(getOut()) != type.getDimSize(0))
    return emitOpError() << "expects rows of " << type.getDimSize(0) << " results, found "
                         << getOut().getType();
  bool plain = typeOf(getX()).getElementType().isF32();
  if (plain != (getForm() == Activation::F32))
    return emitOpError() << "expects f32 rows for form f32 and bytes for the others, found "
                         << getX().getType();
  if (plain && columns(getX()) != type.getDimSize(1))
    return emitOpError() << "expects rows of " << type.getDimSize(1) << " activations, found "
                         << getX().getType();
  return success();
}

LogicalResult TileExpertLinearOp::verify() {
  auto type = dyn_cast<RankedTensorType>(getWeightType());
  if (!type || type.getRank() != 3 || !type.hasStaticShape())
    return emitOpError() << "expects the type of a stack of matrices, found " << getWeightType();
  if (columns(getOut()) != type.getDimSize(1))
    return emitOpError() << "expects rows of " << type.getDimSize(1) << " results, found "
                         << getOut().getType();
  return success();
}
