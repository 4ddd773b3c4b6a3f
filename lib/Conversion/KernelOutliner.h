//===- KernelOutliner.h - Kernel functions and launches of them -*- C++ -*-===//
//
// Makes one function of each distinct kernel, however many launches need it.
// Private to lib/Conversion.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_CONVERSION_KERNELOUTLINER_H
#define QUERN_LIB_CONVERSION_KERNELOUTLINER_H

#include "quern/Dialect/Kernel/IR/Kernel.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "llvm/ADT/StringMap.h"

namespace quern {

/// A buffer handed to a kernel, and what the kernel does to it.
struct BufferUse {
  mlir::Value buffer;
  kernel::Access access;
};

/// How a launch divides its work. A unit covers `scale` rows (or columns, `panels`: 16).
struct LaunchShape {
  kernel::Domain domain;
  mlir::Value units, tokens;
  bool replicated = false;
};

/// What a kernel's body is written in.
struct KernelBody {
  mlir::ImplicitLocOpBuilder &b;
  mlir::ValueRange buffers;
  mlir::Value begin, end, tokens;

  mlir::Value scaled(mlir::Value v, int64_t factor) {
    if (factor == 1)
      return v;
    return mlir::arith::MulIOp::create(b, v, mlir::arith::ConstantIndexOp::create(b, factor));
  }
  /// Panels to columns, cut off at `columns`.
  mlir::Value column(mlir::Value panel, int64_t columns) {
    mlir::Value v = scaled(panel, 16);
    if (columns % 16 == 0)
      return v;
    return mlir::arith::MinUIOp::create(b, v,
                                        mlir::arith::ConstantIndexOp::create(b, columns));
  }
};

class KernelOutliner {
public:
  explicit KernelOutliner(mlir::ModuleOp module) : module(module), symbols(module) {}

  /// Emits a launch at `b` of a kernel with this body. `name` is what the kernel is called,
  /// with a number when other kernels have it.
  void launch(mlir::OpBuilder &b, mlir::Location loc, llvm::StringRef name,
              llvm::ArrayRef<BufferUse> uses, const LaunchShape &shape,
              llvm::function_ref<void(KernelBody &)> body);

private:
  mlir::ModuleOp module;
  mlir::SymbolTable symbols;
  llvm::StringMap<mlir::func::FuncOp> known; ///< by printed text
};

} // namespace quern

#endif // QUERN_LIB_CONVERSION_KERNELOUTLINER_H
