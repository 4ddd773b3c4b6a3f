//===- Plan.cpp - Which tensors a conversion writes, and as what ----------===//
//
// Names, types and reorderings; the metadata is in Metadata*.cpp.
//
//===----------------------------------------------------------------------===//
#include "Plan.h"
#include "quern/Format/Encode.h"
#include "quern/Import/TensorTypes.h"
#include "llvm/ADT/StringSet.h"

using namespace llvm;
using namespace quern::import;

namespace quern::exporter {
namespace {

StoredType ofGguf(const format::FileType &type) {
  return {type.name.str(), type.spec, &type, type.blockElements, type.blockBytes};
}

StoredType ofArray(const ArrayType &type) {
  return {type.name.str(), *specOf(type), nullptr, 1, type.bytes};
}

bool isFloat(const format::Spec &spec) {
  return spec.kind == format::Spec::Kind::Base && spec.scale.empty() && spec.offset.empty() &&
         spec.zero.empty() && spec.code.kind == format::Code::Kind::Number &&
         spec.code.number.isFloat();
}

} // namespace

Expected<StoredType> storedType(StringRef name, Container container) {
  std::string known;
  auto matches = [&](StringRef own) {
    known += (known.empty() ? "" : ", ") + own.str();
    return own.equals_insensitive(name);
  };
  if (container == Container::GGUF) {
    for (const format::FileType &type : format::ggufTypes())
      if (matches(type.name))
        return ofGguf(type);
  } else {
    for (const ArrayType &type : arrayTypes())
      if (std::optional<format::Spec> spec = specOf(type); spec && isFloat(*spec))
        if (matches(type.name) || name.equals_insensitive(type.spelling))
          return ofArray(type);
  }
  return createStringError((container == Container::GGUF ? "GGUF" : "safetensors") +
                           Twine(" has no type '") + name + "'; it has " + known);
}

Expected<StoredType> chooseType(const ModelFile &model, const TensorInfo &source,
                                Container container, bool vector, const ConvertOptions &options) {
  bool crosses = model.container != container;
  StringRef wanted = !options.format.empty() ? options.format : options.dequantize;
  // llama.cpp and its kin read vectors as F32 only; a checkpoint may hold them in its own type.
  if (container == Container::GGUF && vector && (crosses || !wanted.empty()))
    wanted = "F32";
  if (!wanted.empty()) {
    Expected<StoredType> type = storedType(wanted, container);
    if (!type)
      return type;
    if (Error e = format::checkEncodable(type->spec))
      return std::move(e);
    int64_t cols = source.shape.empty() ? 1 : source.shape.back();
    if (cols % type->blockElements == 0)
      return type;
    StringRef fallback = cols % 32 == 0 && type->blockElements > 32 ? "Q8_0" : "F16";
    if (options.note)
      options.note("tensor '" + source.name + "' has rows of " + std::to_string(cols) +
                   " elements, which " + type->name + " cannot hold; it becomes " + fallback.str());
    return storedType(fallback, container);
  }
  if (container == Container::GGUF) {
    if (const format::FileType *type = format::ggufType(source.fileType))
      return ofGguf(*type);
  } else if (const ArrayType *type = source.decodable ? arrayType(source.spec) : nullptr) {
    return ofArray(*type);
  } else if (const ArrayType *type = crosses ? nullptr : arrayType(source.fileType)) {
    return StoredType{type->name.str(), source.spec, nullptr, 1, type->bytes};
  }
  return createStringError(model.path + ": tensor '" + source.name + "' is " + source.fileType +
                           ", which " + (container == Container::GGUF ? "GGUF" : "safetensors") +
                           " cannot hold; give --dequantize f32|bf16 or --format");
}

namespace {

/// The rotary heads of a q or k projection that the two containers order differently; 0 for the
/// rest.
int64_t reorderedHeads(const ModelConfig &config, StringRef canonical) {
  if (config.architecture != "llama" || !canonical.starts_with("blk."))
    return 0;
  StringRef name = canonical.split('.').second.split('.').second;
  if (name == "attn_q.weight" || name == "attn_q.bias")
    return config.heads;
  if (name == "attn_k.weight" || name == "attn_k.bias")
    return config.kvHeads;
  return 0;
}

bool isNorm(StringRef canonical) { return canonical.ends_with("norm.weight"); }
bool isRouter(StringRef canonical) { return canonical.ends_with(".ffn_gate_inp.weight"); }

Error add(Plan &plan, OutTensor tensor) {
  if (Error e = finish(tensor))
    return e;
  plan.tensors.push_back(std::move(tensor));
  return Error::success();
}

/// What a checkpoint may hold beside weights.
bool isIgnored(StringRef name) {
  return name.ends_with("rotary_emb.inv_freq") || name.starts_with("vision_tower.") ||
         name.starts_with("multi_modal_projector.") || name.starts_with("model.vision_tower.") ||
         name.starts_with("model.multi_modal_projector.");
}

Error copyTensors(const ModelFile &model, Container container, const ConvertOptions &options,
                  Plan &plan) {
  for (const TensorInfo &source : model.tensors) {
    OutTensor out;
    out.name = source.name;
    out.shape = source.shape;
    out.source = &source;
    Expected<StoredType> type =
        chooseType(model, source, container, source.shape.size() < 2, options);
    if (!type)
      return type.takeError();
    out.type = std::move(*type);
    if (Error e = add(plan, std::move(out)))
      return e;
  }
  return Error::success();
}

/// What safetensors may hold and GGUF's readers refuse.
Error checkShapes(const ModelFile &model, const Plan &plan) {
  for (const OutTensor &tensor : plan.tensors)
    if (tensor.shape.empty() || tensor.shape.size() > 4 || is_contained(tensor.shape, 0) ||
        tensor.name.size() > 255)
      return createStringError(model.path + ": tensor '" + tensor.name + "' has " +
                               Twine(tensor.shape.size()) + " dimensions" +
                               (is_contained(tensor.shape, 0) ? ", one of them 0" : "") +
                               "; GGUF holds 1 to 4, and names of at most 255 bytes");
  return Error::success();
}

} // namespace

Expected<Plan> planGGUF(const ModelFile &model, const ConvertOptions &options) {
  Plan plan;
  auto addFileType = [&] {
    if (options.fileType)
      plan.keys.push_back({"general.file_type", MetadataType::UInt32, MetadataType::String,
                           llvm::json::Value(int64_t(*options.fileType))});
  };
  if (model.container == Container::GGUF) {
    for (const MetadataKey &key : model.metadataKeys) {
      if (StringRef(key.key).starts_with("split.") || key.key == "general.alignment")
        continue; // one file, with the default alignment
      // The file's overall type is a summary that no longer holds.
      if (key.key == "general.file_type" &&
          (options.fileType || !options.format.empty() || !options.dequantize.empty()))
        continue;
      plan.keys.push_back({key.key, key.type, key.element, *model.metadata.get(key.key)});
    }
    addFileType();
    if (Error e = copyTensors(model, Container::GGUF, options, plan))
      return std::move(e);
    return plan;
  }
  Expected<ModelConfig> config = readConfig(model);
  if (!config)
    return config.takeError();
  if (Error e = addGGUFMetadata(model, *config, plan))
    return std::move(e);
  addFileType();
  if (Error e = addGGUFTokenizer(model, plan))
    return std::move(e);
  auto addTensor = [&](const TensorInfo &source) -> Error {
    StringRef canonical = source.canonical;
    OutTensor out;
    out.name = canonical.str();
    out.shape = source.shape;
    out.source = &source;
    Expected<StoredType> type = chooseType(model, source, Container::GGUF,
                                           source.shape.size() < 2 || isRouter(canonical), options);
    if (!type)
      return type.takeError();
    out.type = std::move(*type);
    out.heads = reorderedHeads(*config, canonical);
    out.toInterleaved = true;
    out.addend = config->normUnitOffset && isNorm(canonical) ? 1 : 0;
    return add(plan, std::move(out));
  };
  StringSet<> stacked; // parts of stacks, by the file ranges they occupy
  for (const TensorInfo &stack : model.stacks)
    for (const Segment &piece : stack.pieces)
      stacked.insert(std::to_string(piece.file) + ":" + std::to_string(piece.offset));
  for (const TensorInfo &source : model.tensors) {
    if (isIgnored(source.name) ||
        stacked.contains(std::to_string(source.file) + ":" + std::to_string(source.offset)))
      continue;
    if (source.canonical == "output.weight" && config->tiedEmbedding)
      continue; // a copy of the embedding
    if (source.canonical == source.name)
      return createStringError(model.path + ": tensor '" + source.name +
                               "' has no place in a GGUF file of architecture '" +
                               config->architecture + "'");
    if (Error e = addTensor(source))
      return std::move(e);
  }
  for (const TensorInfo &stack : model.stacks)
    if (Error e = addTensor(stack))
      return std::move(e);
  if (Error e = checkShapes(model, plan))
    return std::move(e);
  return plan;
}

Expected<Plan> planHuggingFace(const ModelFile &model, const ConvertOptions &options, bool bare) {
  Plan plan;
  if (model.container == Container::HuggingFace) {
    if (Error e = copyTensors(model, Container::HuggingFace, options, plan))
      return std::move(e);
    if (!bare)
      if (Error e = addTokenizerDocuments(model, plan))
        return std::move(e);
    return plan;
  }
  Expected<ModelConfig> config = readConfig(model);
  if (!config)
    return config.takeError();
  StringRef architecture = config->architecture;
  std::string dtype = "F32";
  for (const TensorInfo &source : model.tensors) {
    StringRef canonical = source.canonical;
    if (canonical.starts_with("rope_f"))
      continue; // part of config.json
    Expected<StoredType> type =
        chooseType(model, source, Container::HuggingFace, source.shape.size() < 2, options);
    if (!type)
      return type.takeError();
    if (source.shape.size() > 1)
      dtype = type->name;
    OutTensor out;
    out.source = &source;
    out.type = std::move(*type);
    out.heads = reorderedHeads(*config, canonical);
    out.addend = architecture == "gemma3" && isNorm(canonical) ? -1 : 0;
    StringRef stem = canonical;
    if (source.shape.size() == 3 && stem.consume_back("_exps.weight")) {
      // blk.N.ffn_up_exps -> model.layers.N.mlp.experts.E.up_proj
      auto [block, part] = stem.rsplit('.');
      std::string layer = block.split('.').second.str();
      out.shape.assign(source.shape.begin() + 1, source.shape.end());
      for (out.expert = 0; out.expert < source.shape[0]; ++out.expert) {
        out.name = "model.layers." + layer + ".mlp.experts." + std::to_string(out.expert) + "." +
                   part.drop_front(4).str() + "_proj.weight";
        if (Error e = add(plan, out))
          return std::move(e);
      }
      continue;
    }
    out.shape = source.shape;
    out.name = huggingFaceName(canonical, architecture);
    if (out.name.empty())
      return createStringError(model.path + ": tensor '" + source.name +
                               "' has no place in a Hugging Face model of architecture '" +
                               architecture + "'");
    if (Error e = add(plan, std::move(out)))
      return std::move(e);
  }
  if (bare)
    return plan;
  if (Error e = addConfigDocuments(model, *config, dtype, plan))
    return std::move(e);
  if (Error e = addTokenizerDocuments(model, plan))
    return std::move(e);
  return plan;
}

} // namespace quern::exporter
