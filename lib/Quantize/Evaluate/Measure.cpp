//===- Measure.cpp - Times of kernels on this host ------------------------===//
//
// All kernels in one module: one compilation, one object, loaded in process.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Measure.h"
#include "Candidates.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "quern/Conversion/LinearEmitter.h"
#include "quern/Conversion/Passes.h"
#include "quern/Emit/ObjectFile.h"
#include "quern/Pipeline/Register.h"
#include "quern/Quantize/Program.h"
#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/SmallVectorMemoryBuffer.h"
#include "llvm/Support/Threading.h"
#include "llvm/TargetParser/Host.h"
#include <chrono>
#include <mutex>
#include <thread>

using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

namespace {
/// A product whose kernel is to be timed.
struct TimedProduct {
  format::Spec spec;
  int64_t rows, columns;
  conversion::LinearDesc desc;
  format::PackedLayout layout;
  std::string symbol;
};

/// Bytes at a 64-byte boundary.
struct Memory {
  explicit Memory(size_t size)
      : data(static_cast<uint8_t *>(std::aligned_alloc(64, llvm::alignTo(size + 64, 64)))) {}
  ~Memory() { std::free(data); }
  Memory(const Memory &) = delete;
  uint8_t *data;
};
} // namespace

/// As the kernel of the system names it; else LLVM's name.
static std::string cpuName() {
  if (auto buffer = llvm::MemoryBuffer::getFileAsStream("/proc/cpuinfo")) {
    StringRef rest = (*buffer)->getBuffer();
    if (size_t at = rest.find("model name"); at != StringRef::npos)
      return rest.substr(at).split('\n').first.split(':').second.trim().str();
  }
  return llvm::sys::getHostCPUName().str();
}

static double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// One function for each product: (x, weights, out, begin, end), panels [begin, end) of one token.
static Expected<emit::Bytes> compileKernels(llvm::ArrayRef<TimedProduct> subjects,
                                            const target::TargetInfo &target) {
  emit::TargetModule all{target, {}, {}};
  for (const TimedProduct &subject : subjects)
    all.exported.push_back(subject.symbol);
  mlir::DialectRegistry registry;
  registerDialects(registry);
  mlir::registerBuiltinDialectTranslation(registry);
  mlir::registerLLVMDialectTranslation(registry);
  mlir::MLIRContext context(registry, mlir::MLIRContext::Threading::DISABLED);
  context.loadAllAvailableDialects();
  all.build = [&](llvm::LLVMContext &llvmContext) -> Expected<std::unique_ptr<llvm::Module>> {
    mlir::OpBuilder b(&context);
    mlir::Location loc = b.getUnknownLoc();
    mlir::OwningOpRef<mlir::ModuleOp> module = mlir::ModuleOp::create(loc);
    auto memref = [&](llvm::ArrayRef<int64_t> shape, mlir::Type element) {
      return mlir::MemRefType::get(shape, element);
    };
    mlir::Type i8 = b.getI8Type(), f32 = b.getF32Type(), index = b.getIndexType();
    for (const TimedProduct &s : subjects) {
      auto layout = conversion::ActivationLayout::get(s.desc.activation, s.columns, s.desc.weight);
      mlir::Type x = s.desc.activation == conversion::Activation::F32 ? memref({1, s.columns}, f32)
                                                                      : memref({layout.bytes}, i8);
      b.setInsertionPointToEnd(module->getBody());
      auto function = mlir::func::FuncOp::create(
          b, loc, s.symbol,
          b.getFunctionType(
              {x, memref({s.layout.bytes()}, i8), memref({1, s.rows}, f32), index, index}, {}));
      b.setInsertionPointToStart(function.addEntryBlock());
      auto argument = [&](unsigned i) { return function.getArgument(i); };
      mlir::Value one = mlir::arith::ConstantIndexOp::create(b, loc, 1);
      conversion::LinearOperands operands = {argument(0), argument(1), nullptr,     nullptr,
                                             argument(2), one,         argument(3), argument(4)};
      if (mlir::failed(conversion::emitLinear(b, loc, s.desc, target, operands)))
        return createStringError("no kernel for " + format::formatName(s.spec));
      mlir::func::ReturnOp::create(b, loc);
    }
    static std::once_flag once;
    std::call_once(once, registerPasses);
    mlir::PassManager passes(&context);
    if (mlir::failed(mlir::parsePassPipeline("canonicalize,cse,quern-kernels-to-llvm", passes)) ||
        mlir::failed(passes.run(*module)))
      return createStringError("lowering of the kernels failed");
    auto out = mlir::translateModuleToLLVMIR(*module, llvmContext);
    if (!out)
      return createStringError("translation of the kernels failed");
    return std::move(out);
  };
  auto objects = emit::compileModules(all, emit::CodeKind::Object, 1);
  if (!objects)
    return objects.takeError();
  return std::move(objects->front());
}

using KernelFunction = void (*)(const void *x, const void *weights, float *out, int64_t begin,
                                int64_t end);

/// The least time of one product over all threads. Weights lie in copies that no cache holds.
static double timeKernel(const TimedProduct &subject, KernelFunction kernel, unsigned threads,
                         double seconds) {
  size_t bytes = llvm::alignTo(size_t(subject.layout.bytes()), 64);
  size_t copies = std::max<size_t>(1, (size_t(48) << 20) / bytes);
  Memory weights(bytes * copies), out(size_t(subject.layout.panels()) * 16 * sizeof(float));
  auto layout = conversion::ActivationLayout::get(subject.desc.activation, subject.columns, subject.desc.weight);
  size_t inputBytes = std::max(size_t(layout.bytes), size_t(subject.columns) * sizeof(float));
  Memory x(inputBytes);
  memset(x.data, 0, inputBytes);
  memset(weights.data, 0, bytes * copies); // speed does not depend on the values
  int64_t panels = subject.layout.panels();
  double best = INFINITY, end = now() + seconds;
  for (unsigned round = 0; round < 3 || now() < end; ++round) {
    double start = now();
    auto work = [&](unsigned thread) {
      int64_t first = panels * thread / threads, last = panels * (thread + 1) / threads;
      for (size_t i = 0; i < copies; ++i)
        kernel(x.data, weights.data + i * bytes, reinterpret_cast<float *>(out.data), first, last);
    };
    std::vector<std::thread> others;
    for (unsigned t = 1; t < threads; ++t)
      others.emplace_back(work, t);
    work(0);
    for (std::thread &other : others)
      other.join();
    best = std::min(best, (now() - start) / double(copies));
  }
  return best;
}

/// What a step of the program takes beyond its products: those of one format known, and the rest.
static double timeRest(const MeasureOptions &options, const Candidates &plan,
                       const KernelTimes &times) {
  auto unknown = [](Error e) {
    llvm::consumeError(std::move(e));
    return 0.0;
  };
  double products = 0;
  for (const Tensor &tensor : plan.tensors) {
    if (!tensor.isProduct)
      continue;
    Expected<double> own = times.seconds("Q8_0", tensor.rows, tensor.columns);
    if (!own)
      return unknown(own.takeError());
    products += *own;
  }
  ProgramOptions program;
  program.floatEngine = false;
  program.format = "q8_0";
  program.dequantize = true;
  program.threads = options.threads;
  auto made = Program::create(options.model, program);
  if (!made)
    return unknown(made.takeError());
  std::vector<float> logits;
  double best = INFINITY, end = now() + 0.5;
  for (unsigned round = 0; round < 5 || now() < end; ++round) {
    double start = now();
    if (Error e = (*made)->run({0}, logits))
      return unknown(std::move(e));
    best = std::min(best, now() - start);
  }
  return std::max(0.0, best - products);
}

Expected<KernelTimes> quern::quantize::measureKernels(const MeasureOptions &options) {
  auto step = [&](StringRef phase, double fraction) -> Error {
    if (options.progress && !options.progress(phase, fraction))
      return createStringError("cancelled");
    return Error::success();
  };
  Expected<ModelSource> model = ModelSource::open(options.model);
  if (!model)
    return model.takeError();
  QuantizeOptions quantize;
  quantize.formats = options.formats;
  quantize.allowRequantize = true; // shapes and formats alone matter
  Expected<target::TargetInfo> target = target::lookup("native");
  if (!target)
    return target.takeError();
  // Without a list, what quantize() chooses from for files of either kind.
  Expected<Candidates> plan = Candidates::plan(*model, quantize, /*gguf=*/false);
  if (!plan)
    return plan.takeError();
  if (options.formats.empty()) {
    Expected<Candidates> others = Candidates::plan(*model, quantize, /*gguf=*/true);
    if (!others)
      return others.takeError();
    for (auto [tensor, other] : llvm::zip_equal(plan->tensors, others->tensors))
      llvm::append_range(tensor.candidates, other.candidates);
  }
  std::vector<TimedProduct> subjects;
  for (const Tensor &tensor : plan->tensors)
    for (const Candidate &candidate : tensor.candidates) {
      auto same = [&](const TimedProduct &s) {
        return s.spec == candidate.spec && s.rows == tensor.rows && s.columns == tensor.columns;
      };
      if (!tensor.isProduct || llvm::any_of(subjects, same))
        continue;
      auto layout = format::PackedLayout::get(candidate.spec, tensor.rows, tensor.columns);
      if (!layout)
        return layout.takeError();
      conversion::LinearDesc desc;
      desc.weight = candidate.spec;
      desc.n = tensor.rows;
      desc.k = tensor.columns;
      desc.activation = conversion::fastActivation(*target, *layout);
      subjects.push_back({candidate.spec, tensor.rows, tensor.columns, desc, std::move(*layout),
                          "kernel_" + std::to_string(subjects.size())});
    }
  if (Error e = step("compile", 0))
    return std::move(e);
  Expected<emit::Bytes> object = compileKernels(subjects, *target);
  if (!object)
    return object.takeError();
  auto jit = llvm::orc::LLJITBuilder().create();
  if (!jit)
    return jit.takeError();
  if (Error e = (*jit)->addObjectFile(
          std::make_unique<llvm::SmallVectorMemoryBuffer>(std::move(*object), false)))
    return std::move(e);
  KernelTimes out;
  out.cpu = cpuName();
  out.target = target->name;
  out.threads = options.threads ? options.threads
                                : unsigned(llvm::hardware_concurrency().compute_thread_count());
  for (auto [i, subject] : llvm::enumerate(subjects)) {
    if (Error e = step("measure", double(i) / double(subjects.size())))
      return std::move(e);
    auto address = (*jit)->lookup(subject.symbol);
    if (!address)
      return address.takeError();
    out.kernels.push_back(
        {format::formatName(subject.spec), subject.rows, subject.columns,
         timeKernel(subject, address->toPtr<KernelFunction>(), out.threads, options.seconds)});
  }
  if (Error e = step("program", 0))
    return std::move(e);
  out.other = timeRest(options, *plan, out);
  return out;
}
