//===- DecoderWeights.cpp - Tensors of the file become weights ------------===//
//
// Each stored tensor becomes one quern.weight, on its first use. Shapes are checked
// against what the architecture expects; nothing of the file is left unexplained.
//
//===----------------------------------------------------------------------===//
#include "DecoderBuilder.h"
#include "quern/Format/FileType.h"

using namespace mlir;
using namespace quern;
using namespace quern::architectures;

static std::string shapeText(ArrayRef<int64_t> shape) {
  std::string text = "[";
  for (auto [i, size] : llvm::enumerate(shape))
    text += (i ? ", " : "") + std::to_string(size);
  return text + "]";
}

static std::string fileSymbol(unsigned index) { return "file" + std::to_string(index); }

void DecoderBuilder::fail(const Twine &message) {
  constexpr size_t enough = 20; // one missing hyper-parameter can misshape every tensor
  if (errors.size() < enough)
    errors.push_back((Twine(model.path) + ": " + message).str());
}

std::string DecoderBuilder::inLayer(StringRef name) const {
  return ("blk." + Twine(layer) + "." + name).str();
}

Location DecoderBuilder::at(const Twine &name) const {
  return NameLoc::get(StringAttr::get(builder.getContext(), name));
}

void DecoderBuilder::addHyperParameters() {
  SmallVector<NamedAttribute> entries;
  auto text = [&](StringRef key, StringRef value) {
    entries.push_back(builder.getNamedAttr(key, builder.getStringAttr(value)));
  };
  auto number = [&](StringRef key, int64_t value) {
    if (value)
      entries.push_back(builder.getNamedAttr(key, builder.getI64IntegerAttr(value)));
  };
  text("architecture", config.architecture);
  if (!config.name.empty())
    text("name", config.name);
  number("layers", config.layers);
  number("width", config.width);
  number("heads", config.heads);
  number("kv_heads", config.kvHeads);
  number("head_dim", config.headDim);
  number("feed_forward", config.feedForward);
  number("vocab", config.vocab);
  number("context", options.context);
  number("experts", config.experts);
  number("experts_used", config.expertsUsed);
  number("expert_feed_forward", config.expertFeedForward);
  (*module)->setAttr(QuernDialect::kModelAttr, builder.getDictionaryAttr(entries));
}

void DecoderBuilder::declareFiles() {
  for (auto [i, file] : llvm::enumerate(model.files))
    FileOp::create(globals, at(fileSymbol(i)), fileSymbol(i), file.path, file.size, StringAttr());
}

const import::TensorInfo *DecoderBuilder::find(StringRef fullName, ArrayRef<int64_t> shape) {
  const import::TensorInfo *info = model.find(fullName);
  if (!info) {
    fail("tensor '" + fullName + "' is missing: " + config.architecture + " needs it, of shape " +
         shapeText(shape));
    return nullptr;
  }
  if (ArrayRef<int64_t>(info->shape) != shape) {
    fail("tensor '" + info->name + "' has shape " + shapeText(info->shape) + ", expected " +
         shapeText(shape));
    return nullptr;
  }
  if (!info->decodable) {
    fail("tensor '" + info->name + "' is of type " + info->fileType + ", which holds no weights");
    return nullptr;
  }
  return info;
}

WeightOp DecoderBuilder::declare(const import::TensorInfo &info, StringRef fullName) {
  SmallVector<Attribute> components;
  for (const import::Segment &segment : info.segments()) {
    used.insert({segment.file, segment.offset});
    components.push_back(
        ComponentAttr::get(builder.getContext(), ComponentRole::Data,
                           FlatSymbolRefAttr::get(builder.getContext(), fileSymbol(segment.file)),
                           segment.offset, segment.size, /*level=*/0));
  }
  // Plain numbers lie the same in either; what quantization made of a tensor goes by its type.
  bool blocks = format::ggufType(info.fileType) &&
                (model.container == import::Container::GGUF || !info.spec.isPlain());
  return WeightOp::create(
      globals, at(fullName), fullName, getStoredType(builder.getContext(), info.shape, info.spec),
      LayoutAttr::get(builder.getContext(), blocks ? LayoutKind::GGUF : LayoutKind::Canonical, 0),
      builder.getArrayAttr(components), FlatSymbolRefAttr(), IntegerAttr());
}

WeightOp DecoderBuilder::declareView(WeightOp base, StringRef fullName, int64_t begin,
                                     int64_t rows) {
  WeightOp &view = weights[fullName];
  if (view)
    return view;
  SmallVector<int64_t> shape(base.getTensorType().getShape());
  shape[0] = rows;
  view = WeightOp::create(
      globals, at(fullName), fullName,
      RankedTensorType::get(shape, builder.getF32Type(), base.getTensorType().getEncoding()),
      LayoutAttr(), ArrayAttr(), FlatSymbolRefAttr::get(base.getSymNameAttr()),
      builder.getI64IntegerAttr(begin));
  return view;
}

Value DecoderBuilder::use(WeightOp weight) {
  Value &value = values[weight.getSymName()];
  if (!value)
    value = UseOp::create(builder, at(weight.getSymName()), weight.getTensorType(),
                          weight.getSymName());
  return value;
}

Value DecoderBuilder::weight(StringRef fullName, ArrayRef<int64_t> shape) {
  WeightOp &op = weights[fullName];
  if (!op) {
    if (const import::TensorInfo *info = find(fullName, shape)) {
      op = declare(*info, fullName);
    } else {
      // Stands in so that building goes on and finds every other error too.
      op = WeightOp::create(globals, at(fullName), fullName,
                            RankedTensorType::get(shape, builder.getF32Type()), LayoutAttr(),
                            ArrayAttr(), FlatSymbolRefAttr(), IntegerAttr());
    }
  }
  return use(op);
}

void DecoderBuilder::checkAllUsed() {
  // Rope tables are in the configuration already; the other prefixes belong to the
  // parts of multimodal models that see or hear.
  constexpr StringLiteral read[] = {"rope_freqs.weight", "rope_factors_long.weight",
                                    "rope_factors_short.weight"};
  constexpr StringLiteral prefixes[] = {"vision_tower.",
                                        "multi_modal_projector.",
                                        "model.vision_tower.",
                                        "model.multi_modal_projector.",
                                        "v.",
                                        "mm."};
  for (const import::TensorInfo &info : model.tensors) {
    StringRef name = info.name;
    bool known = used.contains({info.file, info.offset}) || llvm::is_contained(read, name) ||
                 name.ends_with(".rotary_emb.inv_freq") ||
                 llvm::any_of(prefixes, [&](StringRef prefix) { return name.starts_with(prefix); });
    // A tied model may still carry its output matrix.
    known |= config.tiedEmbedding && info.canonical == "output.weight";
    if (!known)
      fail("tensor '" + name + "' " + shapeText(info.shape) + " has no place in " +
           config.architecture);
  }
}
