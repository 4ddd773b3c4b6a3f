//===- Inspect.cpp - quern inspect ----------------------------------------===//
//
// Lists the tensors, formats, bytes and metadata of any input.
//
//===----------------------------------------------------------------------===//
#include "quern/Import/Inspect.h"
#include "Commands.h"
#include "quern/Pipeline/InspectModule.h"
#include "quern/Quantize/Statistics.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/FileSystem.h"

namespace quern::tool {

static const char usage[] =
    "usage: quern inspect FILE [--json] [--full]\n\n"
    "Lists the tensors, formats, bytes and metadata of a GGUF file (the first of a split one), a\n"
    "Hugging Face directory, a .safetensors file, anything `quern compile` writes (of a .a or .o\n"
    "file it reads the .weights file beside it) or the statistics `quern calibrate` writes.\n\n"
    "  --json   print one JSON object\n"
    "  --full   print long metadata (vocabularies) in full\n";

int inspect(int argc, char **argv) {
  llvm::StringRef path;
  bool json = false, full = false;
  for (int i = 1; i < argc; ++i) {
    llvm::StringRef arg = argv[i];
    if (arg == "--help" || arg == "-h") {
      llvm::outs() << usage;
      return Success;
    }
    if (arg == "--json")
      json = true;
    else if (arg == "--full")
      full = true;
    else if (!arg.starts_with("-") && path.empty())
      path = arg;
    else {
      llvm::errs() << "quern: error: unexpected argument '" << arg << "'\n\n" << usage;
      return Usage;
    }
  }
  if (path.empty()) {
    llvm::errs() << "quern: error: expected a file\n\n" << usage;
    return Usage;
  }
  if (isModule(path)) {
    llvm::Expected<llvm::json::Object> report = inspectModule(path);
    if (!report)
      return fail(report.takeError());
    if (json)
      llvm::outs() << llvm::json::Value(std::move(*report)) << "\n";
    else
      printModule(*report, llvm::outs());
    return Success;
  }
  // Archives and objects cannot carry a payload; it lies beside.
  std::string beside = (path + ".weights").str();
  if ((path.ends_with(".a") || path.ends_with(".o")) && llvm::sys::fs::exists(path) &&
      import::isProgram(beside))
    path = beside;
  if (import::isProgram(path)) {
    llvm::Expected<llvm::json::Object> report = import::inspectProgram(path);
    if (!report)
      return fail(report.takeError());
    if (json)
      llvm::outs() << llvm::json::Value(std::move(*report)) << "\n";
    else
      import::printProgram(*report, llvm::outs());
    return Success;
  }
  if (quantize::isStatistics(path) || quantize::isImatrix(path)) {
    llvm::Expected<quantize::Statistics> statistics = quantize::Statistics::readAny(path, nullptr);
    if (!statistics)
      return fail(statistics.takeError());
    if (json)
      llvm::outs() << llvm::json::Value(statistics->summary()) << "\n";
    else
      statistics->print(llvm::outs());
    return Success;
  }
  llvm::Expected<import::ModelFile> model = import::open(path);
  if (!model)
    return fail(model.takeError());
  if (json)
    llvm::outs() << llvm::json::Value(import::inspect(*model, full)) << "\n";
  else
    import::printInspection(*model, full, llvm::outs());
  return Success;
}

} // namespace quern::tool
