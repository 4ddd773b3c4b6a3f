//===- QuernTypes.cpp - The key-value cache -------------------------------===//
//
// Types of the model-level dialect.
//
//===----------------------------------------------------------------------===//
#include "quern/Dialect/Quern/IR/QuernTypes.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace quern;

#define GET_TYPEDEF_CLASSES
#include "quern/Dialect/Quern/IR/QuernTypes.cpp.inc"

void QuernDialect::registerTypes() {
  addTypes<
#define GET_TYPEDEF_LIST
#include "quern/Dialect/Quern/IR/QuernTypes.cpp.inc"
      >();
}

static constexpr int64_t kQ8Group = 32; // q8_0: 32 int8 codes, then an f16 scale
static constexpr int64_t kQ8GroupBytes = 34;

LogicalResult KvCacheType::verify(function_ref<InFlightDiagnostic()> emitError, int64_t layers,
                                  int64_t kvHeads, int64_t headDim, CacheElement element,
                                  int64_t contextLength) {
  if (layers <= 0 || kvHeads <= 0 || headDim <= 0)
    return emitError() << "the sizes of a cache must be positive, found " << layers << "x"
                       << kvHeads << "x" << headDim;
  if (contextLength <= 0)
    return emitError() << "the context of a cache must be positive, found " << contextLength;
  if ((element == CacheElement::Q8_0 || element == CacheElement::Q4) && headDim % kQ8Group != 0)
    return emitError() << "a " << stringifyEnum(element)
                       << " cache needs heads that are a multiple of " << kQ8Group << ", found "
                       << headDim;
  int64_t slot = 2 * 4;
  for (int64_t size : {layers, kvHeads, headDim, contextLength})
    if (llvm::MulOverflow(slot, size, slot))
      return emitError() << "a cache slot of " << layers << "x" << kvHeads << "x" << headDim
                         << " with context " << contextLength << " is too large";
  return success();
}

int64_t KvCacheType::getHeadBytes() {
  switch (getElement()) {
  case CacheElement::F32:
    return getHeadDim() * 4;
  case CacheElement::F16:
    return getHeadDim() * 2;
  case CacheElement::Q8_0:
    return getHeadDim() / kQ8Group * kQ8GroupBytes;
  case CacheElement::Q4:
    return getHeadDim() / 2 + 2;
  }
  llvm_unreachable("covered switch");
}

int64_t KvCacheType::getSlotBytes() {
  return 2 * getLayers() * getKvHeads() * getContextLength() * getHeadBytes();
}

Type KvCacheType::parse(AsmParser &parser) {
  SMLoc loc = parser.getCurrentLocation();
  SmallVector<int64_t> sizes;
  FailureOr<CacheElement> element;
  int64_t contextLength;
  if (parser.parseLess() || parser.parseDimensionList(sizes, /*allowDynamic=*/false))
    return {};
  if (sizes.size() != 3) {
    parser.emitError(loc, "expected layers x kv_heads x head_dim, found ")
        << sizes.size() << " sizes";
    return {};
  }
  if (failed(element = FieldParser<CacheElement>::parse(parser)) || parser.parseComma() ||
      parser.parseKeyword("context") || parser.parseEqual() || parser.parseInteger(contextLength) ||
      parser.parseGreater())
    return {};
  return getChecked([&] { return parser.emitError(loc); }, parser.getContext(), sizes[0], sizes[1],
                    sizes[2], *element, contextLength);
}

void KvCacheType::print(AsmPrinter &printer) const {
  printer << "<" << getLayers() << "x" << getKvHeads() << "x" << getHeadDim() << "x"
          << stringifyEnum(getElement()) << ", context = " << getContextLength() << ">";
}
