//===- Passes.td - From the model level to LLVM -----------------------------===//
//
// In the order of the phase table (lib/Pipeline): each pass can be run alone in quern-opt.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_CONVERSION_PASSES
#define QUERN_CONVERSION_PASSES

include "mlir/Pass/PassBase.td"

def QuernToKernelsPass : Pass<"quern-to-kernels", "::mlir::ModuleOp"> {
  let summary = "outlines kernels and schedules them";
  let description = [{
    Replaces `forward` by two schedules, one for steps of a single token and one for up to
    `max-tokens`, and one function per distinct kernel. Products add themselves to the residual
    they are summed with; rope works in place; activations are quantized once for all
    products that read them. With one token, each thread repeats norms and
    quantizations into a buffer of its own, and keeps to its kv heads: fewer barriers.
    The activation format `fast` is decided here, for each weight: `q8` where its codes are
    integers of fewer than 8 bits, else `bf16` (conversion::fastActivation).

    ```mlir
    %1 = quern.rms_norm %0, %gain eps = 1.0e-5 : tensor<?x576xf32>, tensor<576xf32>
    // becomes, in the schedule for many tokens:
    quern_kernel.launch @rms_norm_576_many(%x, %g, %y) over rows %n tokens %n : ...
    ```
  }];
  let options = [Option<"target", "target", "std::string", "\"x86-64-v3\"",
                        "the CPU target, which decides `fast`">,
                 Option<"maxTokens", "max-tokens", "int64_t", "512",
                        "tokens a step may have; buffers have as many rows">];
  let dependentDialects = ["::quern::kernel::KernelDialect", "::mlir::arith::ArithDialect",
                           "::mlir::func::FuncDialect", "::mlir::LLVM::LLVMDialect"];
  let statistics = [Statistic<"kernels", "kernels", "distinct kernels">];
}

def InsertBarriersPass : Pass<"quern-insert-barriers", "::mlir::ModuleOp"> {
  let summary = "separates launches that depend on each other";
  let description = [{
    Two launches conflict on a buffer when one of them writes it, unless both touch only what
    belongs to their work units and have the same units: then each thread meets only its own
    writes. A barrier is placed before a launch that conflicts with one since the last barrier.
    Private buffers and replicated launches never conflict across threads.

    ```mlir
    quern_kernel.launch @produce(%a) over rows %n tokens %n : memref<8x4xf32>
    // becomes, where @consume reads all of %a:
    quern_kernel.launch @produce(%a) over rows %n tokens %n : memref<8x4xf32>
    quern_kernel.barrier
    quern_kernel.launch @consume(%a, %b) over rows %n tokens %n : memref<8x4xf32>, memref<8x4xf32>
    ```
  }];
  let statistics = [Statistic<"barriers", "barriers", "barriers inserted">];
}

def PlanBuffersPass : Pass<"quern-plan-buffers", "::mlir::ModuleOp"> {
  let summary = "gives every buffer of a schedule its place in the scratch memory";
  let description = [{
    A buffer is live from the first launch that names it to the last; buffers whose lives do
    not overlap, with a barrier between them, share memory. Largest first, each at the lowest offset that is free.
    Offsets are multiples of 64. Private buffers are planned alike within each thread's part.
  }];
  let statistics = [Statistic<"bytes", "bytes", "scratch bytes planned">];
}

def LowerKernelsPass : Pass<"quern-lower-kernels", "::mlir::ModuleOp"> {
  let summary = "expands tile operations for a CPU target";
  let description = [{
    Replaces every tile operation by loops over vectors of the target's width, and the
    transcendental functions left (tanh, erf) by polynomials: generated code calls no library.
    Products become integer dot products (maddubs, vpdpbusd, sdot), or decode weights to floats;
    with 16 tokens and more, a target with AMX multiplies bytes or bf16 in tile registers.

    ```mlir
    quern_kernel.tile_linear q8 %x, %w to %y panels %b, %e tokens %t of tensor<32x64xf32, #quern.q4_0>
        : memref<1536xi8>, memref<1152xi8>, memref<8x32xf32>
    // becomes, for AVX-512, in a loop over panels and steps of 32 columns:
    %d = llvm.call_intrinsic "llvm.x86.avx512.vpdpbusd.512"(%sum, %codes, %quad) : ...
    ```
  }];
  let options = [Option<"target", "target", "std::string", "\"x86-64-v3\"",
                        "the CPU target, by the name `quern compile --target` takes">];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::func::FuncDialect",
                           "::mlir::LLVM::LLVMDialect", "::mlir::math::MathDialect",
                           "::mlir::memref::MemRefDialect", "::mlir::scf::SCFDialect",
                           "::mlir::vector::VectorDialect"];
}

def KernelsToLLVMPass : Pass<"quern-kernels-to-llvm", "::mlir::ModuleOp"> {
  let summary = "converts lowered kernel functions to the LLVM dialect";
  let description = [{
    Buffers become bare pointers: their shapes are static. Schedules are left as they are.
  }];
  let dependentDialects = ["::mlir::affine::AffineDialect", "::mlir::LLVM::LLVMDialect",
                           "::mlir::cf::ControlFlowDialect"];
}

def LowerSchedulePass : Pass<"quern-lower-schedule", "::mlir::ModuleOp"> {
  let summary = "turns schedules into the forward function of Program.h";
  let description = [{
    Defines `symbol` as a `quern_forward`: it picks the first schedule that has room for the
    step's tokens and calls the kernels, each thread for its share of the units.
    Runs after quern-plan-buffers and quern-kernels-to-llvm.
  }];
  let options = [Option<"symbol", "symbol", "std::string", "\"quern_forward\"",
                        "the name of the forward function">,
                 Option<"maxThreads", "max-threads", "int64_t", "64",
                        "threads the scratch memory has private parts for">];
  let dependentDialects = ["::mlir::LLVM::LLVMDialect"];
}

#endif
