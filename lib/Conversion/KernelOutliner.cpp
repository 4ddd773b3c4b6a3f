//===- KernelOutliner.cpp - Kernel functions and launches of them ---------===//
//
// Kernels are compared by their text: everything that distinguishes them is in it.
//
//===----------------------------------------------------------------------===//
#include "KernelOutliner.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"

using namespace mlir;
using namespace quern;

void KernelOutliner::launch(OpBuilder &builder, Location loc, StringRef name,
                            ArrayRef<BufferUse> uses, const LaunchShape &shape,
                            llvm::function_ref<void(KernelBody &)> body) {
  MLIRContext *context = builder.getContext();
  SmallVector<Type> types;
  SmallVector<Value> buffers;
  for (const BufferUse &use : uses) {
    types.push_back(use.buffer.getType());
    buffers.push_back(use.buffer);
  }
  types.append(kernel::kernelIndexArguments, IndexType::get(context));
  // The location is not the kernel's: many launches share it.
  auto function = func::FuncOp::create(UnknownLoc::get(context), "kernel",
                                       FunctionType::get(context, types, {}));
  function.setPrivate();
  for (auto [i, use] : llvm::enumerate(uses)) {
    function.setArgAttr(i, kernel::accessAttrName, kernel::AccessAttr::get(context, use.access));
    // A buffer that is read and written in place is one argument.
    function.setArgAttr(i, LLVM::LLVMDialect::getNoAliasAttrName(), UnitAttr::get(context));
  }
  Block *entry = function.addEntryBlock();
  ImplicitLocOpBuilder b(function.getLoc(), context);
  b.setInsertionPointToStart(entry);
  ValueRange arguments = entry->getArguments();
  KernelBody kernelBody{b, arguments.drop_back(kernel::kernelIndexArguments),
                        arguments[uses.size()], arguments[uses.size() + 1],
                        arguments[uses.size() + 2]};
  body(kernelBody);
  func::ReturnOp::create(b);

  std::string text = name.str() + "\n";
  llvm::raw_string_ostream os(text);
  function.print(os, OpPrintingFlags().useLocalScope().assumeVerified());
  auto [entryOf, isNew] = known.try_emplace(text, function);
  if (isNew) {
    function.setSymName(name);
    symbols.insert(function); // renames on collision
  } else {
    function.erase();
  }
  kernel::LaunchOp::create(builder, loc, entryOf->second.getSymName(), buffers,
                           shape.domain, shape.units, shape.tokens, shape.replicated);
}
