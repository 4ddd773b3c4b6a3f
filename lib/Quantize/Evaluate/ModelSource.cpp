//===- ModelSource.cpp - What is quantized: a file, or IR -----------------===//
//
// See ModelSource.h.
//
//===----------------------------------------------------------------------===//
#include "ModelSource.h"
#include "mlir/Parser/Parser.h"
#include "quern/Dialect/Quern/IR/QuernOps.h"
#include "quern/Format/Known.h"
#include "quern/Format/Matrix.h"
#include "quern/Import/ModelConfig.h"
#include "quern/Pipeline/InspectModule.h"
#include "quern/Pipeline/ModuleFile.h"
#include "quern/Pipeline/Register.h"
#include "quern/Quantize/Passes/Passes.h"
#include "llvm/Support/MemoryBuffer.h"

using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

format::Spec ColumnSplit::with(const format::Spec &rest) const {
  format::Spec out = spec;
  out.terms.back() = rest;
  return out;
}

/// A weight of the module as a tensor of its files.
static Error addTensor(WeightOp weight, mlir::SymbolTable &symbols,
                       llvm::StringMap<unsigned> &files, ModelSource &out) {
  import::TensorInfo info;
  info.name = info.canonical = weight.getSymName().str();
  info.shape = weight.getTensorType().getShape().vec();
  info.spec = getFormat(weight.getTensorType());
  info.fileType = format::formatName(info.spec);
  if (!info.spec.isPlain())
    return createStringError(out.model.path + ": '" + info.name + "' is " + info.fileType +
                             " already: IR is quantized as long as its matrices are floats");
  for (auto part : weight.getComponentsAttr().getAsRange<ComponentAttr>()) {
    StringRef symbol = part.getFile().getValue();
    auto [found, fresh] = files.try_emplace(symbol, unsigned(out.model.files.size()));
    if (fresh) {
      auto file = symbols.lookup<FileOp>(symbol);
      out.model.files.push_back({file.getPath().str(), uint64_t(file.getSize())});
    }
    info.pieces.push_back({found->second, uint64_t(part.getOffset()), uint64_t(part.getSize())});
    info.size += uint64_t(part.getSize());
  }
  if (info.pieces.size() > 1) {
    out.model.stacks.push_back(std::move(info));
    return Error::success();
  }
  info.file = info.pieces[0].file;
  info.offset = info.pieces[0].offset;
  info.pieces.clear();
  out.model.tensors.push_back(std::move(info));
  return Error::success();
}

static Expected<ModelSource> openModule(StringRef path) {
  mlir::DialectRegistry registry;
  registerDialects(registry);
  mlir::MLIRContext context(registry, mlir::MLIRContext::Threading::DISABLED);
  std::string messages;
  mlir::ScopedDiagnosticHandler handler(&context, [&](mlir::Diagnostic &diagnostic) {
    messages += (messages.empty() ? "" : "\n") + diagnostic.str();
    return mlir::success();
  });
  auto module = mlir::parseSourceFile<mlir::ModuleOp>(path, &context);
  if (!module)
    return createStringError(path + ": " +
                             (messages.empty() ? "it cannot be read" : StringRef(messages)));
  if (Error e = resolveData(*module, path))
    return std::move(e);
  Expected<ModuleExtras> extras = readModuleExtras(*module, path);
  if (!extras)
    return extras.takeError();
  ModelSource out;
  out.tokenizer = std::move(extras->tokenizer);
  out.chat = std::move(extras->chat);
  out.isModule = true;
  out.model.path = path.str();
  mlir::SymbolTable symbols(*module);
  llvm::StringMap<unsigned> files;
  for (auto weight : module->getOps<WeightOp>()) {
    if (weight.isView())
      continue;
    if (!weight.getComponents() || weight.getComponents()->empty())
      return createStringError(path + ": weight '" + weight.getSymName() + "' has no data");
    if (Error e = addTensor(weight, symbols, files, out))
      return std::move(e);
    auto columns = weight->getAttrOfType<mlir::DenseI32ArrayAttr>(kSplitColumnsAttr);
    auto chosen = weight->getAttrOfType<FormatAttr>(kChosenFormatAttr);
    if (columns && chosen && chosen.getSpec().kind == format::Spec::Kind::Split)
      out.splits[weight.getSymName()] = {columns.asArrayRef().vec(), chosen.getSpec()};
  }
  module->walk([&](RouteOp op) { out.expertsUsed = op.getTopK(); });
  module->walk([&](AttentionOp op) {
    auto cache = llvm::cast<KvCacheType>(op.getCache().getType());
    out.cacheHeads = 2 * cache.getLayers() * cache.getKvHeads();
    out.headDim = cache.getHeadDim();
  });
  return out;
}

Expected<ModelSource> ModelSource::open(StringRef path) {
  if (quern::isModule(path))
    return openModule(path);
  ModelSource out;
  if (Error e = import::open(path).moveInto(out.model))
    return std::move(e);
  if (Expected<import::ModelConfig> config = import::readConfig(out.model)) {
    out.expertsUsed = config->expertsUsed;
    out.cacheHeads = 2 * config->layers * config->kvHeads;
    out.headDim = config->headDim;
  } else {
    llvm::consumeError(config.takeError()); // who needs more of it says so
  }
  return out;
}

Error ModelSource::addTo(Key &key, bool names) const {
  for (const std::vector<import::TensorInfo> *list : {&model.tensors, &model.stacks})
    for (const import::TensorInfo &tensor : *list) {
      // What a file's stacks are made of are tensors of it.
      if (list == &model.stacks && !isModule)
        continue;
      Expected<import::TensorBytes> bytes = import::mapTensor(model, tensor);
      if (!bytes)
        return bytes.takeError();
      if (names)
        key.add(StringRef(tensor.name));
      key.add(bytes->bytes());
    }
  if (!isModule)
    return Error::success();
  auto text = llvm::MemoryBuffer::getFile(model.path, /*IsText=*/false,
                                          /*RequiresNullTerminator=*/false);
  if (!text)
    return createStringError("cannot read '" + model.path + "': " + text.getError().message());
  key.add((*text)->getBuffer());
  return Error::success();
}
