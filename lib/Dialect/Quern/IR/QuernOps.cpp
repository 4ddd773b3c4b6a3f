//===- QuernOps.cpp - The ops of a decoder --------------------------------===//
//
// Result types and rules of the model-level ops.
//
//===----------------------------------------------------------------------===//
#include "quern/Dialect/Quern/IR/QuernOps.h"
#include "quern/Reference/Hadamard.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include <cmath>

using namespace mlir;
using namespace quern;

#include "quern/Dialect/Quern/IR/QuernInterfaces.cpp.inc"

namespace quern {
// The syntax of a weight's components, in QuernWeightOps.cpp.
ParseResult parseComponents(OpAsmParser &parser, ArrayAttr &components);
void printComponents(OpAsmPrinter &printer, Operation *op, ArrayAttr components);
} // namespace quern

#define GET_OP_CLASSES
#include "quern/Dialect/Quern/IR/QuernOps.cpp.inc"

/// Extent `dim` of a tensor value.
static int64_t extent(Value value, unsigned dim) {
  return cast<RankedTensorType>(value.getType()).getDimSize(dim);
}

/// `name` must have the extent that `what` has; dynamic extents are checked at run time.
static LogicalResult match(Operation *op, StringRef name, int64_t found, StringRef what,
                           int64_t expected) {
  if (found == expected || ShapedType::isDynamic(found) || ShapedType::isDynamic(expected))
    return success();
  return op->emitOpError() << name << " is " << found << ", but " << what << " is " << expected;
}

static LogicalResult finite(Operation *op, StringRef name, const APFloat &value) {
  if (value.isFinite())
    return success();
  return op->emitOpError() << name << " must be finite";
}

static LogicalResult positive(Operation *op, StringRef name, const APFloat &value) {
  if (value.isFinite() && !value.isNegative() && !value.isZero())
    return success();
  return op->emitOpError() << name << " must be positive and finite, found "
                           << value.convertToDouble();
}

/// Result types are inferred before operands are verified, so their ranks are not known yet.
static LogicalResult hasRank(std::optional<Location> location, Value value, int64_t rank) {
  auto type = dyn_cast<RankedTensorType>(value.getType());
  if (type && type.getRank() >= rank)
    return success();
  return emitOptionalError(location, "expected a tensor of at least ", rank, " dimension",
                           rank == 1 ? "" : "s", ", found ", value.getType());
}

static RankedTensorType rows(MLIRContext *context, ArrayRef<int64_t> shape) {
  return RankedTensorType::get(shape, Float32Type::get(context));
}

//===----------------------------------------------------------------------===//
// Products with stored matrices
//===----------------------------------------------------------------------===//

LogicalResult EmbeddingOp::inferReturnTypes(MLIRContext *context, std::optional<Location> loc,
                                            Adaptor op, SmallVectorImpl<Type> &types) {
  if (failed(hasRank(loc, op.getTokens(), 1)) || failed(hasRank(loc, op.getTable(), 2)))
    return failure();
  types.push_back(rows(context, {extent(op.getTokens(), 0), extent(op.getTable(), 1)}));
  return success();
}

LogicalResult EmbeddingOp::verify() { return success(); }

LogicalResult LinearOp::inferReturnTypes(MLIRContext *context, std::optional<Location> loc,
                                         Adaptor op, SmallVectorImpl<Type> &types) {
  if (failed(hasRank(loc, op.getX(), 2)) || failed(hasRank(loc, op.getWeight(), 2)))
    return failure();
  types.push_back(rows(context, {extent(op.getX(), 0), extent(op.getWeight(), 0)}));
  return success();
}

LogicalResult LinearOp::verify() {
  if (failed(match(*this, "width of the input", extent(getX(), 1), "K of the weight",
                   extent(getWeight(), 1))))
    return failure();
  if (getStaticScale()) {
    if (getActivations() != ActivationFormat::Int8)
      return emitOpError("has a static scale, which int8 activations alone take; found ")
             << stringifyEnum(getActivations());
    if (!getStaticScale()->isNormal() || getStaticScale()->isNegative())
      return emitOpError("expects a static scale that is normal and positive");
  }
  if (getOutlierThreshold()) {
    if (getFormat(getWeight().getType()).kind == format::Spec::Kind::Split)
      return emitOpError("has a threshold of outliers, but its weight is a column split, which has "
                         "decided what they are");
    float threshold = getOutlierThreshold()->convertToFloat();
    if (!(threshold > 0) || !std::isfinite(threshold))
      return emitOpError("expects a threshold of outliers above 0 and finite");
  }
  int32_t zero = int32_t(getStaticZero());
  if (zero < -126 || zero > 126 || (zero && !getStaticScale()))
    return emitOpError("expects a static zero in [-126, 126], of a static scale; found ") << zero;
  if (getBias())
    return match(*this, "length of the bias", extent(getBias(), 0), "N of the weight",
                 extent(getWeight(), 0));
  return success();
}

LogicalResult ExpertLinearOp::inferReturnTypes(MLIRContext *context, std::optional<Location> loc,
                                               Adaptor op, SmallVectorImpl<Type> &types) {
  if (failed(hasRank(loc, op.getX(), 1)) || failed(hasRank(loc, op.getWeight(), 2)) ||
      failed(hasRank(loc, op.getIds(), 2)))
    return failure();
  types.push_back(
      rows(context, {extent(op.getX(), 0), extent(op.getIds(), 1), extent(op.getWeight(), 1)}));
  return success();
}

LogicalResult ExpertLinearOp::verify() {
  RankedTensorType x = getX().getType();
  if (failed(match(*this, "width of the input", x.getShape().back(), "K of the weight",
                   extent(getWeight(), 2))) ||
      failed(match(*this, "number of tokens of the ids", extent(getIds(), 0), "that of the input",
                   x.getDimSize(0))))
    return failure();
  if (x.getRank() == 3 && failed(match(*this, "number of slices of the input", x.getDimSize(1),
                                       "number of chosen experts", extent(getIds(), 1))))
    return failure();
  if (extent(getIds(), 1) > extent(getWeight(), 0))
    return emitOpError("chooses ")
           << extent(getIds(), 1) << " of " << extent(getWeight(), 0) << " experts";
  return success();
}

//===----------------------------------------------------------------------===//
// Norms
//===----------------------------------------------------------------------===//

LogicalResult RMSNormOp::verify() {
  int64_t width = extent(getX(), 1), run = extent(getGain(), 0);
  if (!ShapedType::isDynamic(width) && width % run != 0)
    return emitOpError("width of the input is ")
           << width << ", which is no multiple of the gain's length " << run;
  return positive(*this, "eps", getEps());
}

LogicalResult LayerNormOp::verify() {
  if (failed(match(*this, "length of the gain", extent(getGain(), 0), "width of the input",
                   extent(getX(), 1))))
    return failure();
  if (getBias() && failed(match(*this, "length of the bias", extent(getBias(), 0),
                                "width of the input", extent(getX(), 1))))
    return failure();
  return positive(*this, "eps", getEps());
}

//===----------------------------------------------------------------------===//
// Attention
//===----------------------------------------------------------------------===//

LogicalResult RopeOp::verify() {
  int64_t width = extent(getX(), 1), headDim = getHeadDim();
  if (headDim <= 0)
    return emitOpError("head_dim must be positive, found ") << headDim;
  if (!ShapedType::isDynamic(width) && width % headDim != 0)
    return emitOpError("width of the input is ")
           << width << ", which is no multiple of head_dim " << headDim;
  if (static_cast<int64_t>(2 * getFrequencies().size()) > headDim)
    return emitOpError("has ") << getFrequencies().size() << " frequencies, too many for heads of "
                               << headDim;
  return match(*this, "number of positions", extent(getPositions(), 0), "number of tokens",
               extent(getX(), 0));
}

LogicalResult AttentionOp::verify() {
  KvCacheType cache = getCache().getType();
  int64_t layer = getLayer(), width = extent(getQ(), 1);
  if (layer < 0 || layer >= cache.getLayers())
    return emitOpError("layer is ") << layer << ", but the cache has " << cache.getLayers();
  if (failed(match(*this, "width of the keys", extent(getK(), 1), "that of the cache",
                   cache.getKvHeads() * cache.getHeadDim())))
    return failure();
  if (!ShapedType::isDynamic(width) && width % (cache.getKvHeads() * cache.getHeadDim()) != 0)
    return emitOpError("width of the queries is ")
           << width << ", which is no multiple of the keys' width "
           << cache.getKvHeads() * cache.getHeadDim();
  if (failed(match(*this, "number of keys", extent(getK(), 0), "number of queries",
                   extent(getQ(), 0))) ||
      failed(match(*this, "number of positions", extent(getPositions(), 0), "number of queries",
                   extent(getQ(), 0))) ||
      failed(finite(*this, "scale", getScale())))
    return failure();
  if (getWindow() && static_cast<int64_t>(*getWindow()) <= 0)
    return emitOpError("window must be positive, found ") << static_cast<int64_t>(*getWindow());
  return getSoftcap() ? positive(*this, "softcap", *getSoftcap()) : success();
}

void AttentionOp::getAsmResultNames(OpAsmSetValueNameFn setName) {
  setName(getOutput(), "attention");
  setName(getNewCache(), "cache");
}

//===----------------------------------------------------------------------===//
// Elementwise
//===----------------------------------------------------------------------===//

LogicalResult ScaleOp::verify() { return finite(*this, "factor", getFactor()); }

OpFoldResult ScaleOp::fold(FoldAdaptor) {
  return getFactor().isExactlyValue(1.0) ? OpFoldResult(getX()) : OpFoldResult();
}

LogicalResult ScaleChannelsOp::verify() {
  return match(*this, "number of factors", extent(getFactors(), 0), "width of the input",
               getX().getType().getShape().back());
}

LogicalResult HadamardOp::verify() {
  int64_t block = getBlock(), length = cast<RankedTensorType>(getX().getType()).getShape().back();
  if (!reference::hadamardFactor(block))
    return emitOpError("block must be a power of two, or one times 12, 28, 36 or 60, found ")
           << block;
  if (block > 4096)
    return emitOpError("block must be at most 4096, found ") << block;
  if (length % block)
    return emitOpError("blocks of ") << block << " do not divide rows of " << length;
  return success();
}

OpFoldResult HadamardOp::fold(FoldAdaptor) {
  return getBlock() == 1 ? OpFoldResult(getX()) : OpFoldResult();
}

LogicalResult SoftcapOp::verify() { return positive(*this, "cap", getCap()); }

LogicalResult TakeRowsOp::inferReturnTypes(MLIRContext *context, std::optional<Location> loc,
                                           Adaptor op, SmallVectorImpl<Type> &types) {
  if (failed(hasRank(loc, op.getX(), 2)) || failed(hasRank(loc, op.getIndices(), 1)))
    return failure();
  types.push_back(rows(context, {extent(op.getIndices(), 0), extent(op.getX(), 1)}));
  return success();
}

LogicalResult TakeRowsOp::verify() { return success(); }

//===----------------------------------------------------------------------===//
// Experts
//===----------------------------------------------------------------------===//

LogicalResult RouteOp::inferReturnTypes(MLIRContext *context, std::optional<Location> loc,
                                        Adaptor op, SmallVectorImpl<Type> &types) {
  if (failed(hasRank(loc, op.getLogits(), 1)))
    return failure();
  SmallVector<int64_t> shape = {extent(op.getLogits(), 0), static_cast<int64_t>(op.getTopK())};
  // verify() reports a bad number; a tensor type cannot hold it.
  shape[1] = std::max<int64_t>(shape[1], 0);
  types.push_back(RankedTensorType::get(shape, IntegerType::get(context, 32)));
  types.push_back(rows(context, shape));
  return success();
}

LogicalResult RouteOp::verify() {
  int64_t experts = extent(getLogits(), 1), chosen = getTopK();
  if (chosen <= 0 || (!ShapedType::isDynamic(experts) && chosen > experts))
    return emitOpError("chooses ") << chosen << " of " << experts << " experts";
  return success();
}

void RouteOp::getAsmResultNames(OpAsmSetValueNameFn setName) {
  setName(getIds(), "ids");
  setName(getWeights(), "weights");
}

LogicalResult CombineExpertsOp::inferReturnTypes(MLIRContext *context, std::optional<Location> loc,
                                                 Adaptor op, SmallVectorImpl<Type> &types) {
  if (failed(hasRank(loc, op.getX(), 3)))
    return failure();
  types.push_back(rows(context, {extent(op.getX(), 0), extent(op.getX(), 2)}));
  return success();
}

LogicalResult CombineExpertsOp::verify() {
  if (failed(match(*this, "number of tokens of the weights", extent(getWeights(), 0),
                   "that of the input", extent(getX(), 0))))
    return failure();
  return match(*this, "number of weights", extent(getWeights(), 1), "number of slices",
               extent(getX(), 1));
}

//===----------------------------------------------------------------------===//
// Between formats
//===----------------------------------------------------------------------===//

/// `plain` must have no format, `coded` must, and the shapes must agree.
static LogicalResult verifyConversion(Operation *op, RankedTensorType plain, StringRef plainName,
                                      RankedTensorType coded, StringRef codedName) {
  if (plain.getEncoding())
    return op->emitOpError() << plainName << " must have no format, found " << plain;
  if (!isa_and_nonnull<FormatAttr>(coded.getEncoding()))
    return op->emitOpError() << codedName << " must have a format, found " << coded;
  if (plain.getShape() != coded.getShape())
    return op->emitOpError() << "cannot turn " << op->getOperand(0).getType() << " into "
                             << op->getResult(0).getType();
  return success();
}

LogicalResult QuantizeOp::verify() {
  return verifyConversion(*this, getX().getType(), "input", getType(), "result");
}

LogicalResult DequantizeOp::verify() {
  return verifyConversion(*this, getType(), "result", getX().getType(), "input");
}
