//===- ModuleData.cpp - IR from files, in the compiler --------------------===//
//
// See ModuleData.h.
//
//===----------------------------------------------------------------------===//
#include "ModuleData.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/Support/MemoryBuffer.h"

using namespace mlir;
using namespace quern;
using llvm::createStringError;
using llvm::Expected;
using llvm::StringRef;

Expected<std::unique_ptr<OwnedModule>> quern::readModuleFile(StringRef path) {
  auto buffer = llvm::MemoryBuffer::getFile(path);
  if (!buffer)
    return createStringError("cannot read '" + path + "': " + buffer.getError().message());
  Expected<std::unique_ptr<OwnedModule>> owned = parseModule((*buffer)->getBuffer());
  if (!owned)
    return createStringError(path + ": " + llvm::toString(owned.takeError()));
  if (llvm::Error e = resolveData(*(*owned)->module, path))
    return std::move(e);
  return owned;
}

KvCacheType quern::cacheOf(ModuleOp module) {
  KvCacheType found;
  module.walk([&](func::FuncOp function) {
    for (Type type : function.getArgumentTypes())
      if (auto cache = dyn_cast<KvCacheType>(type))
        found = cache;
  });
  return found;
}

void quern::setCache(ModuleOp module, KvCacheType type) {
  auto change = [&](Value value) {
    if (isa<KvCacheType>(value.getType()))
      value.setType(type);
  };
  module.walk([&](Operation *op) {
    for (Value result : op->getResults())
      change(result);
    for (Region &region : op->getRegions())
      for (Block &block : region)
        for (Value argument : block.getArguments())
          change(argument);
    if (auto function = dyn_cast<func::FuncOp>(op)) {
      auto renewed = [&](TypeRange types) {
        SmallVector<Type> out(types);
        for (Type &t : out)
          if (isa<KvCacheType>(t))
            t = type;
        return out;
      };
      function.setType(FunctionType::get(op->getContext(), renewed(function.getArgumentTypes()),
                                         renewed(function.getResultTypes())));
    }
  });
}
