//===- Architectures.cpp - The table of architectures ---------------------===//
//
// A new architecture is a file beside this one and a line here.
//
//===----------------------------------------------------------------------===//
#include "quern/Architectures/Architectures.h"
#include "DecoderBuilder.h"

using namespace mlir;
using namespace quern;
using namespace quern::architectures;

static const Architecture *const table[] = {&llama, &qwen2, &qwen3, &qwen3moe, &gemma3, &phi3};

SmallVector<StringRef> architectures::knownArchitectures() {
  SmallVector<StringRef> names;
  for (const Architecture *architecture : table)
    names.push_back(architecture->name);
  return names;
}

llvm::Expected<OwningOpRef<ModuleOp>> architectures::buildModel(MLIRContext &context,
                                                                const import::ModelFile &model,
                                                                const import::ModelConfig &config,
                                                                const BuildOptions &options) {
  context.loadDialect<QuernDialect, func::FuncDialect>();
  for (const Architecture *architecture : table)
    if (architecture->name == config.architecture)
      return DecoderBuilder(context, model, config, options).build(*architecture);
  return llvm::createStringError(model.path + ": unknown architecture '" + config.architecture +
                                 "'; known: " + llvm::join(knownArchitectures(), ", "));
}

llvm::Expected<OwningOpRef<ModuleOp>>
architectures::importModel(MLIRContext &context, StringRef path, const BuildOptions &options) {
  llvm::Expected<import::ModelFile> model = import::open(path);
  if (!model)
    return model.takeError();
  llvm::Expected<import::ModelConfig> config = import::readConfig(*model);
  if (!config)
    return config.takeError();
  return buildModel(context, *model, *config, options);
}
