//===- ModuleData.h - IR from files, in the compiler ------------*- C++ -*-===//
//
// Private to lib/Pipeline.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_PIPELINE_MODULEDATA_H
#define QUERN_LIB_PIPELINE_MODULEDATA_H

#include "TargetCode.h"
#include "quern/Pipeline/ModuleFile.h"

namespace quern {

/// Parses IR and resolves its data. Errors name the file.
llvm::Expected<std::unique_ptr<OwnedModule>> readModuleFile(llvm::StringRef path);

/// The type of the module's KV cache; null if there is none.
KvCacheType cacheOf(mlir::ModuleOp module);
/// Gives every KV cache of the module this type.
void setCache(mlir::ModuleOp module, KvCacheType type);

} // namespace quern

#endif // QUERN_LIB_PIPELINE_MODULEDATA_H
