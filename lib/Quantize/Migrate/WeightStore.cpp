//===- WeightStore.cpp - Weights that transforms rewrite ------------------===//
//
// See WeightStore.h.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Migrate/WeightStore.h"
#include "mlir/IR/Builders.h"
#include "quern/Format/Matrix.h"
#include "quern/Reference/Weights.h"
#include "quern/Support/OutputFile.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include <cmath>

using namespace mlir;
using namespace quern;
using namespace quern::migrate;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

Error quern::migrate::checkDataFolder(StringRef folder, StringRef what) {
  if (llvm::sys::fs::is_directory(folder))
    return Error::success();
  return createStringError("the folder for " + what + " (data=FOLDER) does not exist: '" + folder +
                           "'");
}

static format::Spec f32() {
  return format::Spec::plain(format::Number::floating(format::FloatKind::F32));
}

/// How format::packMatrix lays it out.
static LayoutKind layoutOf(const format::Spec &spec, int64_t columns) {
  return format::blockType(spec, columns) ? LayoutKind::GGUF : LayoutKind::Canonical;
}

Expected<std::vector<float>> WeightStore::load(WeightOp weight) {
  return reference::decodeWeight(weight);
}

/// Writes the values and makes the weight name them.
Error WeightStore::write(WeightOp weight, ArrayRef<float> values) {
  for (auto [i, value] : llvm::enumerate(values))
    if (!std::isfinite(value))
      return createStringError("weight '" + weight.getSymName() + "': value " + Twine(i) +
                               " is not finite once transformed");
  return write(
      weight,
      ArrayRef(reinterpret_cast<const uint8_t *>(values.data()), values.size() * sizeof(float)),
      ".f32", LayoutKind::Canonical);
}

/// The same for bytes; `kind` tells files and symbols of one weight apart.
Error WeightStore::write(WeightOp weight, ArrayRef<uint8_t> data, StringRef kind,
                         LayoutKind layout) {
  std::string name = weight.getSymName().str();
  for (char &c : name)
    if (!llvm::isAlnum(c) && c != '_' && c != '.' && c != '-')
      c = '_';
  llvm::SmallString<128> path(folder);
  llvm::sys::path::append(path, name + kind);
  Expected<OutputFile> file = OutputFile::create(path, /*force=*/true);
  if (!file)
    return file.takeError();
  file->stream().write(reinterpret_cast<const char *>(data.data()), data.size());
  if (Error e = file->keep())
    return e;
  this->name(weight, kind, path, data.size(), data.size(), layout);
  return Error::success();
}

/// Makes the weight name the first `bytes` bytes of a file.
void WeightStore::name(WeightOp weight, StringRef kind, StringRef path, uint64_t bytes,
                       uint64_t fileBytes, LayoutKind layout) {
  std::string symbol = (weight.getSymName() + kind).str();
  OpBuilder builder(module.getContext());
  auto existing = symbols.lookup<FileOp>(symbol);
  if (existing && (existing.getPath() != path || existing.getSize() != fileBytes)) {
    existing.setPath(path);
    existing.setSize(fileBytes);
  }
  if (!existing) {
    builder.setInsertionPoint(weight);
    symbols.insert(FileOp::create(builder, weight.getLoc(), symbol, path, fileBytes, StringAttr()));
  }
  Attribute part =
      ComponentAttr::get(module.getContext(), ComponentRole::Data,
                         FlatSymbolRefAttr::get(module.getContext(), symbol), 0, bytes, 0);
  weight.setComponentsAttr(builder.getArrayAttr(part));
  weight.setLayoutAttr(LayoutAttr::get(module.getContext(), layout, 0));
  weight->removeAttr(QuernDialect::kEncodedFromAttr); // it was to be another weight's values
}

/// The weight, its views and what reads them.
void WeightStore::retype(WeightOp weight, const format::Spec &spec, ActivationFormat activations) {
  auto retypeOne = [&](WeightOp op) {
    RankedTensorType type = getStoredType(op.getContext(), op.getTensorType().getShape(), spec);
    if (op.getTensorType() == type)
      return;
    op.setType(type);
    module.walk([&](UseOp use) {
      if (use.getWeight() != op.getSymName())
        return;
      use.getResult().setType(type);
      for (OpOperand &operand : use.getResult().getUses())
        if (auto product = dyn_cast<WeightedOpInterface>(operand.getOwner());
            product && &product.getWeightOperand() == &operand) {
          auto linear = dyn_cast<LinearOp>(operand.getOwner());
          if (activations == ActivationFormat::F32 || !linear || !linear.getStaticScale())
            product.setActivations(activations);
        }
    });
  };
  retypeOne(weight);
  for (auto view : module.getOps<WeightOp>())
    if (view.isView() && *view.getSource() == weight.getSymName())
      retypeOne(view);
}

Error WeightStore::store(WeightOp weight, ArrayRef<float> values) {
  if (int64_t(values.size()) != weight.getTensorType().getNumElements())
    return createStringError("weight '" + weight.getSymName() + "': expected " +
                             Twine(weight.getTensorType().getNumElements()) + " values, found " +
                             Twine(values.size()));
  if (Error e = write(weight, values))
    return e;
  retype(weight, f32(), ActivationFormat::F32);
  return Error::success();
}

Error WeightStore::store(WeightOp weight, const format::Spec &spec, ArrayRef<uint8_t> bytes,
                         ActivationFormat activations) {
  if (Error e =
          write(weight, bytes, ".coded", layoutOf(spec, weight.getTensorType().getShape().back())))
    return e;
  retype(weight, spec, spec.isPlain() ? ActivationFormat::F32 : activations);
  return Error::success();
}

void WeightStore::place(WeightOp weight, const format::Spec &spec, StringRef file, uint64_t bytes,
                        uint64_t fileBytes, ActivationFormat activations) {
  name(weight, ".coded", file, bytes, fileBytes,
       layoutOf(spec, weight.getTensorType().getShape().back()));
  retype(weight, spec, spec.isPlain() ? ActivationFormat::F32 : activations);
}

Expected<WeightOp> WeightStore::create(StringRef name, ArrayRef<float> values) {
  if (symbols.lookup(name))
    return createStringError("the model has a tensor named '" + name + "' already");
  OpBuilder builder(module.getContext());
  builder.setInsertionPointToStart(module.getBody());
  auto type = getStoredType(module.getContext(), {int64_t(values.size())}, f32());
  auto weight = WeightOp::create(builder, NameLoc::get(builder.getStringAttr(name)), name, type,
                                 LayoutAttr(), ArrayAttr(), FlatSymbolRefAttr(), IntegerAttr());
  symbols.insert(weight);
  if (Error e = write(weight, values))
    return std::move(e);
  return weight;
}
