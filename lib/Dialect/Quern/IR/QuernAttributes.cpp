//===- QuernAttributes.cpp - Formats, layouts and the rest ----------------===//
//
// Attributes of the model-level dialect. A format is spelled by the Format library;
// here its text is only found, and its rules turned into diagnostics.
//
//===----------------------------------------------------------------------===//
#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "quern/Dialect/Quern/IR/QuernTypes.h"
#include "quern/Format/Known.h"
#include "quern/Format/Size.h"
#include "llvm/ADT/TypeSwitch.h"
#include <cmath>

using namespace mlir;
using namespace quern;

llvm::hash_code format::hash_value(const Spec &spec) { return llvm::hash_value(print(spec)); }

#include "quern/Dialect/Quern/IR/QuernEnums.cpp.inc"

#define GET_ATTRDEF_CLASSES
#include "quern/Dialect/Quern/IR/QuernAttributes.cpp.inc"

void QuernDialect::registerAttributes() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "quern/Dialect/Quern/IR/QuernAttributes.cpp.inc"
      >();
}

//===----------------------------------------------------------------------===//
// Dialect attribute syntax
//===----------------------------------------------------------------------===//

/// `text`, the spelling of a format, as an attribute.
static Attribute parseFormat(DialectAsmParser &parser, StringRef text) {
  llvm::Expected<format::Spec> spec = format::parse(text);
  if (!spec) {
    parser.emitError(parser.getNameLoc(), "malformed format: ") << llvm::toString(spec.takeError());
    return {};
  }
  return FormatAttr::get(parser.getContext(), *spec);
}

Attribute QuernDialect::parseAttribute(DialectAsmParser &parser, Type type) const {
  // The generic lexer does not know the spelling of formats (`f16[1x32]`), so they are
  // taken as text. The parser has matched the brackets and skips the whole symbol.
  StringRef symbol = parser.getFullSymbolSpec();
  if (symbol.consume_front("format<")) {
    symbol.consume_back(">");
    return parseFormat(parser, symbol);
  }
  if (!symbol.contains('<') && format::knownSpec(symbol))
    return parseFormat(parser, symbol);

  StringRef mnemonic;
  Attribute attribute;
  OptionalParseResult result = generatedAttributeParser(parser, &mnemonic, type, attribute);
  if (result.has_value())
    return attribute;
  parser.emitError(parser.getNameLoc())
      << "'" << mnemonic << "' is neither an attribute of 'quern' nor the name of a format";
  return {};
}

void QuernDialect::printAttribute(Attribute attr, DialectAsmPrinter &printer) const {
  if (auto formatAttr = dyn_cast<FormatAttr>(attr)) {
    StringRef name = format::knownName(formatAttr.getSpec());
    if (!name.empty())
      printer << name;
    else
      printer << "format<" << format::print(formatAttr.getSpec()) << ">";
    return;
  }
  (void)generatedAttributePrinter(attr, printer);
}

//===----------------------------------------------------------------------===//
// FormatAttr
//===----------------------------------------------------------------------===//

LogicalResult FormatAttr::verify(function_ref<InFlightDiagnostic()> emitError, format::Spec spec) {
  if (llvm::Error error = format::validate(spec))
    return emitError() << "malformed format: " << llvm::toString(std::move(error));
  return success();
}

LogicalResult FormatAttr::verifyEncoding(ArrayRef<int64_t> shape, Type elementType,
                                         function_ref<InFlightDiagnostic()> emitError) const {
  if (!elementType.isF32())
    return emitError() << "a tensor with a format is logically f32, found " << elementType;
  if (shape.empty())
    return emitError() << "a tensor with a format needs at least one dimension";
  SmallVector<int64_t> sizes(shape);
  for (int64_t &size : sizes) {
    if (size == 0)
      return emitError() << "a tensor with a format has no empty dimension";
    if (ShapedType::isDynamic(size))
      size = 1;
  }
  // A split's column sets are data, so its size is known only to the weight.
  if (getSpec().kind == format::Spec::Kind::Base)
    if (auto bytes = format::storedBytes(getSpec(), sizes); !bytes)
      return emitError() << llvm::toString(bytes.takeError());
  return success();
}

/// Reached when a format is nested in another attribute without its dialect prefix,
/// which no attribute of this dialect does; dialect syntax is in parseAttribute.
Attribute FormatAttr::parse(AsmParser &parser, Type) {
  parser.emitError(parser.getCurrentLocation(), "expected '#quern.format<...>'");
  return {};
}

void FormatAttr::print(AsmPrinter &printer) const {
  printer << "<" << format::print(getSpec()) << ">";
}

//===----------------------------------------------------------------------===//
// LayoutAttr
//===----------------------------------------------------------------------===//

LogicalResult LayoutAttr::verify(function_ref<InFlightDiagnostic()> emitError, LayoutKind kind,
                                 int64_t rows) {
  if (kind == LayoutKind::Panel && rows <= 0)
    return emitError() << "a panel layout needs a number of rows, e.g. <panel, 16>";
  if (kind != LayoutKind::Panel && rows != 0)
    return emitError() << "only a panel layout has a number of rows, found " << rows;
  return success();
}

//===----------------------------------------------------------------------===//
// RopeAttr
//===----------------------------------------------------------------------===//

LogicalResult RopeAttr::verify(function_ref<InFlightDiagnostic()> emitError, RopePairing pairing,
                               FloatAttr factor, DenseF32ArrayAttr frequencies) {
  if (frequencies.empty())
    return emitError() << "rope needs at least one frequency";
  if (!factor.getType().isF32() || !factor.getValue().isFinite())
    return emitError() << "the factor of a rope must be a finite f32, found " << factor;
  for (float frequency : frequencies.asArrayRef())
    if (!std::isfinite(frequency) || frequency < 0)
      return emitError() << "rope frequencies must be finite and not negative, found "
                         << std::to_string(frequency);
  return success();
}

static ParseResult parseFloat(AsmParser &parser, float &value) {
  APFloat number(0.0f);
  if (parser.parseFloat(APFloat::IEEEsingle(), number))
    return failure();
  value = number.convertToFloat();
  return success();
}

Attribute RopeAttr::parse(AsmParser &parser, Type) {
  SMLoc loc = parser.getCurrentLocation();
  FailureOr<RopePairing> pairing;
  float factor;
  SmallVector<float> frequencies;
  if (parser.parseLess() || failed(pairing = FieldParser<RopePairing>::parse(parser)) ||
      parser.parseComma() || parser.parseKeyword("factor") || parser.parseEqual() ||
      parseFloat(parser, factor) || parser.parseComma() || parser.parseKeyword("frequencies") ||
      parser.parseEqual() ||
      parser.parseCommaSeparatedList(
          AsmParser::Delimiter::Square,
          [&] { return parseFloat(parser, frequencies.emplace_back()); }) ||
      parser.parseGreater())
    return {};
  Builder &builder = parser.getBuilder();
  return RopeAttr::getChecked([&] { return parser.emitError(loc); }, parser.getContext(), *pairing,
                              builder.getF32FloatAttr(factor),
                              builder.getDenseF32ArrayAttr(frequencies));
}

void RopeAttr::print(AsmPrinter &printer) const {
  printer << "<" << stringifyEnum(getPairing()) << ", factor = ";
  printer.printFloat(APFloat(getFactor()));
  printer << ", frequencies = [";
  llvm::interleaveComma(getFrequencies(), printer,
                        [&](float frequency) { printer.printFloat(APFloat(frequency)); });
  printer << "]>";
}

//===----------------------------------------------------------------------===//
// Stored tensors
//===----------------------------------------------------------------------===//

bool quern::isStoredTensor(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor && tensor.getElementType().isF32() && tensor.hasStaticShape() &&
         !llvm::is_contained(tensor.getShape(), 0) &&
         (!tensor.getEncoding() || isa<FormatAttr>(tensor.getEncoding()));
}

format::Spec quern::getFormat(RankedTensorType type) {
  if (auto formatAttr = dyn_cast_or_null<FormatAttr>(type.getEncoding()))
    return formatAttr.getSpec();
  return format::Spec::plain(format::Number::floating(format::FloatKind::F32));
}

RankedTensorType quern::getStoredType(MLIRContext *context, ArrayRef<int64_t> shape,
                                      const format::Spec &spec) {
  return RankedTensorType::get(shape, Float32Type::get(context), FormatAttr::get(context, spec));
}
