//===- QuernWeightOps.cpp - Files, weights, their use ---------------------===//
//
// Syntax and rules of the ops that name stored data: every byte range lies in its
// file, sizes agree with the format, views lie within what they view.
//
//===----------------------------------------------------------------------===//
#include "quern/Dialect/Quern/IR/QuernOps.h"
#include "quern/Format/Size.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace quern;

//===----------------------------------------------------------------------===//
// FileOp
//===----------------------------------------------------------------------===//

LogicalResult FileOp::verify() {
  if (getPath().empty())
    return emitOpError("needs a path");
  if (static_cast<int64_t>(getSize()) < 0)
    return emitOpError("size must not be negative, found ") << static_cast<int64_t>(getSize());
  return success();
}

//===----------------------------------------------------------------------===//
// WeightOp
//===----------------------------------------------------------------------===//

namespace quern {
ParseResult parseComponents(OpAsmParser &parser, ArrayAttr &components);
void printComponents(OpAsmPrinter &printer, Operation *op, ArrayAttr components);
} // namespace quern

/// `[data @file at 64 size 128, scales 1 @file at ...]`
ParseResult quern::parseComponents(OpAsmParser &parser, ArrayAttr &components) {
  SmallVector<Attribute> list;
  auto parseOne = [&]() -> ParseResult {
    FailureOr<ComponentRole> role = FieldParser<ComponentRole>::parse(parser);
    StringAttr file;
    unsigned level = 0;
    uint64_t offset, size;
    if (failed(role))
      return failure();
    OptionalParseResult hasLevel = parser.parseOptionalInteger(level);
    if (hasLevel.has_value() && failed(*hasLevel))
      return failure();
    if (parser.parseSymbolName(file) || parser.parseKeyword("at") || parser.parseInteger(offset) ||
        parser.parseKeyword("size") || parser.parseInteger(size))
      return failure();
    list.push_back(ComponentAttr::get(parser.getContext(), *role, FlatSymbolRefAttr::get(file),
                                      offset, size, level));
    return success();
  };
  if (parser.parseCommaSeparatedList(AsmParser::Delimiter::Square, parseOne))
    return failure();
  components = parser.getBuilder().getArrayAttr(list);
  return success();
}

void quern::printComponents(OpAsmPrinter &printer, Operation *, ArrayAttr components) {
  printer << "[";
  llvm::interleaveComma(components.getAsRange<ComponentAttr>(), printer, [&](ComponentAttr part) {
    printer << stringifyEnum(part.getRole()) << " ";
    if (part.getLevel())
      printer << part.getLevel() << " ";
    printer.printAttributeWithoutType(part.getFile());
    printer << " at " << part.getOffset() << " size " << part.getSize();
  });
  printer << "]";
}

uint64_t WeightOp::getStoredBytes() {
  uint64_t bytes = 0;
  if (!isView() && getComponents())
    for (auto part : getComponents()->getAsRange<ComponentAttr>())
      bytes = llvm::SaturatingAdd(bytes, part.getSize());
  return bytes;
}

LogicalResult WeightOp::verify() {
  if (isView()) {
    if (getComponents() || getLayout())
      return emitOpError("is a view, which has neither a layout nor components of its own");
    if (!getRowBegin())
      return emitOpError("is a view, which needs the row it begins at");
    return success();
  }
  if (getRowBegin())
    return emitOpError("has a first row but is not a view");
  // A weight whose data is yet to be made (by a quantizer) has no components.
  if (!getComponents())
    return success();
  if (getComponents()->empty())
    return emitOpError("has an empty list of components");
  if (!getLayout())
    return emitOpError("has components but no layout");
  LayoutKind layout = getLayout()->getKind();
  for (auto part : getComponents()->getAsRange<ComponentAttr>())
    if (layout == LayoutKind::GGUF && part.getRole() != ComponentRole::Data)
      return emitOpError("lies in GGUF blocks, which hold 'data', found '")
             << stringifyEnum(part.getRole()) << "'";
  // Packed panels pad rows; only whoever packs them knows the size.
  if (layout == LayoutKind::Panel)
    return success();
  std::vector<int64_t> sets;
  if (format::Spec spec = getFormat(getTensorType()); spec.kind == format::Spec::Kind::Split) {
    auto columns = format::splitColumns(spec, getTensorType().getShape().back());
    if (!columns)
      return emitOpError() << llvm::toString(columns.takeError());
    sets = std::move(*columns);
  }
  // GGUF's blocks interleave the same bytes that the canonical layout keeps apart.
  llvm::Expected<uint64_t> expected =
      format::storedBytes(getFormat(getTensorType()), getTensorType().getShape(), sets);
  if (!expected)
    return emitOpError() << llvm::toString(expected.takeError());
  if (*expected != getStoredBytes())
    return emitOpError("has components of ")
           << getStoredBytes() << " bytes, but its type takes " << *expected;
  return success();
}

/// Checks that `view` takes whole rows (and row groups) of `base`.
static LogicalResult verifyView(WeightOp view, WeightOp base) {
  RankedTensorType type = view.getTensorType(), whole = base.getTensorType();
  if (base.isView())
    return view.emitOpError("views @") << base.getSymName() << ", which is a view itself";
  if (type.getEncoding() != whole.getEncoding())
    return view.emitOpError("has another format than @") << base.getSymName() << ", which it views";
  if (type.getRank() != whole.getRank() ||
      type.getShape().drop_front() != whole.getShape().drop_front())
    return view.emitOpError("of type ") << type << " cannot be rows of " << whole;
  int64_t begin = *view.getRowBegin(), rows = type.getDimSize(0);
  if (begin < 0 || begin > whole.getDimSize(0) - rows)
    return view.emitOpError("takes rows [")
           << begin << ", " << begin + rows << ") of @" << base.getSymName() << ", which has "
           << whole.getDimSize(0);
  if (type.getRank() != 2)
    return success();
  format::Spec spec = getFormat(type);
  for (auto *levels : {&spec.scale, &spec.offset, &spec.zero})
    for (const format::Level &level : *levels)
      if (level.tile.rows > 1 && (begin % level.tile.rows || rows % level.tile.rows))
        return view.emitOpError("cuts the groups of ") << level.tile.rows << " rows of its format";
  return success();
}

LogicalResult WeightOp::verifySymbolUses(SymbolTableCollection &symbols) {
  if (isView()) {
    auto base = symbols.lookupNearestSymbolFrom<WeightOp>(*this, getSourceAttr());
    if (!base)
      return emitOpError("views @") << *getSource() << ", which is not a weight";
    return verifyView(*this, base);
  }
  if (!getComponents())
    return success();
  for (auto part : getComponents()->getAsRange<ComponentAttr>()) {
    auto file = symbols.lookupNearestSymbolFrom<FileOp>(*this, part.getFile());
    if (!file)
      return emitOpError("lies in ") << part.getFile() << ", which is not a file";
    if (part.getOffset() > file.getSize() || part.getSize() > file.getSize() - part.getOffset())
      return emitOpError("ends beyond ") << part.getFile() << ": bytes [" << part.getOffset()
                                         << ", +" << part.getSize() << ") of " << file.getSize();
  }
  return success();
}

//===----------------------------------------------------------------------===//
// UseOp
//===----------------------------------------------------------------------===//

LogicalResult UseOp::verifySymbolUses(SymbolTableCollection &symbols) {
  auto weight = symbols.lookupNearestSymbolFrom<WeightOp>(*this, getWeightAttr());
  if (!weight)
    return emitOpError("@") << getWeight() << " is not a weight";
  if (weight.getTensorType() != getType())
    return emitOpError("has type ")
           << getType() << ", but @" << getWeight() << " is " << weight.getTensorType();
  return success();
}

/// Named after the last meaningful part of the weight: `%attn_q` for `blk.0.attn_q.weight`.
void UseOp::getAsmResultNames(OpAsmSetValueNameFn setName) {
  StringRef name = getWeightAttr() ? getWeight() : "";
  name.consume_back(".weight");
  setName(getResult(), name.substr(name.rfind('.') + 1));
}
