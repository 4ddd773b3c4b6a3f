//===- quern-translate.cpp - Between IR and everything else ---------------===//
//
// `quern-translate --import-model PATH` prints the model-level IR of a GGUF file or a
// Hugging Face directory.
//
//===----------------------------------------------------------------------===//
#include "mlir/Bytecode/BytecodeWriter.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Support/FileUtilities.h"
#include "quern/Architectures/Architectures.h"
#include "quern/Pipeline/Register.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/ToolOutputFile.h"
#include "llvm/Support/WithColor.h"

namespace cl = llvm::cl;

static cl::opt<std::string> importModel("import-model", cl::Required,
                                        cl::desc("GGUF file or Hugging Face directory to import"),
                                        cl::value_desc("path"));
static cl::opt<std::string> output("o", cl::desc("Output file"), cl::value_desc("file"),
                                   cl::init("-"));
static cl::opt<bool> emitBytecode("emit-bytecode", cl::desc("Write bytecode instead of text"));
static cl::opt<int64_t> context("context", cl::init(0),
                                cl::desc("Positions per sequence (default: the model's)"));
static cl::opt<quern::CacheElement> cache(
    "kv-cache", cl::desc("How keys and values are stored"), cl::init(quern::CacheElement::F16),
    cl::values(clEnumValN(quern::CacheElement::F32, "f32", "32-bit floats"),
               clEnumValN(quern::CacheElement::F16, "f16", "16-bit floats"),
               clEnumValN(quern::CacheElement::Q8_0, "q8_0", "8-bit codes in groups of 32"),
               clEnumValN(quern::CacheElement::Q4, "q4", "4-bit codes, a scale for each head")));

static int fail(const llvm::Twine &message) {
  llvm::WithColor::error(llvm::errs(), "quern-translate") << message << "\n";
  return 1;
}

int main(int argc, char **argv) {
  llvm::InitLLVM init(argc, argv);
  cl::ParseCommandLineOptions(argc, argv, "Translates between models and IR\n");

  mlir::DialectRegistry registry;
  quern::registerDialects(registry);
  mlir::MLIRContext mlirContext(registry);
  quern::architectures::BuildOptions options;
  options.context = context;
  options.cache = cache;
  auto module = quern::architectures::importModel(mlirContext, importModel, options);
  if (!module)
    return fail(llvm::toString(module.takeError()));
  if (failed(mlir::verify(**module)))
    return 1;

  std::string message;
  auto file = mlir::openOutputFile(output, &message);
  if (!file)
    return fail(message);
  if (!emitBytecode) {
    (*module)->print(file->os());
    file->os() << "\n"; // as mlir-opt tools do
  } else if (failed(mlir::writeBytecodeToFile(**module, file->os()))) {
    return fail("cannot write bytecode to " + output);
  }
  file->keep();
  return 0;
}
