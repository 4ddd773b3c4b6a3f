//===- Register.cpp - Every dialect and pass in one place -----------------===//
//
// The dialects of all phases, Quern's passes, and the upstream ones its pipelines use.
//
//===----------------------------------------------------------------------===//
#include "quern/Pipeline/Register.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Transforms/Passes.h"
#include "quern/Conversion/Passes.h"
#include "quern/Dialect/Kernel/IR/Kernel.h"
#include "quern/Dialect/Quern/IR/QuernOps.h"
#include "quern/Dialect/Quern/Transforms/Passes.h"
#include "quern/Quantize/Migrate/Passes.h"
#include "quern/Quantize/Passes/Passes.h"

using namespace mlir;

void quern::registerDialects(DialectRegistry &registry) {
  registry.insert<QuernDialect, kernel::KernelDialect, arith::ArithDialect,
                  cf::ControlFlowDialect, func::FuncDialect, LLVM::LLVMDialect, math::MathDialect,
                  memref::MemRefDialect, scf::SCFDialect, vector::VectorDialect>();
}

void quern::registerPasses() {
  mlir::registerTransformsPasses();
  quern::registerQuernPasses();
  quern::registerQuernConversionPasses();
  quern::registerQuernMigratePasses();
  quern::registerQuernQuantizePasses();
}
