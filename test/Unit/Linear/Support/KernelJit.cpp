//===- KernelJit.cpp - Compile emitted kernels and call them --------------===//
//
// The lowering is the shortest that does: upstream conversions, O3, a TargetMachine, and
// LLJIT's linker for the object.
//
//===----------------------------------------------------------------------===//
#include "KernelJit.h"
#include "../../Support/EmulateX86.h"
#include "mlir/Conversion/AffineToStandard/AffineToStandard.h"
#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/ControlFlowToLLVM/ControlFlowToLLVM.h"
#include "mlir/Conversion/FuncToLLVM/ConvertFuncToLLVMPass.h"
#include "mlir/Conversion/MemRefToLLVM/MemRefToLLVM.h"
#include "mlir/Conversion/ReconcileUnrealizedCasts/ReconcileUnrealizedCasts.h"
#include "mlir/Conversion/SCFToControlFlow/SCFToControlFlow.h"
#include "mlir/Conversion/VectorToLLVM/ConvertVectorToLLVMPass.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "mlir/Transforms/Passes.h"
#include "quern/Conversion/LinearEmitter.h"
#include "quern/Format/CodeMeaning.h"
#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/SmallVectorMemoryBuffer.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include <chrono>

using namespace llvm;
using namespace quern;
using namespace quern::conversion;
using quern::test::Effort;

static double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

static void addLowering(mlir::PassManager &passes) {
  passes.addPass(mlir::createCanonicalizerPass());
  passes.addPass(mlir::createCSEPass());
  passes.addPass(mlir::createSCFToControlFlowPass());
  passes.addPass(mlir::memref::createExpandStridedMetadataPass());
  passes.addPass(mlir::createLowerAffinePass());
  passes.addPass(mlir::createConvertVectorToLLVMPass());
  passes.addPass(mlir::createFinalizeMemRefToLLVMConversionPass());
  passes.addPass(mlir::createArithToLLVMConversionPass());
  passes.addPass(mlir::createConvertControlFlowToLLVMPass());
  mlir::ConvertFuncToLLVMPassOptions options;
  options.useBarePtrCallConv = true;
  passes.addPass(mlir::createConvertFuncToLLVMPass(options));
  passes.addPass(mlir::createReconcileUnrealizedCastsPass());
}

static void initialize() {
  static bool once = [] {
    InitializeAllTargetInfos();
    InitializeAllTargets();
    InitializeAllTargetMCs();
    InitializeAllAsmPrinters();
    InitializeAllAsmParsers();
    return true;
  }();
  (void)once;
}

static Expected<std::unique_ptr<TargetMachine>> createMachine(const target::TargetInfo &target,
                                                              Effort effort) {
  std::string error;
  Triple triple(target.triple);
  const Target *found = TargetRegistry::lookupTarget(triple, error);
  if (!found)
    return createStringError(error);
  return std::unique_ptr<TargetMachine>(found->createTargetMachine(
      triple, target.cpu, target.features, TargetOptions(), Reloc::PIC_, std::nullopt,
      effort == Effort::Full ? CodeGenOptLevel::Default : CodeGenOptLevel::Less));
}

/// The module with both functions, as emitted.
static mlir::OwningOpRef<mlir::ModuleOp> buildModule(mlir::MLIRContext &context,
                                                     const LinearDesc &desc,
                                                     const target::TargetInfo &target,
                                                     const format::PackedLayout &layout) {
  mlir::OpBuilder b(&context);
  mlir::Location loc = b.getUnknownLoc();
  mlir::OwningOpRef<mlir::ModuleOp> module = mlir::ModuleOp::create(loc);
  auto memref = [&](ArrayRef<int64_t> shape, mlir::Type element) {
    return mlir::MemRefType::get(shape, element);
  };
  mlir::Type i8 = b.getI8Type(), f32 = b.getF32Type(), index = b.getIndexType();
  ActivationLayout act = ActivationLayout::get(desc.activation, desc.k, desc.weight);
  mlir::Type rows = memref({desc.maxTokens, desc.k}, f32);
  mlir::Type quantized = memref({desc.maxTokens * act.bytes}, i8);
  mlir::Type x = desc.activation == Activation::F32 ? rows : quantized;
  mlir::Type out = memref({desc.maxTokens, desc.n}, f32);
  auto define = [&](StringRef name, ArrayRef<mlir::Type> inputs) {
    b.setInsertionPointToEnd(module->getBody());
    auto function = mlir::func::FuncOp::create(b, loc, name, b.getFunctionType(inputs, {}));
    b.setInsertionPointToStart(function.addEntryBlock());
    return function;
  };
  auto linear = define("linear", {x, memref({layout.bytes()}, i8), memref({desc.n}, f32), out, out,
                                  index, index, index});
  auto a = [&](unsigned i) { return linear.getArgument(i); };
  LinearOperands operands = {a(0), a(1), a(2), a(3), a(4), a(5), a(6), a(7)};
  if (failed(emitLinear(b, loc, desc, target, operands)))
    return nullptr;
  mlir::func::ReturnOp::create(b, loc);
  if (desc.activation != Activation::F32) {
    auto quantize = define("quantize", {rows, quantized, index, index});
    emitQuantizeActivations(b, loc, desc.activation, desc.k, target, quantize.getArgument(0),
                            quantize.getArgument(1), quantize.getArgument(2),
                            quantize.getArgument(3), {{}, desc.largestCode, act.plain, std::nullopt});
    mlir::func::ReturnOp::create(b, loc);
  }
  return module;
}

Expected<std::string> test::translateKernel(const LinearDesc &desc,
                                            const target::TargetInfo &target, Output output,
                                            Kernel *times, Effort effort) {
  initialize();
  Kernel ignored;
  Kernel &t = times ? *times : ignored;
  double start = seconds();
  auto layout = format::PackedLayout::get(desc.weight, desc.n, desc.k);
  if (!layout)
    return layout.takeError();
  mlir::DialectRegistry registry;
  mlir::registerBuiltinDialectTranslation(registry);
  mlir::registerLLVMDialectTranslation(registry);
  mlir::MLIRContext context(registry, mlir::MLIRContext::Threading::DISABLED);
  context.loadDialect<mlir::func::FuncDialect, mlir::arith::ArithDialect, mlir::scf::SCFDialect,
                      mlir::memref::MemRefDialect, mlir::vector::VectorDialect,
                      mlir::LLVM::LLVMDialect, mlir::math::MathDialect>();
  auto module = buildModule(context, desc, target, *layout);
  if (!module)
    return createStringError("the kernel was not emitted");
  std::string text;
  raw_string_ostream stream(text);
  if (output == Output::Mlir) {
    if (failed(mlir::verify(*module)))
      return createStringError("the emitted module is malformed");
    module->print(stream);
    return text;
  }
  mlir::PassManager passes(&context);
  addLowering(passes);
  if (failed(passes.run(*module)))
    return createStringError("lowering to the LLVM dialect failed");
  LLVMContext llvmContext;
  auto llvmModule = mlir::translateModuleToLLVMIR(*module, llvmContext);
  if (!llvmModule)
    return createStringError("translation to LLVM IR failed");
  t.lowerSeconds = seconds() - start;

  start = seconds();
  auto machine = createMachine(target, effort);
  if (!machine)
    return machine.takeError();
  llvmModule->setTargetTriple((*machine)->getTargetTriple());
  llvmModule->setDataLayout((*machine)->createDataLayout());
  for (Function &f : *llvmModule)
    if (!f.isDeclaration()) {
      f.addFnAttr("target-cpu", target.cpu);
      f.addFnAttr("target-features", target.features);
      if (target.vectorBits == 512)
        f.addFnAttr("prefer-vector-width", "512");
      for (Argument &argument : f.args())
        if (argument.getType()->isPointerTy() && argument.getArgNo() < 2)
          argument.addAttr(Attribute::NoAlias);
    }
  PassBuilder builder(machine->get());
  LoopAnalysisManager lam;
  FunctionAnalysisManager fam;
  CGSCCAnalysisManager cgam;
  ModuleAnalysisManager mam;
  builder.registerModuleAnalyses(mam);
  builder.registerCGSCCAnalyses(cgam);
  builder.registerFunctionAnalyses(fam);
  builder.registerLoopAnalyses(lam);
  builder.crossRegisterProxies(lam, fam, cgam, mam);
  auto level = effort == Effort::Full ? OptimizationLevel::O2 : OptimizationLevel::O1;
  builder.buildPerModuleDefaultPipeline(level).run(*llvmModule, mam);
  t.optimizeSeconds = seconds() - start;
  t.scalar = findScalarCode(*llvmModule->getFunction("linear"));
  t.instructions = 0;
  for (Function &f : *llvmModule)
    t.instructions += f.getInstructionCount();
  if (output == Output::LlvmIr) {
    llvmModule->print(stream, nullptr);
    return text;
  }

  start = seconds();
  if (output == Output::RunnableObject && needsEmulation(target)) {
    machine = createMachine(executionTarget(target), effort);
    if (!machine)
      return machine.takeError();
    if (Error unknown = emulateOnV3(*llvmModule))
      return std::move(unknown);
  }
  SmallVector<char, 0> bytes;
  raw_svector_ostream object(bytes);
  legacy::PassManager codegen;
  if ((*machine)->addPassesToEmitFile(codegen, object, nullptr,
                                      output == Output::Assembly ? CodeGenFileType::AssemblyFile
                                                                 : CodeGenFileType::ObjectFile))
    return createStringError("the target cannot emit this kind of file");
  codegen.run(*llvmModule);
  t.codegenSeconds = seconds() - start;
  return std::string(bytes.begin(), bytes.end());
}

Expected<test::Kernel> test::compileKernel(const LinearDesc &desc, const target::TargetInfo &target,
                                           Effort effort) {
  Kernel kernel;
  requestTiles(target);
  auto layout = format::PackedLayout::get(desc.weight, desc.n, desc.k);
  if (!layout)
    return layout.takeError();
  bool integers = format::hasIntegerProducts(*layout);
  bool bf16Tiles = target.amxBf16 && desc.activation == Activation::BF16;
  kernel.roundsWeights = bf16Tiles && !integers;
  kernel.wordActivations =
      target.hasWordProducts() && desc.activation == Activation::BF16 && integers;
  kernel.tilesBesideWords = bf16Tiles && integers;
  kernel.hasOwnOrder =
      bf16Tiles || (target.amxInt8 && desc.activation == Activation::Int8);
  auto object = translateKernel(desc, target, Output::RunnableObject, &kernel, effort);
  if (!object)
    return object.takeError();
  auto jit = orc::LLJITBuilder().create();
  if (!jit)
    return jit.takeError();
  if (Error error = defineTileFunctions(**jit))
    return error;
  if (Error error = (*jit)->addObjectFile(MemoryBuffer::getMemBufferCopy(*object, "kernel.o")))
    return error;
  auto linear = (*jit)->lookup("linear");
  if (!linear)
    return linear.takeError();
  kernel.linear = linear->toPtr<void (*)(const void *, const void *, const float *, const float *,
                                         float *, int64_t, int64_t, int64_t)>();
  if (desc.activation != Activation::F32) {
    auto quantize = (*jit)->lookup("quantize");
    if (!quantize)
      return quantize.takeError();
    kernel.quantize = quantize->toPtr<void (*)(const float *, void *, int64_t, int64_t)>();
  }
  kernel.keepAlive = std::shared_ptr<orc::LLJIT>(std::move(*jit));
  return kernel;
}
