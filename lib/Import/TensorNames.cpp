//===- TensorNames.cpp - One name for a tensor in any container -----------===//
//
// The table between Hugging Face names and the canonical (GGUF) ones, the stacks
// made of per-expert tensors, and the index behind ModelFile::find.
//
//===----------------------------------------------------------------------===//
#include "Common.h"
#include "quern/Import/ModelFile.h"
#include <map>

using namespace llvm;

namespace quern::import {
namespace {

struct Name {
  StringRef huggingFace, canonical;
};

// Outside of layers, complete names.
constexpr Name modelNames[] = {
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
};

// Inside of layer N, without `model.layers.N.` / `blk.N.` and without `.weight` / `.bias`.
constexpr Name layerNames[] = {
    {"input_layernorm", "attn_norm"},    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},      {"self_attn.v_proj", "attn_v"},
    {"self_attn.qkv_proj", "attn_qkv"},  {"self_attn.o_proj", "attn_output"},
    {"self_attn.q_norm", "attn_q_norm"}, {"self_attn.k_norm", "attn_k_norm"},
    {"mlp.gate_proj", "ffn_gate"},       {"mlp.up_proj", "ffn_up"},
    {"mlp.gate_up_proj", "ffn_up"}, // phi3: gate and up fused, as GGUF names it too
    {"mlp.down_proj", "ffn_down"},       {"mlp.gate", "ffn_gate_inp"},
};

// Where sandwich norms (gemma) give the same words another place.
constexpr Name plainNorms[] = {{"post_attention_layernorm", "ffn_norm"}};
constexpr Name sandwichNorms[] = {
    {"post_attention_layernorm", "post_attention_norm"},
    {"pre_feedforward_layernorm", "ffn_norm"},
    {"post_feedforward_layernorm", "post_ffw_norm"},
};

// One expert's matrices, and the stack of all experts'.
constexpr Name expertNames[] = {
    {"gate_proj", "ffn_gate_exps"}, {"up_proj", "ffn_up_exps"}, {"down_proj", "ffn_down_exps"}};

ArrayRef<Name> normNames(StringRef architecture) {
  if (architecture.starts_with("gemma"))
    return sandwichNorms;
  return plainNorms;
}

constexpr int64_t maxExperts = 65536; // bounds what a shape alone can make us allocate

/// Splits `<prefix>N.rest` with N in canonical decimal.
bool splitLayer(StringRef name, StringRef prefix, StringRef &layer, StringRef &rest) {
  if (!name.consume_front(prefix))
    return false;
  std::tie(layer, rest) = name.split('.');
  return !layer.empty() && layer.size() <= 6 &&
         layer.find_first_not_of("0123456789") == StringRef::npos &&
         (layer.size() == 1 || layer[0] != '0') && !rest.empty();
}

/// The names of multimodal checkpoints, whose language model lies one level deeper.
StringRef languageModel(StringRef name, std::string &storage) {
  for (StringRef prefix : {"model.language_model.", "language_model.model.", "language_model."}) {
    if (name.starts_with(prefix)) {
      StringRef rest = name.substr(prefix.size());
      storage = (prefix == "language_model." ? "" : "model.") + rest.str();
      return storage;
    }
  }
  return name;
}

/// `mlp.experts.E.gate_proj.weight` of layer N, as in per-expert checkpoints.
bool splitExpert(StringRef name, StringRef &layer, unsigned &expert, StringRef &canonical) {
  StringRef rest, number, part;
  std::string storage;
  if (!splitLayer(languageModel(name, storage), "model.layers.", layer, rest) ||
      !splitLayer(rest, "mlp.experts.", number, part) || !part.consume_back(".weight") ||
      number.getAsInteger(10, expert))
    return false;
  layer = name.substr(name.find(".layers.") + 8).split('.').first; // outlives `storage`
  for (const Name &entry : expertNames)
    if (entry.huggingFace == part) {
      canonical = entry.canonical;
      return true;
    }
  return false;
}

} // namespace

std::string canonicalName(StringRef name, StringRef architecture) {
  std::string storage;
  StringRef plain = languageModel(name, storage);
  for (const Name &entry : modelNames)
    if (entry.huggingFace == plain)
      return entry.canonical.str();
  StringRef layer, rest;
  if (!splitLayer(plain, "model.layers.", layer, rest))
    return name.str();
  for (StringRef suffix : {".weight", ".bias"}) {
    StringRef stem = rest;
    if (!stem.consume_back(suffix))
      continue;
    for (ArrayRef<Name> table : {ArrayRef<Name>(layerNames), normNames(architecture)})
      for (const Name &entry : table)
        if (entry.huggingFace == stem)
          return ("blk." + layer + "." + entry.canonical + suffix).str();
  }
  return name.str();
}

std::string huggingFaceName(StringRef canonical, StringRef architecture) {
  for (const Name &entry : modelNames)
    if (entry.canonical == canonical)
      return entry.huggingFace.str();
  StringRef layer, rest;
  if (!splitLayer(canonical, "blk.", layer, rest))
    return "";
  for (StringRef suffix : {".weight", ".bias"}) {
    StringRef stem = rest;
    if (!stem.consume_back(suffix))
      continue;
    if (stem == "ffn_up" && architecture == "phi3")
      return ("model.layers." + layer + ".mlp.gate_up_proj" + suffix).str();
    for (ArrayRef<Name> table : {ArrayRef<Name>(layerNames), normNames(architecture)})
      for (const Name &entry : table)
        if (entry.canonical == stem)
          return ("model.layers." + layer + "." + entry.huggingFace + suffix).str();
  }
  return "";
}

int64_t TensorInfo::elements() const {
  int64_t n = 1;
  for (int64_t extent : shape)
    n *= extent; // checked against overflow when the file was opened
  return n;
}

std::vector<Segment> TensorInfo::segments() const {
  if (!pieces.empty())
    return pieces;
  return {Segment{file, offset, size}};
}

const TensorInfo *ModelFile::find(StringRef name) const {
  auto found = index.find(name);
  if (found == index.end())
    return nullptr;
  auto [stacked, position] = found->second;
  return stacked ? &stacks[position] : &tensors[position];
}

namespace {
/// The experts of one matrix of one layer, by number.
struct Experts {
  std::map<unsigned, const TensorInfo *> parts;
};
} // namespace

static Expected<TensorInfo> stackExperts(StringRef path, StringRef canonical,
                                         const Experts &experts) {
  const TensorInfo &first = *experts.parts.begin()->second;
  TensorInfo stack = first;
  stack.name = stack.canonical = canonical.str();
  stack.shape.insert(stack.shape.begin(), int64_t(experts.parts.size()));
  stack.size = 0;
  if (first.size == 0)
    return fileError(path, "tensor '" + first.name + "' is empty");
  unsigned expected = 0;
  for (auto [number, part] : experts.parts) {
    if (number != expected)
      return fileError(path, canonical + ": expert " + Twine(expected) + " is missing");
    ++expected;
    if (part->shape != first.shape || part->fileType != first.fileType)
      return fileError(path, "tensor '" + part->name + "' differs in shape or type from '" +
                                 first.name + "', with which it forms a stack of experts");
    stack.pieces.push_back({part->file, part->offset, part->size});
    stack.size += part->size; // the parts lie in files, so their sum cannot overflow
  }
  return stack;
}

/// transformers 5 may keep a layer's experts fused: [E, 2F, H], gate before up in each expert.
static void splitFused(const TensorInfo &fused, StringRef layer, std::vector<TensorInfo> &stacks) {
  for (unsigned half : {0, 1}) {
    TensorInfo stack = fused;
    stack.canonical =
        ("blk." + layer + (half ? ".ffn_up_exps" : ".ffn_gate_exps") + ".weight").str();
    stack.name = stack.canonical;
    stack.shape[1] /= 2;
    stack.size /= 2;
    uint64_t bytes = stack.size / stack.shape[0];
    for (int64_t e = 0; e < stack.shape[0]; ++e)
      stack.pieces.push_back({fused.file, fused.offset + (2 * e + half) * bytes, bytes});
    stacks.push_back(std::move(stack));
  }
}

Error ModelFile::indexTensors(StringRef architecture) {
  index.clear();
  stacks.clear();
  std::map<std::string, Experts> experts;
  for (TensorInfo &tensor : tensors) {
    tensor.canonical =
        container == Container::GGUF ? tensor.name : canonicalName(tensor.name, architecture);
    if (container == Container::GGUF)
      continue;
    StringRef layer, part, rest;
    unsigned expert;
    std::string storage;
    if (splitExpert(tensor.name, layer, expert, part))
      experts[("blk." + layer + "." + part + ".weight").str()].parts[expert] = &tensor;
    else if (splitLayer(languageModel(tensor.name, storage), "model.layers.", layer, rest)) {
      if (rest == "mlp.experts.down_proj")
        tensor.canonical = ("blk." + layer + ".ffn_down_exps.weight").str();
      else if (rest == "mlp.experts.gate_up_proj" && tensor.shape.size() == 3 && tensor.size > 0 &&
               tensor.shape[0] <= maxExperts && tensor.shape[1] % 2 == 0)
        splitFused(tensor, layer, stacks);
    }
  }
  for (auto &[canonical, parts] : experts) {
    Expected<TensorInfo> stack = stackExperts(path, canonical, parts);
    if (!stack)
      return stack.takeError();
    stacks.push_back(std::move(*stack));
  }
  // Canonical names first: they are what consumers ask for.
  auto add = [&](StringRef name, bool stacked, unsigned position) -> Error {
    auto [entry, fresh] = index.try_emplace(name, stacked, position);
    if (fresh || entry->second == std::pair(stacked, position))
      return Error::success();
    const TensorInfo &old =
        entry->second.first ? stacks[entry->second.second] : tensors[entry->second.second];
    return fileError(path, "tensors '" + old.name + "' and '" +
                               (stacked ? stacks : tensors)[position].name + "' both stand for '" +
                               name + "'");
  };
  for (auto [position, stack] : enumerate(stacks))
    if (Error e = add(stack.canonical, true, position))
      return e;
  for (auto [position, tensor] : enumerate(tensors))
    if (Error e = add(tensor.canonical, false, position))
      return e;
  for (auto [position, tensor] : enumerate(tensors))
    index.try_emplace(tensor.name, false, position);
  return Error::success();
}

} // namespace quern::import
