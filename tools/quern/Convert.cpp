//===- Convert.cpp - quern convert ----------------------------------------===//
//
// Goes between GGUF and Hugging Face models.
//
//===----------------------------------------------------------------------===//
#include "quern/Export/Convert.h"
#include "Commands.h"
#include "quern/Import/Inspect.h"
#include "llvm/ADT/StringRef.h"

namespace quern::tool {

static const char usage[] =
    "usage: quern convert IN OUT [--dequantize f32|bf16] [--format F] [--force] [--json]\n\n"
    "Writes the model IN as OUT: a GGUF file if OUT ends in .gguf, bare weights if it ends in\n"
    ".safetensors, else a Hugging Face directory. Split and sharded models become one file.\n\n"
    "  --dequantize f32|bf16  decode coded tensors to this type\n"
    "  --format F             encode weight matrices to F, a type of the output (q8_0, bf16, ...)\n"
    "  --force                overwrite OUT\n"
    "  --json                 report what was written as JSON\n";

/// Reads the output back: what is reported is what lies there.
static int report(llvm::StringRef output, bool json) {
  llvm::Expected<import::ModelFile> written = import::open(output);
  if (!written)
    return fail(written.takeError());
  if (json) {
    llvm::json::Object whole = import::inspect(*written);
    llvm::json::Object brief;
    for (const char *key : {"path", "container", "types", "elements", "bytes"})
      brief[key] = std::move(*whole.get(key));
    llvm::outs() << llvm::json::Value(std::move(brief)) << "\n";
  } else {
    import::printTotals(*written, llvm::outs());
  }
  return Success;
}

int convert(int argc, char **argv) {
  std::vector<llvm::StringRef> paths;
  exporter::ConvertOptions options;
  bool json = false;
  auto wrong = [](const llvm::Twine &message) {
    llvm::errs() << "quern: error: " << message << "\n\n" << usage;
    return int(Usage);
  };
  for (int i = 1; i < argc; ++i) {
    llvm::StringRef arg = argv[i];
    auto [name, value] = arg.split('=');
    if (arg == "--help" || arg == "-h") {
      llvm::outs() << usage;
      return Success;
    }
    if (arg == "--force") {
      options.force = true;
    } else if (arg == "--json") {
      json = true;
    } else if (name == "--dequantize" || name == "--format") {
      if (!arg.contains('=')) {
        if (++i == argc)
          return wrong(name + " needs a value");
        value = argv[i];
      }
      (name == "--format" ? options.format : options.dequantize) = value.str();
    } else if (arg.starts_with("-")) {
      return wrong("unknown option '" + arg + "'");
    } else {
      paths.push_back(arg);
    }
  }
  if (paths.size() != 2)
    return wrong("expected an input and an output");
  options.note = [](const std::string &text) { llvm::errs() << "quern: note: " << text << "\n"; };
  llvm::Expected<import::ModelFile> model = import::open(paths[0]);
  if (!model)
    return fail(model.takeError());
  if (llvm::Error e = exporter::convert(*model, paths[1], options))
    return fail(std::move(e));
  return report(paths[1], json);
}

} // namespace quern::tool
