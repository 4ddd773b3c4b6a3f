//===- QuernDialect.cpp - The model-level dialect -------------------------===//
//
// Registers the dialect, gives its attributes aliases in printed IR, and checks the
// attributes it puts on modules.
//
//===----------------------------------------------------------------------===//
#include "quern/Dialect/Quern/IR/QuernOps.h"

using namespace mlir;
using namespace quern;

#include "quern/Dialect/Quern/IR/QuernDialect.cpp.inc"

namespace {

/// Long attributes that many ops share are printed once, at the top of a file.
struct QuernAsmInterface : public OpAsmDialectInterface {
  using OpAsmDialectInterface::OpAsmDialectInterface;

  AliasResult getAlias(Attribute attr, raw_ostream &os) const override {
    if (isa<RopeAttr>(attr)) {
      os << "rope";
      return AliasResult::FinalAlias;
    }
    return AliasResult::NoAlias;
  }
};

} // namespace

void QuernDialect::initialize() {
  registerAttributes();
  registerTypes();
  addOperations<
#define GET_OP_LIST
#include "quern/Dialect/Quern/IR/QuernOps.cpp.inc"
      >();
  addInterfaces<QuernAsmInterface>();
}

LogicalResult QuernDialect::verifyOperationAttribute(Operation *op, NamedAttribute attribute) {
  if (attribute.getName() != kModelAttr)
    return success();
  if (!isa<ModuleOp>(op))
    return op->emitOpError() << "'" << kModelAttr << "' belongs on a module";
  auto parameters = dyn_cast<DictionaryAttr>(attribute.getValue());
  if (!parameters)
    return op->emitOpError() << "'" << kModelAttr << "' must be a dictionary, found "
                             << attribute.getValue();
  for (NamedAttribute parameter : parameters)
    if (!isa<StringAttr, IntegerAttr, FloatAttr, BoolAttr, UnitAttr>(parameter.getValue()))
      return op->emitOpError() << "'" << kModelAttr << "' entry '" << parameter.getName().strref()
                               << "' must be a string, a number or a flag, found "
                               << parameter.getValue();
  return success();
}
