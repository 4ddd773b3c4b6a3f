//===- KernelsToLLVM.cpp - Lowered kernels to the LLVM dialect ------------===//
//
// One conversion of all kernel functions, with bare pointers for buffers.
//
//===----------------------------------------------------------------------===//
#include "mlir/Conversion/AffineToStandard/AffineToStandard.h"
#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/ControlFlowToLLVM/ControlFlowToLLVM.h"
#include "mlir/Conversion/FuncToLLVM/ConvertFuncToLLVM.h"
#include "mlir/Conversion/IndexToLLVM/IndexToLLVM.h"
#include "mlir/Conversion/LLVMCommon/ConversionTarget.h"
#include "mlir/Conversion/LLVMCommon/TypeConverter.h"
#include "mlir/Conversion/MathToLLVM/MathToLLVM.h"
#include "mlir/Conversion/MemRefToLLVM/MemRefToLLVM.h"
#include "mlir/Conversion/SCFToControlFlow/SCFToControlFlow.h"
#include "mlir/Conversion/VectorToLLVM/ConvertVectorToLLVM.h"
#include "mlir/Dialect/Arith/Transforms/Passes.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/Transforms/Transforms.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Dialect/Vector/Transforms/LoweringPatterns.h"
#include "mlir/Dialect/Vector/Transforms/VectorRewritePatterns.h"
#include "mlir/Transforms/DialectConversion.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "quern/Conversion/Passes.h"
#include "quern/Dialect/Kernel/IR/Kernel.h"

namespace quern {
#define GEN_PASS_DEF_KERNELSTOLLVMPASS
#include "quern/Conversion/Passes.h.inc"
} // namespace quern

using namespace mlir;
using namespace quern;

namespace {
struct KernelsToLLVM : quern::impl::KernelsToLLVMPassBase<KernelsToLLVM> {
  using Base::Base;

  void runOnOperation() override {
    MLIRContext *context = &getContext();
    if (failed(simplifyVectors()))
      return signalPassFailure();

    LowerToLLVMOptions options(context);
    options.useBarePtrCallConv = true;
    LLVMTypeConverter types(context, options);
    RewritePatternSet patterns(context);
    populateAffineToStdConversionPatterns(patterns);
    populateSCFToControlFlowConversionPatterns(patterns);
    cf::populateControlFlowToLLVMConversionPatterns(types, patterns);
    arith::populateCeilFloorDivExpandOpsPatterns(patterns);
    arith::populateArithToLLVMConversionPatterns(types, patterns);
    index::populateIndexToLLVMConversionPatterns(types, patterns);
    populateMathToLLVMConversionPatterns(types, patterns);
    populateFinalizeMemRefToLLVMConversionPatterns(types, patterns);
    populateVectorToLLVMConversionPatterns(types, patterns);
    populateFuncToLLVMConversionPatterns(types, patterns);

    LLVMConversionTarget target(*context);
    SmallVector<Operation *> functions;
    for (auto function : getOperation().getOps<func::FuncOp>()) {
      // Kernels are called through launches only; argument attributes have no use in LLVM.
      for (unsigned i = 0; i < function.getNumArguments(); ++i)
        function.removeArgAttr(i, kernel::accessAttrName);
      functions.push_back(function);
    }
    for (auto table : getOperation().getOps<memref::GlobalOp>())
      functions.push_back(table);
    if (failed(applyFullConversion(functions, target, std::move(patterns))))
      return signalPassFailure();
    // Kernels are shared by many launches; what is private here is internal to the object.
    for (auto function : getOperation().getOps<LLVM::LLVMFuncOp>())
      if (!function.isExternal() && function.isPrivate()) {
        function.setLinkage(LLVM::Linkage::Internal);
        function.setVisibility(SymbolTable::Visibility::Public);
        function.setNoInline(true);
      }
  }

  /// What the conversion to LLVM does not take: slices and masks of vectors, views of memrefs.
  LogicalResult simplifyVectors() {
    RewritePatternSet patterns(&getContext());
    memref::populateExpandStridedMetadataPatterns(patterns);
    vector::populateVectorInsertExtractStridedSliceTransforms(patterns);
    vector::populateVectorMaskOpLoweringPatterns(patterns);
    SmallVector<Operation *> affected;
    getOperation().walk([&](Operation *op) {
      if (isa<memref::SubViewOp, memref::CollapseShapeOp, memref::ExpandShapeOp,
              vector::ExtractStridedSliceOp, vector::InsertStridedSliceOp, vector::ConstantMaskOp>(
              op))
        affected.push_back(op);
    });
    if (affected.empty())
      return success();
    GreedyRewriteConfig config;
    config.setStrictness(GreedyRewriteStrictness::ExistingAndNewOps);
    return applyOpPatternsGreedily(affected, std::move(patterns), config);
  }
};
} // namespace
